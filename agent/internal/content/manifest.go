package content

import (
	"context"

	"edeploy/images/manifest"
	"edeploy/server/wire"
)

// Manifest fetches the manifest of an image. It crosses the wire compressed
// when the server can do that.
func (s *Server) Manifest(ctx context.Context, image wire.ImageRef) (*manifest.Manifest, error) {
	u := s.at(image.Manifest())
	wait, heard := s.waiting(ctx)
	for {
		var lost error // what another attempt may repair
		f := s.file(u, -1)
		f.Wait = func(cause error) error { lost = cause; return cause }
		var m *manifest.Manifest
		err := f.Open(ctx)
		if err == nil {
			m, err = manifest.Read(&f)
			lost = f.WireErr() // else the text is to blame
		}
		f.Close()
		if err == nil {
			heard(0)
			return m, nil
		}
		if lost != nil && ctx.Err() == nil {
			err = wait(lost)
		}
		if err != nil {
			return nil, named(u, err)
		}
	}
}
