package verify

import "context"

// limitLookUps refuses a client that has requested too many look-ups of accounts. Otherwise a
// client whose SMS are used up could still learn which numbers have an account, because the
// refusals differ. It also bounds a client's sessions for a test number, which cost no SMS. A
// retry of an attempt that was sent is never refused.
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
