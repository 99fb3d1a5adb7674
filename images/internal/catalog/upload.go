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
	"edeploy/server/api"
	"edeploy/server/wire"

	"github.com/google/renameio/v2"
)

// Upload is the state of one part: Offset of Length bytes are here. SHA256
// (hex, of the whole part) tells a continued upload from another one.
type Upload struct {
	Offset int64  `json:"-"`
	Length int64  `json:"length"`
	SHA256 string `json:"sha256"`
	Peer   string `json:"peer,omitempty"` // who began it

	// Tree is what a manifest describes, read once when all of it is here; nil
	// when it was not readable.
	Tree *manifest.Total `json:"tree,omitempty"`
}

// stateSuffix ends the name of the file with the state of a part.
const stateSuffix = ".json"

// OffsetError says that an upload does not continue where the data ends.
type OffsetError struct{ Have, Got int64 }

func (e *OffsetError) Error() string {
	return fmt.Sprintf("upload continues at byte %d, but %d bytes are here", e.Got, e.Have)
}

// check refuses sizes and sums that cannot be.
func (u Upload) check(part api.Part) error {
	most := int64(1) << 40
	if part == api.PartManifest {
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

func (c *Catalog) partFile(ref wire.ImageRef, part api.Part) string {
	// Neither name can hold a slash or start with a dot; the two are kept
	// apart by a character that neither can hold.
	return c.incoming(ref.Version + "=" + ref.Role + "." + string(part))
}

// Upload answers how far the upload of a part is; fs.ErrNotExist when there is none.
func (c *Catalog) Upload(ref wire.ImageRef, part api.Part) (Upload, error) {
	var u Upload
	text, err := os.ReadFile(c.partFile(ref, part) + stateSuffix)
	if err != nil {
		return u, err
	}
	if err := json.Unmarshal(text, &u); err != nil {
		return Upload{}, fmt.Errorf("the state of this upload cannot be read, start it again: %w", err)
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
func (c *Catalog) Receive(ref wire.ImageRef, part api.Part, u Upload, body io.Reader) (Upload, error) {
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
	have, isNew, err := c.compare(ref, part, u)
	if err != nil {
		return have, err
	}
	room, err := c.promise(ref, c.need(ref, part, have))
	if err != nil {
		return have, err
	}
	defer room.end()
	if isNew {
		if err := c.begin(ref, part, have); err != nil {
			return Upload{}, full(err)
		}
	}
	return c.append(ref, part, have, taking{body, room})
}

// append writes what arrives. A manifest that is here in full is measured.
func (c *Catalog) append(ref wire.ImageRef, part api.Part, have Upload, body io.Reader) (Upload, error) {
	f, err := os.OpenFile(c.partFile(ref, part), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return have, full(err)
	}
	defer f.Close()
	n, err := io.CopyBuffer(onlyWriter{f}, io.LimitReader(body, have.Length-have.Offset), make([]byte, 256<<10))
	have.Offset += n
	if err != nil {
		return have, fmt.Errorf("receive %s of %s: %w", part, ref, full(err))
	}
	if have.Offset < have.Length || n == 0 {
		return have, nil
	}
	if part == api.PartManifest {
		if total, err := fromFile(f.Name(), manifest.Measure); err == nil { // else Publish says why
			have.Tree = &total
			if err := c.keepState(ref, part, have); err != nil {
				return have, full(err)
			}
		}
	}
	return have, full(f.Sync())
}

// onlyWriter keeps io.Copy from giving the whole copy to the kernel, which
// would leave out the time limits on the body.
type onlyWriter struct{ io.Writer }

// compare answers the upload that goes on, or a new one: also in place of one
// with another length or sum, or whose state cannot be read.
func (c *Catalog) compare(ref wire.ImageRef, part api.Part, u Upload) (have Upload, isNew bool, err error) {
	have, err = c.Upload(ref, part)
	if err == nil && have.Length == u.Length && have.SHA256 == u.SHA256 {
		if have.Offset != u.Offset {
			return have, false, &OffsetError{have.Offset, u.Offset}
		}
		return have, false, nil
	}
	if u.Offset != 0 {
		return Upload{}, false, &OffsetError{0, u.Offset}
	}
	u.Tree = nil
	return u, true, nil
}

// begin starts a new upload.
func (c *Catalog) begin(ref wire.ImageRef, part api.Part, u Upload) error {
	c.beginning.Lock()
	defer c.beginning.Unlock()
	if err := c.makeRoom(ref, part, u); err != nil {
		return err
	}
	if err := os.Remove(c.partFile(ref, part)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return c.keepState(ref, part, u)
}

func (c *Catalog) keepState(ref wire.ImageRef, part api.Part, u Upload) error {
	text, err := json.Marshal(u)
	if err != nil {
		return err
	}
	return renameio.WriteFile(c.partFile(ref, part)+stateSuffix, text, 0o644)
}

// need is the space that the rest of the part and the unpacked tree take. The
// tree's size is known when the manifest came first; else it is guessed.
func (c *Catalog) need(ref wire.ImageRef, part api.Part, u Upload) space {
	rest := space{u.Length - u.Offset, 2}
	if part == api.PartManifest {
		return rest
	}
	tree := c.treeSpace(ref, u)
	return space{manifest.AddSizes(rest.bytes, tree.bytes), rest.inodes + tree.inodes}
}

// treeSpace is the space that the unpacked tree takes.
func (c *Catalog) treeSpace(ref wire.ImageRef, archive Upload) space {
	const guess, block = 4, 4096
	if m, err := c.Upload(ref, api.PartManifest); err == nil && m.Offset == m.Length && m.Tree != nil {
		return space{manifest.AddSizes(m.Tree.Bytes, block*int64(m.Tree.Entries)), int64(m.Tree.Entries)}
	}
	return space{guess * archive.Length, 0}
}

// dropUploads forgets the parts of an image.
func (c *Catalog) dropUploads(ref wire.ImageRef) error {
	var errs []error
	for _, part := range []api.Part{api.PartArchive, api.PartManifest} {
		for _, name := range []string{c.partFile(ref, part), c.partFile(ref, part) + stateSuffix} {
			if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}
