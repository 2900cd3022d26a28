package gormstore

// MaxBatch is how many units share a transaction at most.
const MaxBatch = maxBatch

// Waiting returns how many callers wait for SQLite's writer.
func Waiting(s *Store) int {
	s.batches.mu.Lock()
	defer s.batches.mu.Unlock()
	return len(s.batches.waiting)
}
