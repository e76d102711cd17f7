package capture

// Ends returns how many ends an Assembler keeps.
func (a *Assembler) Ends() int { return len(a.ends) }
