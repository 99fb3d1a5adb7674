package archive_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"edeploy/images/manifest"
	"edeploy/images/manifest/archive"
	"edeploy/images/manifest/fstree"
	"edeploy/images/manifest/internal/treetest"
	"edeploy/integration/needs"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

func pack(t testing.TB, root string) (*manifest.Manifest, []byte) {
	t.Helper()
	var b bytes.Buffer
	m, err := archive.Pack(t.Context(), &b, root)
	treetest.Must(t, err)
	return m, b.Bytes()
}

func TestPackAndExtract(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	treetest.Hostile(t, from)
	want := treetest.Walk(t, from)
	m, packed := pack(t, from)
	treetest.Equal(t, want, m)

	described, err := archive.Describe(bytes.NewReader(packed))
	treetest.Must(t, err)
	treetest.Equal(t, want, described)

	got, err := archive.Extract(t.Context(), bytes.NewReader(packed), to, archive.Options{})
	treetest.Must(t, err)
	treetest.Equal(t, want, got)
	treetest.Verified(t, want, to)
	var st unix.Stat_t
	treetest.Must(t, unix.Stat(filepath.Join(to, "var/sparse"), &st))
	if st.Blocks*512 > 1<<20 {
		t.Errorf("the sparse file of 8 MiB takes %d bytes after Extract", st.Blocks*512)
	}
	_, err = archive.Extract(t.Context(), bytes.NewReader(packed), to, archive.Options{})
	treetest.Must(t, err) // a second time, over the first
	treetest.Verified(t, want, to)
}

// GNU tar, libarchive and mmdebstrap's way of calling tar are read; what we write, GNU tar
// and libarchive unpack.
func TestTarPeers(t *testing.T) {
	gnu := needs.Program(t, "tar")
	bsdtar := needs.Program(t, "bsdtar")
	t.Log(strings.SplitN(treetest.Run(t, "", gnu, "--version"), "\n", 2)[0])
	from := t.TempDir()
	treetest.Hostile(t, from)
	treetest.Must(t, os.Remove(filepath.Join(from, "dev/disk1"))) // both keep hard links of devices as two devices
	treetest.Modern(t, from)
	want := treetest.Walk(t, from)
	for name, args := range map[string][]string{
		"mmdebstrap": {gnu, "--one-file-system", "--sort=name", "--xattrs", "--xattrs-include=*", "--numeric-owner", "--sparse", "--format=pax",
			"--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime", "-c", "."},
		"GNU sparse": {gnu, "--xattrs", "--xattrs-include=*", "--numeric-owner", "-S", "--format=pax", "-c", "."},
		"libarchive": {bsdtar, "-cf", "-", "--format=pax", "--xattrs", "--no-acls", "."},
	} {
		t.Run(name, func(t *testing.T) {
			c := exec.Command(args[0], args[1:]...)
			c.Dir = from
			var out, stderr bytes.Buffer
			c.Stdout, c.Stderr = &out, &stderr
			if err := c.Run(); err != nil {
				t.Fatalf("%q: %v\n%s", args, err, stderr.String())
			}
			got, err := archive.Describe(bytes.NewReader(out.Bytes()))
			treetest.Must(t, err)
			if name == "libarchive" { // keeps ACLs apart, and no attributes of special files
				treetest.Equal(t, treetest.WithoutXattrs(want), treetest.WithoutXattrs(got))
				return
			}
			treetest.Equal(t, want, got)
		})
	}
	_, packed := pack(t, from)
	for name, args := range map[string][]string{
		"GNU tar":    {gnu, "--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpf", "-"},
		"libarchive": {bsdtar, "--xattrs", "--numeric-owner", "-xpf", "-"},
	} {
		t.Run("unpacked by "+name, func(t *testing.T) {
			to := t.TempDir()
			c := exec.Command(args[0], args[1:]...)
			c.Dir = to
			c.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
			c.Stdin = bytes.NewReader(packed)
			if out, err := c.CombinedOutput(); err != nil {
				t.Fatalf("%q: %v\n%s", args, err, out)
			}
			diffs, err := fstree.Verify(t.Context(), want, to, fstree.Options{Extras: true})
			treetest.Must(t, err)
			for _, d := range diffs {
				if name == "libarchive" && d.Path == "." && d.Attribute == manifest.AttrTime {
					continue // it leaves the root's time as it is
				}
				if !strings.HasPrefix(d.Attribute, manifest.AttrXattr) || d.Path == "usr/bin/ping" {
					t.Errorf("difference: %v", d)
				}
			}
		})
	}
}

