package ladder

// Expire ends attempts that take too long.
func (l *Ladder) Expire() { l.expire() }

// Size is how many firmwares are remembered.
func (l *Ladder) Size() int { return len(l.known) + len(l.strangers) }

// Parse reads a file.
func Parse(text string) (map[Firmware]History, error) { return parse(text) }

// Text writes it.
func Text(all map[Firmware]History) string {
	l := &Ladder{known: map[Firmware]*entry{}}
	for f, h := range all {
		l.known[f] = &entry{History: h}
	}
	return string(l.text())
}
