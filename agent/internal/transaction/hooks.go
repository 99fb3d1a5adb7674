package transaction

// hooks are what tests put between the package and the kernel.
type hooks struct {
	// step is called before every call that changes a disk; when it answers
	// an error the call does not take place. Several goroutines call it.
	step func(operation string) error

	noSync     bool // process death loses nothing that was written
	noExchange bool // as on file systems that cannot exchange two names
}
