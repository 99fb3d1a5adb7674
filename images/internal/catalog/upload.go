package catalog

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"edeploy/images/manifest"
	"edeploy/server/wire"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"
)

// Part is one of the two files of an image that are uploaded.
type Part string

// The parts.
const (
	PartArchive  Part = "archive"
	PartManifest Part = "manifest"
)

// spare is the space that must stay free beside an import.
const spare = 64 << 20

// Upload is the state of one part: Offset of Length bytes are here. SHA256
// (hex, of the whole part) tells a continued upload from another one.
type Upload struct {
	Offset int64  `json:"-"`
	Length int64  `json:"length"`
	SHA256 string `json:"sha256"`
}

// OffsetError says that an upload does not continue where the data ends.
type OffsetError struct{ Have, Got int64 }

func (e *OffsetError) Error() string {
	return fmt.Sprintf("upload continues at byte %d, but %d bytes are here", e.Got, e.Have)
}

// check refuses sizes and sums that cannot be.
func (u Upload) check(part Part) error {
	most := int64(1) << 40
	if part == PartManifest {
		most = manifest.MaxTextBytes
	}
	if u.Length < 1 || u.Length > most {
		return fmt.Errorf("%w: length %d: want 1 to %d bytes", ErrInvalid, u.Length, most)
	}
	if sum, err := hex.DecodeString(u.SHA256); err != nil || len(sum) != 32 || strings.ToLower(u.SHA256) != u.SHA256 {
		return fmt.Errorf("%w: sha256 %.80q: want 64 lower-case hexadecimal digits", ErrInvalid, u.SHA256)
	}
	if u.Offset < 0 || u.Offset > u.Length {
		return fmt.Errorf("%w: offset %d of %d bytes", ErrInvalid, u.Offset, u.Length)
	}
	return nil
}

func (c *Catalog) partFile(ref wire.ImageRef, part Part) string {
	// Neither name can hold a slash or start with a dot; the two are kept
	// apart by a character that neither can hold.
	return c.incoming(ref.Version + "=" + ref.Role + "." + string(part))
}

// Upload answers how far the upload of a part is; fs.ErrNotExist when there is none.
func (c *Catalog) Upload(ref wire.ImageRef, part Part) (Upload, error) {
	var u Upload
	text, err := os.ReadFile(c.partFile(ref, part) + ".json")
	if err != nil {
		return u, err
	}
	if err := json.Unmarshal(text, &u); err != nil {
		return u, fmt.Errorf("upload state of %s: %w", ref, err)
	}
	info, err := os.Stat(c.partFile(ref, part))
	if err == nil {
		u.Offset = info.Size()
	} else if !errors.Is(err, fs.ErrNotExist) {
		return u, err
	}
	return u, nil
}

// Receive appends body to a part and answers the new state. u.Offset must be
// where the data ends; an upload with another length or sum starts anew at 0.
// What has arrived when body breaks stays, for the upload to be continued.
func (c *Catalog) Receive(ref wire.ImageRef, part Part, u Upload, body io.Reader) (Upload, error) {
	if err := u.check(part); err != nil {
		return Upload{}, err
	}
	release, err := c.reserve(ref)
	if err != nil {
		return Upload{}, err
	}
	defer release()
	if image, err := c.Get(ref); err == nil && image.Complete {
		return Upload{}, fmt.Errorf("%s: %w", ref, ErrExists)
	}
	have, err := c.begin(ref, part, u)
	if err != nil {
		return have, err
	}
	f, err := os.OpenFile(c.partFile(ref, part), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return have, err
	}
	defer f.Close()
	n, err := io.CopyBuffer(onlyWriter{f}, io.LimitReader(body, u.Length-u.Offset), make([]byte, 256<<10))
	have.Offset += n
	if err != nil {
		return have, fmt.Errorf("receive %s of %s: %w", part, ref, err)
	}
	if have.Offset == have.Length {
		return have, f.Sync()
	}
	return have, nil
}

// onlyWriter keeps io.Copy from giving the whole copy to the kernel, which
// would leave out the time limits on the body.
type onlyWriter struct{ io.Writer }

// begin compares with what is here already, or starts the upload.
func (c *Catalog) begin(ref wire.ImageRef, part Part, u Upload) (Upload, error) {
	have, err := c.Upload(ref, part)
	if err == nil && have.Length == u.Length && have.SHA256 == u.SHA256 {
		if have.Offset != u.Offset {
			return have, &OffsetError{have.Offset, u.Offset}
		}
		return have, c.space(ref, part, u)
	}
	if u.Offset != 0 {
		return Upload{}, &OffsetError{0, u.Offset}
	}
	if err := os.Remove(c.partFile(ref, part)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Upload{}, err
	}
	if err := c.space(ref, part, u); err != nil {
		return Upload{}, err
	}
	text, err := json.Marshal(u)
	if err != nil {
		return Upload{}, err
	}
	return u, renameio.WriteFile(c.partFile(ref, part)+".json", text, 0o644)
}

// space checks that the rest of the part and the unpacked tree will fit. The
// tree's size is known when the manifest came first; else it is guessed.
func (c *Catalog) space(ref wire.ImageRef, part Part, u Upload) error {
	need := u.Length - u.Offset + spare
	if part == PartArchive {
		tree := 4 * u.Length
		if m, err := readManifest(c.partFile(ref, PartManifest)); err == nil {
			tree = m.TotalBytes() + 4096*int64(len(m.Entries))
		}
		need += tree
	}
	var s unix.Statfs_t
	if err := unix.Statfs(c.incoming(""), &s); err != nil {
		return fmt.Errorf("free space of %s: %w", c.top, err)
	}
	if free := int64(s.Bavail) * s.Bsize; free < need {
		return fmt.Errorf("%w: %s needs %d MB, %d MB are free", ErrNoSpace, ref, need>>20, free>>20)
	}
	return nil
}

// dropUploads forgets the parts of an image.
func (c *Catalog) dropUploads(ref wire.ImageRef) error {
	var errs []error
	for _, part := range []Part{PartArchive, PartManifest} {
		for _, name := range []string{c.partFile(ref, part), c.partFile(ref, part) + ".json"} {
			if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}
