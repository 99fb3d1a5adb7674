package install_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"edeploy/images/manifest"
	"edeploy/images/manifest/archive"
	"edeploy/images/manifest/fstree"
	"edeploy/server/wire"
)

// pack writes the archive of the tree, as zstd or gzip, to a file below install.
func (a *appliance) pack(to string, compress func(io.Writer) io.WriteCloser) {
	a.t.Helper()
	var b bytes.Buffer
	z := compress(&b)
	_, err := archive.Pack(a.t.Context(), z, a.tree)
	a.must(errors.Join(err, z.Close(), os.WriteFile(filepath.Join(a.install, to), b.Bytes(), 0o644)))
}

func zstandard(w io.Writer) io.WriteCloser {
	z, err := zstd.NewWriter(w)
	if err != nil {
		panic(err)
	}
	return z
}

func gzipped(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) }

// grow adds a file of random bytes, so that the archive does not arrive at once.
func (a *appliance) grow(name string, size int) {
	a.t.Helper()
	random := rand.New(rand.NewPCG(3, uint64(len(name))))
	content := make([]byte, size)
	for i := range content {
		content[i] = byte(random.Uint32())
	}
	a.must(os.WriteFile(filepath.Join(a.tree, name), content, 0o644))
}

// web serves the directory install as /install; before sees each request for content.
func (a *appliance) web(before func(w http.ResponseWriter, r *http.Request) http.ResponseWriter) (cmdline string) {
	a.t.Helper()
	files := http.StripPrefix("/install", http.FileServer(http.Dir(a.install)))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if before != nil && r.Method == http.MethodGet {
			w = before(w, r)
		}
		files.ServeHTTP(w, r)
	}))
	a.t.Cleanup(srv.Close)
	host, port, _ := net.SplitHostPort(srv.Listener.Addr().String())
	// Nothing may come by rsync.
	return fmt.Sprintf("HSERV=%s HSERV_PORT=%s RSERV_PORT=1", host, port)
}

// shortWriter ends an answer after so many bytes.
type shortWriter struct {
	http.ResponseWriter
	left int
}

func (w *shortWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p[:min(len(p), w.left)])
	if w.left -= n; err == nil && n < len(p) {
		err = errors.New("the wire is cut")
	}
	return n, err
}

func TestInstallFromArchive(t *testing.T) {
	tests := []struct {
		name    string
		arrange func(a *appliance)
	}{
		{"zstd with manifest", func(a *appliance) { a.pack(image.Archive(), zstandard) }},
		{"gzip with manifest", func(a *appliance) { a.pack(image.Archive(), gzipped) }},
		{"without version directory", func(a *appliance) {
			a.pack(path.Base(image.Archive()), zstandard)
			a.must(os.Rename(filepath.Join(a.install, image.Manifest()), filepath.Join(a.install, path.Base(image.Manifest()))))
		}},
		{"without manifest", func(a *appliance) {
			a.pack(image.Archive(), gzipped)
			a.must(os.Remove(filepath.Join(a.install, image.Manifest())))
		}},
		{"attributes differ from the manifest", func(a *appliance) {
			a.pack(image.Archive(), zstandard)
			a.must(os.Chmod(filepath.Join(a.tree, "etc/hostname"), 0o600))
			a.publish()
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := newAppliance(t)
			a.grow("var/lib/mysql/big", 2_000_000)
			a.publish()
			tt.arrange(a)
			want := walkTree(t, a.tree)
			m := newBlank(t, a, a.web(nil))
			if err := m.install(t); err != nil {
				t.Fatal(err)
			}
			checkDisk(t, m)
			if diffs := manifest.Diff(want, readManifest(t, filepath.Join(m.root, "chroot", wire.ManifestPath))); len(diffs) > 0 {
				t.Errorf("the manifest on the disk differs from the tree: %v", diffs)
			}
			if last := a.last(); last.Status != wire.StatusInstalled {
				t.Errorf("last report %+v", last)
			}
		})
	}
}

