package compose

// Places returns the number of places that are kept.
func (h *Health) Places() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.places)
}
