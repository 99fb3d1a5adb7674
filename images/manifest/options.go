package manifest

// Options of Walk, Apply, Verify and Extract. The zero value works.
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
	// file systems: Apply and Extract link what can be linked and keep copies
	// elsewhere, Verify does not report the split. Without it Apply and
	// Extract fail, because the tree cannot become equal to the manifest.
	SplitLinks bool

	// Progress is told how many bytes of file content are done, from one
	// goroutine at a time and at most every 100 ms; the last call is exact.
	// Total is -1 while it is not known.
	Progress func(done, total int64)

	// MaxBytes is how much file content Extract and FromTar accept at most;
	// 0 means 1 TiB.
	MaxBytes int64

	// MaxEntries is how many paths Extract and FromTar accept at most, with
	// those of directories that the archive only implies; 0 means the
	// constant MaxEntries.
	MaxEntries int
}
