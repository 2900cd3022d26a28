package webhook

// Sign lets the published test vector be checked, whose body is no message.
func (s *Sender) Sign(id, timestamp string, body []byte) string { return s.sign(id, timestamp, body) }
