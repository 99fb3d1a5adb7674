package fstree

// Options of Walk, Apply, Verify and NewWriter. The zero value works.
type Options struct {
	// Workers is how many goroutines work at once; 0 means GOMAXPROCS.
	Workers int

	// Exclude is asked for paths as they stand in a manifest ("etc/fstab");
	// when it answers true, the path and everything below it are left alone:
	// not described, not changed, not compared. Called from several
	// goroutines at once. Nil excludes nothing.
	Exclude func(path string) bool

	// Extras makes Verify also report what is on the disk but not in the
	// manifest. Of an extra directory only the directory itself is reported.
	Extras bool

	// Unread makes Verify compare everything but the content of files: sizes,
	// not hashes. For a tree whose content was hashed as it was written.
	Unread bool

	// SplitLinks accepts hard-link groups whose paths lie on several mounted
	// file systems: Apply and a Writer link what can be linked and keep copies
	// elsewhere, Verify does not report the split. Without it they
	// fail, because the tree cannot become equal to the manifest.
	SplitLinks bool

	// Progress is told how many bytes of file content are done, from one
	// goroutine at a time and at most every 100 ms; the last call is exact.
	Progress func(done, total int64)
}
