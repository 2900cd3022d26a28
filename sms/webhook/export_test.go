package webhook

// Sign is for checking the published test vector, whose body is no message.
func (s *Sender) Sign(id, timestamp string, body []byte) string { return s.sign(id, timestamp, body) }
