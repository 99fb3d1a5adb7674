package images

import "edeploy/server/wire"

// Complete are the images that machines can install.
func (s *Server) Complete() ([]wire.ImageRef, error) {
	all, err := s.catalog.List()
	if err != nil {
		return nil, err
	}
	refs := []wire.ImageRef{}
	for _, image := range all {
		if image.Complete {
			refs = append(refs, image.ImageRef)
		}
	}
	return refs, nil
}
