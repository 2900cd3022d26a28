package compose

// Places returns how many places are kept.
func (h *Health) Places() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.places)
}
