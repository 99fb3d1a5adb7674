package source

// URL is where the file was found.
func (s *Stream) URL() string { return s.shown }

// Size is the file's size in bytes, -1 when the server does not say.
func (s *Stream) Size() int64 { return s.size }
