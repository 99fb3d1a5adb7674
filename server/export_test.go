package server

import "edeploy/server/internal/store"

// NewSteps is New with a function that is called before every change of the
// documents' file system; its error stops the work there for ever, as a power
// cut would.
func NewSteps(config Config, step func(string) error) (*Server, error) {
	return newServer(config, func(journal string, collections map[string]string) (*store.Dir, store.Recovery, error) {
		return store.OpenDirSteps(journal, collections, step)
	})
}

// Waiting is the number of decisions that wait for their turn.
func (s *Server) Waiting() int {
	s.queue.mu.Lock()
	defer s.queue.mu.Unlock()
	return len(s.queue.waiting)
}
