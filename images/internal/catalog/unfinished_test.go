package catalog_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"edeploy/images/internal/catalog"
	"edeploy/images/manifest"
	"edeploy/server/api"
	"edeploy/server/wire"

	"github.com/google/go-cmp/cmp"
)

// begin sends one byte of an archive.
func begin(c *catalog.Catalog, role, peer string, length int64) error {
	_, err := c.Receive(wire.ImageRef{Role: role, Version: "V1"}, api.PartArchive,
		catalog.Upload{Length: length, SHA256: strings.Repeat("0", 64), Peer: peer}, strings.NewReader("x"))
	return err
}

// Unfinished uploads are bounded in all and for each peer, can be listed and
// removed, and forgotten ones give way.
func TestUnfinishedUploads(t *testing.T) {
	c, dir := open(t)
	for peer := range 4 {
		for i := range 16 {
			if err := begin(c, fmt.Sprintf("r%d-%02d", peer, i), fmt.Sprint("peer", peer), 10); err != nil {
				t.Fatal(err)
			}
		}
	}
	refused := func(role, peer, want string) {
		t.Helper()
		if err := begin(c, role, peer, 10); !errors.Is(err, catalog.ErrNoSpace) || !strings.Contains(err.Error(), want) {
			t.Errorf("upload of %s from %s: %v, want %q", role, peer, err, want)
		}
	}
	refused("more", "peer0", "16 uploads of peer0 are unfinished, no more are taken")
	refused("more", "stranger", "64 uploads are unfinished, no more are taken")

	if err := c.Forget(wire.ImageRef{Role: "r1-05", Version: "V1"}); err != nil {
		t.Fatal(err)
	}
	if err := c.Forget(wire.ImageRef{Role: "r1-05", Version: "V1"}); !errors.Is(err, catalog.ErrNotFound) {
		t.Errorf("forgetting what is not there: %v", err)
	}
	if err := begin(c, "more", "stranger", 10); err != nil {
		t.Error(err)
	}
	refused("another", "stranger", "64 uploads")
	old := time.Now().Add(-2 * time.Hour)
	for _, name := range []string{"V1=r2-07.archive", "V1=r2-07.archive.json"} {
		if err := os.Chtimes(filepath.Join(dir, ".incoming", name), old, old); err != nil {
			t.Fatal(err)
		}
	}
	if err := begin(c, "another", "stranger", 10); err != nil {
		t.Errorf("in the place of a forgotten upload: %v", err)
	}

	if err := os.WriteFile(filepath.Join(dir, ".incoming", "V1=r0-00.archive.json"), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, ".broken", "unpack-1.2"), 0o755); err != nil {
		t.Fatal(err)
	}
	list, err := c.Unfinished()
	if err != nil {
		t.Fatal(err)
	}
	var broken []string
	for _, u := range list {
		if u.Broken != "" {
			broken = append(broken, u.Role+u.Aside+": "+u.Broken)
		}
	}
	want := []string{"r0-00: the state of this upload cannot be read, start it again: unexpected end of JSON input",
		".broken/unpack-1.2: it could not be removed: remove it by hand"}
	if diff := cmp.Diff(want, broken); diff != "" || len(list) != 65 {
		t.Errorf("%d uploads; broken (-want +got):\n%s", len(list), diff)
	}
	if err := begin(c, "r0-00", "peer0", 10); err != nil {
		t.Errorf("a broken one is started again: %v", err)
	}
}

// part uploads a whole part.
func part(t *testing.T, c *catalog.Catalog, role string, p api.Part, content string) error {
	t.Helper()
	sum := sha256.Sum256([]byte(content))
	_, err := c.Receive(wire.ImageRef{Role: role, Version: "V1"}, p,
		catalog.Upload{Length: int64(len(content)), SHA256: hex.EncodeToString(sum[:])}, strings.NewReader(content))
	return err
}

// Sizes that no disk has do not overflow into ones that fit, and a manifest is
// read once, when all of it is here.
func TestHugeSizes(t *testing.T) {
	c, _ := open(t)
	text := "#mtree\n. type=dir mode=0755 uid=0 gid=0 time=1.0\n"
	for i := range 10_000 {
		text += fmt.Sprintf("./%d type=file mode=0644 uid=0 gid=0 time=1.0 size=%d sha256digest=%064d\n", i, int64(manifest.MaxFileBytes), 0)
	}
	if err := part(t, c, "huge", api.PartManifest, text); err != nil {
		t.Fatal(err)
	}
	u, err := c.Upload(wire.ImageRef{Role: "huge", Version: "V1"}, api.PartManifest)
	if err != nil || u.Tree == nil || u.Tree.Entries != 10_001 {
		t.Errorf("the upload is %+v, %v, want its tree of 10,001 entries", u, err)
	}
	if err := part(t, c, "huge", api.PartArchive, "x"); !errors.Is(err, catalog.ErrNoSpace) {
		t.Errorf("archive of a tree of 10^19 bytes: %v", err)
	}
	text = strings.Replace(text, fmt.Sprint(int64(manifest.MaxFileBytes)), fmt.Sprint(int64(1)<<62), 1)
	if err := part(t, c, "larger", api.PartManifest, text); err != nil {
		t.Fatal(err)
	}
	if err := part(t, c, "larger", api.PartArchive, "x"); err != nil {
		t.Fatal(err)
	}
	_, err = c.Publish(t.Context(), wire.ImageRef{Role: "larger", Version: "V1"}, "peer", func(api.Publishing) {})
	if !errors.Is(err, manifest.ErrInvalid) {
		t.Errorf("publishing a file of 2^62 bytes: %v", err)
	}
}

// What uploads that are under way will take is not free for others.
func TestSpaceIsPromisedOnce(t *testing.T) {
	c, dir := open(t)
	half := freeBytes(t, dir) * 3 / 4 / 5 // an archive's tree is guessed at four times its size
	slow, end := io.Pipe()
	done := make(chan error, 1)
	go func() {
		_, err := c.Receive(wire.ImageRef{Role: "first", Version: "V1"}, api.PartArchive,
			catalog.Upload{Length: half, SHA256: strings.Repeat("0", 64), Peer: "a"}, slow)
		done <- err
	}()
	if _, err := end.Write([]byte("x")); err != nil { // it is under way
		t.Fatal(err)
	}
	if err := begin(c, "second", "b", half); !errors.Is(err, catalog.ErrNoSpace) || !strings.Contains(err.Error(), "promised to other imports") {
		t.Errorf("beside another upload: %v", err)
	}
	end.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := begin(c, "second", "b", half); err != nil {
		t.Errorf("when the other one has ended: %v", err)
	}
}
