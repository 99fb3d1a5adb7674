package catalog

import (
	"errors"

	"golang.org/x/sys/unix"
)

// isFull tells that an error comes from a file system without space.
func isFull(err error) bool {
	return errors.Is(err, ErrNoSpace) || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
}
