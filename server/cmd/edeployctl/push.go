package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"edeploy/server/api"
	"edeploy/server/wire"

	"github.com/spf13/cobra"
)

func newPushCommand(client *api.Client) *cobra.Command {
	p := push{client: client, patience: time.Minute}
	var out string
	cmd := &cobra.Command{
		Use:   "push FILE.edeploy | ROLE VERSION",
		Short: "Bring a role image to the appliance; continues where a broken connection stopped",
		Args:  cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if client.Address == "" {
				return api.ErrNoAddress
			}
			var err error
			if p.ref, p.archive, err = imageFile(args, out); err != nil {
				return err
			}
			p.show = newPushView(cmd.OutOrStdout(), cmd.ErrOrStderr(), p.json, p.ref)
			return p.run(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&out, "out", "out/install", "directory of built images, for ROLE VERSION")
	cmd.Flags().BoolVar(&p.json, "json", false, "progress as JSON lines")
	cmd.Flags().BoolVar(&p.replace, "replace", false, "remove the image of this name that the appliance has, if it is another one")
	cmd.Flags().BoolVar(&p.force, "force", false, "with --replace: also one that profiles give to machines, which fail until the new one is there")
	return cmd
}

// imageFile finds the archive and which image it is. An archive's version is
// the name of its directory when the two agree, else the last two parts of its
// name (reference section 11.3).
func imageFile(args []string, out string) (wire.ImageRef, string, error) {
	if len(args) == 2 {
		ref, err := wire.NewImageRef(args[0], args[1])
		return ref, filepath.Join(out, ref.Archive()), err
	}
	path, err := filepath.Abs(args[0])
	if err != nil {
		return wire.ImageRef{}, "", err
	}
	stem, ok := strings.CutSuffix(filepath.Base(path), ".edeploy")
	if !ok {
		return wire.ImageRef{}, "", fmt.Errorf("%s is not named ROLE-VERSION.edeploy", args[0])
	}
	version := filepath.Base(filepath.Dir(path))
	role, ok := strings.CutSuffix(stem, "-"+version)
	if !ok {
		words := strings.Split(stem, "-")
		if len(words) < 3 {
			return wire.ImageRef{}, "", fmt.Errorf("%s is not named ROLE-VERSION.edeploy with a version like D12-F.1.0.0", args[0])
		}
		role, version = strings.Join(words[:len(words)-2], "-"), strings.Join(words[len(words)-2:], "-")
	}
	ref, err := wire.NewImageRef(role, version)
	return ref, path, err
}

type push struct {
	client   *api.Client
	ref      wire.ImageRef
	archive  string // path
	json     bool
	replace  bool
	force    bool          // replace also what profiles hand out
	patience time.Duration // how long without any progress before giving up
	show     *pushView
}

// retry repeats an attempt and shows why nothing goes on.
func (p *push) retry(ctx context.Context, attempt func() (progressed bool, err error)) error {
	return api.Retry(ctx, p.patience, func(err error) { p.show.note("waiting to continue", err) }, attempt)
}

func (p *push) run(ctx context.Context) error {
	parts, err := p.parts()
	if err != nil {
		return err
	}
	there, err := p.thereAlready(ctx, parts)
	if err != nil {
		return err
	}
	if there {
		return p.finish(ctx)
	}
	for _, part := range parts {
		if err := p.upload(ctx, part); err != nil {
			return fmt.Errorf("push %s: %w", p.ref, err)
		}
	}
	if err := p.publish(ctx); err != nil {
		return fmt.Errorf("push %s: %w", p.ref, err)
	}
	return p.finish(ctx)
}

// part is one of the two files.
type part struct {
	name   api.Part
	path   string
	size   int64
	sha256 string
}

// parts are the manifest and then the archive: the manifest tells the appliance
// how much space the tree takes. An archive of an original eDeploy has none.
func (p *push) parts() ([]part, error) {
	var parts []part
	manifest, err := newPart(api.PartManifest, strings.TrimSuffix(p.archive, ".edeploy")+".mtree")
	if err == nil {
		parts = append(parts, manifest)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	archive, err := newPart(api.PartArchive, p.archive)
	if err != nil {
		return nil, fmt.Errorf("push %s: %w", p.ref, err)
	}
	return append(parts, archive), nil
}

func newPart(name api.Part, path string) (part, error) {
	f, err := os.Open(path)
	if err != nil {
		return part{}, err
	}
	defer f.Close()
	sum := sha256.New()
	n, err := io.Copy(sum, f)
	if err != nil {
		return part{}, err
	}
	return part{name, path, n, hex.EncodeToString(sum.Sum(nil))}, nil
}

func (p *push) path(part api.Part) string { return api.ImagePath(p.ref, string(part)) }

// image asks for the image; one that is not complete when the appliance has
// nothing of it.
func (p *push) image(ctx context.Context) (api.Image, error) {
	image, err := p.client.Image(ctx, p.ref)
	if api.StatusOf(err) == http.StatusNotFound {
		return api.Image{}, nil
	}
	return image, err
}

// thereAlready says whether the appliance has this very image. Another one of
// the same name is an error, or removed with --replace.
func (p *push) thereAlready(ctx context.Context, parts []part) (bool, error) {
	var image api.Image
	err := p.retry(ctx, func() (bool, error) {
		var err error
		image, err = p.image(ctx)
		return false, err
	})
	if err != nil || !image.Complete {
		return false, err
	}
	same, err := p.sameManifest(ctx, parts)
	if same || err != nil {
		return same, err
	}
	if !p.replace {
		return false, fmt.Errorf("push %s: the appliance has another image of this name; build a new version, or use --replace", p.ref)
	}
	if err := p.mayReplace(ctx); err != nil {
		return false, err
	}
	if err := p.client.DeleteImage(ctx, p.ref); err != nil {
		return false, fmt.Errorf("remove %s: %w", p.ref, err)
	}
	return false, nil
}

// mayReplace refuses to take away what machines are installed with.
func (p *push) mayReplace(ctx context.Context) error {
	if p.force {
		return nil
	}
	text, err := handedOut(ctx, p.client, p.ref)
	if err != nil {
		return fmt.Errorf("push %s: the image of this name is not replaced: whether profiles give it to machines could not be found out: %w; --force replaces it all the same", p.ref, err)
	}
	if text != "" {
		return fmt.Errorf("push %s: %s, which would fail until the new one is there: build a new version, or use --replace --force", p.ref, text)
	}
	return nil
}

func (p *push) sameManifest(ctx context.Context, parts []part) (bool, error) {
	if parts[0].name != api.PartManifest {
		return false, nil
	}
	resp, err := p.client.Do(ctx, http.MethodGet, "/install/"+p.ref.Manifest(), nil, nil)
	if api.StatusOf(err) != 0 {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, resp.Body); err != nil {
		return false, fmt.Errorf("read the manifest of %s: %w", p.ref, err)
	}
	return hex.EncodeToString(sum.Sum(nil)) == parts[0].sha256, nil
}

// upload sends one part, going on wherever the appliance's data ends.
func (p *push) upload(ctx context.Context, f part) error {
	offset := int64(-1)
	return p.retry(ctx, func() (bool, error) {
		at, err := p.offset(ctx, f)
		if err != nil {
			return false, err
		}
		progressed := offset >= 0 && at > offset
		offset = at
		if offset == f.size {
			p.show.progress("upload "+string(f.name), f.size, f.size)
			return true, nil
		}
		return progressed, p.send(ctx, f, offset)
	})
}

// offset asks how much of the part is there.
func (p *push) offset(ctx context.Context, f part) (int64, error) {
	resp, err := p.client.Do(ctx, http.MethodHead, p.path(f.name), nil, nil)
	if api.StatusOf(err) == http.StatusNotFound {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if resp.Header.Get(api.HeaderSHA256) != f.sha256 {
		return 0, nil // of another build: starts anew
	}
	return strconv.ParseInt(resp.Header.Get(api.HeaderOffset), 10, 64)
}

func (p *push) send(ctx context.Context, f part, offset int64) error {
	file, err := os.Open(f.path)
	if err != nil {
		return err
	}
	defer file.Close()
	body := &shownReader{r: io.NewSectionReader(file, offset, f.size-offset), done: offset, tell: func(done int64) {
		p.show.progress("upload "+string(f.name), done, f.size)
	}}
	header := http.Header{"Expect": {"100-continue"}} // so that a refusal comes before the body, and is seen
	header.Set(api.HeaderOffset, strconv.FormatInt(offset, 10))
	header.Set(api.HeaderLength, strconv.FormatInt(f.size, 10))
	header.Set(api.HeaderSHA256, f.sha256)
	resp, err := p.client.Do(ctx, http.MethodPatch, p.path(f.name), header, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if at := resp.Header.Get(api.HeaderOffset); at != strconv.FormatInt(f.size, 10) {
		return fmt.Errorf("%w: %s of %d bytes of the %s arrived", api.ErrNotNow, at, f.size, f.name)
	}
	return nil
}

type shownReader struct {
	r    io.Reader
	done int64
	tell func(int64)
}

func (s *shownReader) Read(b []byte) (int, error) {
	n, err := s.r.Read(b)
	s.done += int64(n)
	s.tell(s.done)
	return n, err
}

// publish has the appliance unpack and verify the image. When the answer
// breaks off it asks whether the image is there, and else starts again.
func (p *push) publish(ctx context.Context) error {
	return p.retry(ctx, func() (bool, error) {
		if image, err := p.image(ctx); err != nil || image.Complete {
			return false, err
		}
		resp, err := p.client.Do(ctx, http.MethodPost, p.path("publish"), nil, nil)
		if err != nil {
			return false, err
		}
		defer resp.Body.Close()
		return p.follow(resp.Body)
	})
}

// follow reads the appliance's progress lines up to done or error.
func (p *push) follow(r io.Reader) (progressed bool, err error) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		var line api.Publishing
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			return progressed, fmt.Errorf("%w: answer %.100q", api.ErrNotNow, lines.Bytes())
		}
		switch line.Step {
		case "error":
			return progressed, errors.New(line.Error)
		case "done":
			return true, nil
		}
		progressed = true
		p.show.progress(line.Step, line.Done, line.Total)
	}
	return progressed, fmt.Errorf("%w: the answer broke off", api.ErrNotNow)
}

func (p *push) finish(ctx context.Context) error {
	image, err := p.image(ctx)
	if err != nil {
		return err
	}
	if !image.Complete {
		return fmt.Errorf("push %s: the appliance does not list the image", p.ref)
	}
	return p.show.published(newPushedImage(image))
}
