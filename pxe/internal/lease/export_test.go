package lease

// Sizes are how many machines the table remembers, with an address and with an
// offer.
func (t *Table) Sizes() (owned, offered int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.owned), len(t.offered)
}