func walkTree(t *testing.T, dir string) *manifest.Manifest {
	t.Helper()
	m, err := fstree.Walk(t.Context(), dir, fstree.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func readManifest(t *testing.T, file string) *manifest.Manifest {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m, err := manifest.Read(f)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// The archive comes in ten pieces, each after a cut.
func TestArchiveOverCutWire(t *testing.T) {
	a := newAppliance(t)
	a.grow("var/lib/mysql/big", 2_000_000)
	a.publish()
	a.pack(image.Archive(), zstandard)
	var connections atomic.Int32
	m := newBlank(t, a, a.web(func(w http.ResponseWriter, r *http.Request) http.ResponseWriter {
		if strings.HasSuffix(r.URL.Path, ".mtree") {
			return w
		}
		connections.Add(1)
		return &shortWriter{w, 220_000}
	}))
	if err := m.install(t); err != nil {
		t.Fatal(err)
	}
	checkDisk(t, m)
	if n := connections.Load(); n != 10 {
		t.Errorf("%d connections, want 10: it started over", n)
	}
	if !strings.Contains(m.console.String(), "] transfer: waiting for 127.0.0.1:") {
		t.Error("the console does not say what it waited for")
	}
}

// The role is published anew while a machine reads it: the machine gets the new
// tree, and nothing stays of the old one.
func TestArchiveIsReplacedMeanwhile(t *testing.T) {
	a := newAppliance(t)
	a.grow("a-old-name", 500_000)
	a.grow("var/lib/mysql/big", 2_000_000)
	a.publish()
	a.pack(image.Archive(), zstandard)
	var archives atomic.Int32
	m := newBlank(t, a, a.web(func(w http.ResponseWriter, r *http.Request) http.ResponseWriter {
		if strings.HasSuffix(r.URL.Path, ".mtree") {
			return w
		}
		switch archives.Add(1) {
		case 1:
			return &shortWriter{w, 1_500_000}
		case 2:
			a.must(os.Rename(filepath.Join(a.tree, "a-old-name"), filepath.Join(a.tree, "a-new-name")))
			a.must(os.WriteFile(filepath.Join(a.tree, "etc/hostname"), []byte("new\n"), 0o644))
			a.publish()
			a.pack(image.Archive(), zstandard)
			later := time.Now().Add(time.Minute)
			a.must(os.Chtimes(filepath.Join(a.install, image.Archive()), later, later))
		}
		return w
	}))
	if err := m.install(t); err != nil {
		t.Fatal(err)
	}
	checkDisk(t, m)
	if _, err := os.Lstat(filepath.Join(m.root, "chroot/a-new-name")); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(filepath.Join(m.root, "chroot/a-old-name")); err == nil {
		t.Error("a file of the replaced archive is still there")
	}
	if !strings.Contains(m.console.String(), "was replaced on the server meanwhile, starting again") {
		t.Error("the console does not say it")
	}
}

func TestArchiveFailures(t *testing.T) {
	tests := []struct {
		name    string
		arrange func(a *appliance)
		want    string
	}{
		{"role does not exist", func(*appliance) {}, "configure: vm.configure: role mysql version D7-F.1.0.0 does not exist on HSERV 127.0.0.1: http://127.0.0.1:"},
		{"truncated archive", func(a *appliance) {
			a.pack(image.Archive(), zstandard)
			a.must(os.Truncate(filepath.Join(a.install, image.Archive()), 1_000_000))
		}, "unexpected EOF"},
		{"truncated in the checksum", func(a *appliance) {
			a.pack(image.Archive(), gzipped)
			file := filepath.Join(a.install, image.Archive())
			info, err := os.Stat(file)
			a.must(errors.Join(err, os.Truncate(file, info.Size()-4)))
		}, "unexpected EOF"},
		{"no archive", func(a *appliance) {
			a.must(os.WriteFile(filepath.Join(a.install, image.Archive()), []byte("<html>welcome</html>"), 0o644))
		}, "neither zstd nor gzip nor tar data"},
		{"content is not that of the manifest", func(a *appliance) {
			a.must(os.WriteFile(filepath.Join(a.tree, "etc/hostname"), []byte("evil!\n"), 0o644))
			a.pack(image.Archive(), zstandard)
		}, "holds another tree than its manifest describes, in 1 places: etc/hostname: content"},
		{"more files than in the manifest", func(a *appliance) {
			a.must(os.WriteFile(filepath.Join(a.tree, "etc/cron"), nil, 0o644))
			a.pack(image.Archive(), zstandard)
		}, "holds another tree than its manifest describes, in 1 places: etc/cron: "},
		{"larger than the manifest", func(a *appliance) {
			a.grow("bomb", 100_000)
			a.pack(image.Archive(), zstandard)
		}, "the archive holds more than "},
		{"broken manifest", func(a *appliance) {
			a.pack(image.Archive(), zstandard)
			a.republish(func(string) string { return "no manifest\n" })
		}, "transfer: manifest of the tree: "},
		{"disk too small", func(a *appliance) {
			a.pack(image.Archive(), zstandard)
			a.republish(func(text string) string {
				return strings.Replace(text, "size=2000000", "size=1125899906842624", 1)
			})
		}, "role mysql D7-F.1.0.0 does not fit on the disk: "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := newAppliance(t)
			a.grow("var/lib/mysql/big", 2_000_000)
			a.publish()
			tt.arrange(a)
			m := newBlank(t, a, a.web(nil))
			err := m.install(t)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
			step := wire.StepTransfer
			if strings.HasPrefix(tt.want, "configure: ") {
				step = wire.StepConfigure
			}
			if last := a.last(); last.Status != wire.StatusFailed || last.Step != step {
				t.Errorf("last report %+v", last)
			}
			if diff := cmp.Diff([]string{"vm"}, a.failures); diff != "" {
				t.Errorf("given back (-want +got):\n%s", diff)
			}
		})
	}
}