func TestNormalizeIsDeterministic(t *testing.T) {
	gnu := needs.Program(t, "tar")
	from, to := t.TempDir(), t.TempDir()
	treetest.Hostile(t, from)
	want := treetest.Walk(t, from)
	epoch := time.Unix(1_700_000_000, 0)
	added := []archive.AddedFile{
		{Entry: manifest.Entry{Path: "etc/motd", Type: manifest.File, Mode: 0o644, ModTime: time.Now()}, Content: []byte("Version 1\n")},
		{Entry: manifest.Entry{Path: "a-perl", Type: manifest.File, Mode: 0o600, ModTime: epoch}, Content: []byte("other")},
	}
	var first []byte
	for _, order := range []string{"--sort=name", "--sort=inode"} {
		c := exec.Command(gnu, order, "--xattrs", "--xattrs-include=*", "--format=pax", "-c", ".")
		c.Dir = from
		in, err := c.Output()
		treetest.Must(t, err)
		var out bytes.Buffer
		o := archive.NormalizeOptions{Epoch: epoch, Add: added, SpoolDir: t.TempDir()}
		m, err := archive.Normalize(t.Context(), &out, bytes.NewReader(in), o)
		treetest.Must(t, err)
		if first == nil {
			first = out.Bytes()
			got, err := archive.Extract(t.Context(), bytes.NewReader(first), to, archive.Options{})
			treetest.Must(t, err)
			treetest.Equal(t, m, got)
			checkNormalized(t, want, got, epoch)
		}
		if !bytes.Equal(first, out.Bytes()) {
			t.Errorf("the same tree in the order %s gave another archive", order)
		}
	}
}

func checkNormalized(t *testing.T, want, got *manifest.Manifest, epoch time.Time) {
	t.Helper()
	for _, d := range manifest.Diff(want, got) {
		e, _ := want.Lookup(d.Path)
		switch {
		case d.Attribute == manifest.AttrTime && e.ModTime.After(epoch):
		case d.Path == "etc/motd" && d.Attribute == manifest.AttrExtra:
		case d.Path == "a-perl":
		case d.Path == "dev/disk1" && d.Attribute == manifest.AttrLinks: // GNU tar's doing
		default:
			t.Errorf("normalizing changed %v", d)
		}
	}
	for _, e := range got.Entries {
		if e.ModTime.After(epoch) {
			t.Errorf("%s is of %v, after the epoch", e.Path, e.ModTime)
		}
	}
	if motd, ok := got.Lookup("etc/motd"); !ok || motd.Size != 10 {
		t.Errorf("the added etc/motd is %+v", motd)
	}
}

// member is a tar header with its content.
type member struct {
	tar.Header
	content string
}

func tarOf(t testing.TB, members ...member) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range members {
		m.Size = int64(len(m.content))
		if m.Mode == 0 {
			m.Mode = 0o644
		}
		treetest.Must(t, w.WriteHeader(&m.Header))
		_, err := io.WriteString(w, m.content)
		treetest.Must(t, err)
	}
	treetest.Must(t, w.Close())
	return b.Bytes()
}

func file(name string) member {
	return member{tar.Header{Typeflag: tar.TypeReg, Name: name}, "x"}
}

func TestExtractRefuses(t *testing.T) {
	needs.Root(t)
	link := func(name, to string) member {
		return member{tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: to}, ""}
	}
	hard := func(name, to string) member {
		return member{tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: to}, ""}
	}
	for name, test := range map[string]struct {
		members []member
		want    string
	}{
		"dot dot":           {[]member{file("../outside/new")}, `holds the name ".."`},
		"dot dot inside":    {[]member{file("a/../../outside/new")}, `holds the name ".."`},
		"absolute":          {[]member{file("/outside/new")}, "is absolute"},
		"through link":      {[]member{link("a", "../outside"), file("a/new")}, "a above it is a link"},
		"through old link":  {[]member{file("there/new")}, "there"},
		"link then dir":     {[]member{link("a", "../outside"), {tar.Header{Typeflag: tar.TypeDir, Name: "a/"}, ""}}, "twice"},
		"twice":             {[]member{file("a"), file("./a")}, "twice"},
		"hard link outside": {[]member{hard("a", "../outside/old")}, "not a file before it"},
		"hard link to dir":  {[]member{{tar.Header{Typeflag: tar.TypeDir, Name: "d"}, ""}, hard("a", "d")}, "not a file before it"},
		"hard link later":   {[]member{hard("a", "b"), file("b")}, "not a file before it"},
		"below a file":      {[]member{file("a"), file("a/b")}, "a above it is a file"},
		"too much":          {[]member{file("a"), {tar.Header{Typeflag: tar.TypeReg, Name: "b"}, strings.Repeat("y", 5000)}}, "more than 4096 bytes"},
		"text ACL":          {[]member{{tar.Header{Typeflag: tar.TypeReg, Name: "a", Format: tar.FormatPAX, PAXRecords: map[string]string{"SCHILY.acl.access": "user::rwx"}}, ""}}, "ACL in text form"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			root, outside := filepath.Join(dir, "root"), filepath.Join(dir, "outside")
			treetest.Must(t, os.Mkdir(root, 0o755))
			treetest.Must(t, os.Mkdir(outside, 0o755))
			treetest.Must(t, os.WriteFile(filepath.Join(outside, "old"), []byte("old"), 0o600))
			treetest.Must(t, os.Symlink("../outside", filepath.Join(root, "there")))
			before := treetest.Walk(t, outside)
			_, err := archive.Extract(t.Context(), bytes.NewReader(tarOf(t, test.members...)), root, archive.Options{MaxBytes: 4096})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Extract = %v, want it to say %q", err, test.want)
			}
			treetest.Equal(t, before, treetest.Walk(t, outside))
		})
	}
}

