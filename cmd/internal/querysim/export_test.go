package querysim

// TokensKept returns how many tokens s keeps books on.
func (s *Simulator) TokensKept() int {
	s.tokens.mu.Lock()
	defer s.tokens.mu.Unlock()
	return max(len(s.tokens.live), len(s.tokens.verified))
}
