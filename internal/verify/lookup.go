package verify

import "context"

// limitLookUps refuses a client that has accounts looked up too often: otherwise one
// whose SMS are used up could still find out who has an account, by the different
// refusals. It also bounds the sessions that a client makes for a test number, which
// cost no SMS. A retry of an attempt that was seen is never refused.
func (s *Service) limitLookUps(ctx context.Context, d delivery) error {
	who := s.subject(d.number, d.Client) // d.who is empty for a test number
	if who.Client == "" || len(s.Limits.LookUps) == 0 {
		return nil
	}
	met := s.lookUps.Take(s.Limits.LookUps, who.Client, s.now())
	if met.Wait == 0 {
		return nil
	}
	st, err := s.loadState(ctx, d, false)
	if err != nil || st.attempt == sent {
		return err
	}
	return s.refused(ctx, met, who)
}