func TestDescribeImpliesDirectories(t *testing.T) {
	m, err := archive.Describe(bytes.NewReader(tarOf(t, file("usr/bin/x"))))
	treetest.Must(t, err)
	var paths []string
	for _, e := range m.Entries {
		paths = append(paths, e.Path+" "+string(e.Type))
	}
	if diff := cmp.Diff([]string{". dir", "usr dir", "usr/bin dir", "usr/bin/x file"}, paths); diff != "" {
		t.Errorf("paths (-want +got):\n%s", diff)
	}
}

func TestTruncatedArchive(t *testing.T) {
	packed := tarOf(t, member{tar.Header{Typeflag: tar.TypeReg, Name: "a"}, strings.Repeat("y", 5000)})
	_, err := archive.Describe(bytes.NewReader(packed[:3000]))
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("Describe of a cut archive = %v, want unexpected EOF", err)
	}
}

func TestOpen(t *testing.T) {
	plain := tarOf(t, file("a"))
	var zipped, zst bytes.Buffer
	g := gzip.NewWriter(&zipped)
	_, err := g.Write(plain)
	treetest.Must(t, err)
	treetest.Must(t, g.Close())
	z, err := zstd.NewWriter(&zst)
	treetest.Must(t, err)
	_, err = z.Write(plain)
	treetest.Must(t, err)
	treetest.Must(t, z.Close())
	for name, data := range map[string][]byte{"tar": plain, "gzip": zipped.Bytes(), "zstd": zst.Bytes()} {
		r, err := archive.Open(bytes.NewReader(data))
		treetest.Must(t, err)
		got, err := io.ReadAll(r)
		treetest.Must(t, err)
		treetest.Must(t, r.Close())
		if !bytes.Equal(got, plain) {
			t.Errorf("%s archive came out different", name)
		}
	}
	for _, data := range []string{"", "PK\x03\x04", strings.Repeat("\x00", 2000), "<html>not found</html>"} {
		if _, err := archive.Open(strings.NewReader(data)); err == nil || !strings.HasSuffix(err.Error(), "neither zstd nor gzip nor tar data") {
			t.Errorf("Open(%.10q) = %v, want it to say what it is not", data, err)
		}
	}
}

// Nothing that an archive holds changes what is outside the root.
func FuzzExtract(f *testing.F) {
	f.Add(tarOf(f, file("a/b"), file("c")))
	f.Add(tarOf(f, member{tar.Header{Typeflag: tar.TypeSymlink, Name: "l", Linkname: "../outside"}, ""}, file("l/x")))
	f.Add(tarOf(f, file("a"), member{tar.Header{Typeflag: tar.TypeLink, Name: "b", Linkname: "a"}, ""},
		member{tar.Header{Typeflag: tar.TypeFifo, Name: "p"}, ""}, member{tar.Header{Typeflag: tar.TypeDir, Name: "../outside"}, ""}))
	f.Fuzz(func(t *testing.T, packed []byte) {
		dir := t.TempDir()
		root, outside := filepath.Join(dir, "root"), filepath.Join(dir, "outside")
		treetest.Must(t, os.Mkdir(root, 0o755))
		treetest.Must(t, os.Mkdir(outside, 0o755))
		treetest.Must(t, os.WriteFile(filepath.Join(outside, "old"), []byte("old"), 0o600))
		before := treetest.Walk(t, outside)
		o := archive.Options{MaxBytes: 1 << 20}
		m, err := archive.Extract(t.Context(), bytes.NewReader(packed), root, o)
		treetest.Equal(t, before, treetest.Walk(t, outside))
		if err != nil {
			return
		}
		if diffs, err := fstree.Verify(t.Context(), m, root, fstree.Options{Extras: true}); err != nil || len(diffs) > 0 {
			for _, d := range diffs {
				if d.Attribute != manifest.AttrTime { // the file system's range of times is smaller than tar's
					t.Errorf("extracted tree: %v", d)
				}
			}
			if err != nil {
				t.Error(err)
			}
		}
	})
}
