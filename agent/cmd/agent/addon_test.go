package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"edeploy/agent/internal/addon"
	"edeploy/agent/internal/source"
	"edeploy/appliance"
	"edeploy/images/manifest/archive"
	"edeploy/server/wire"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// packed writes the archive and the manifest of a tree of one file.
func packed(t *testing.T, stem, file string) {
	t.Helper()
	tree := t.TempDir()
	must(t, errors.Join(os.MkdirAll(filepath.Join(tree, filepath.Dir(file)), 0o755), os.WriteFile(filepath.Join(tree, file), bytes.Repeat([]byte(file), 50_000), 0o755),
		os.MkdirAll(filepath.Dir(stem), 0o755)))
	out, err := os.Create(stem + ".edeploy")
	must(t, err)
	m, err := archive.Pack(t.Context(), out, tree)
	must(t, errors.Join(err, out.Close()))
	text, err := os.Create(stem + ".mtree")
	must(t, err)
	_, err = m.WriteTo(text)
	must(t, errors.Join(err, text.Close()))
}

// served is an appliance in a directory, by its handler.
func served(t *testing.T, dir string) http.Handler {
	t.Helper()
	conf := filepath.Join(dir, "edeploy.conf")
	must(t, os.WriteFile(conf, []byte("[NETWORK]\nADDRESS=127.0.0.1/8\n[SERVER]\nCONFIGDIR=config\n[DHCP]\nMODE=off\n"+
		"[IMAGES]\nTOP=images\n[STATE]\nDIR=server\n[BOOT]\nDIR=boot\nADDONS = megacli/8.07.14 python3\n"), 0o644))
	c, err := appliance.ReadConfig(conf)
	must(t, err)
	var sockets appliance.Sockets
	for _, l := range []**net.TCPListener{&sockets.HTTP, &sockets.Rsync} {
		*l, err = net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
		must(t, err)
	}
	t.Cleanup(func() { sockets.Close() })
	a, err := appliance.New(t.Context(), c, sockets, nil)
	must(t, err)
	return a.Handler()
}

// cutting ends the first answers after some bytes.
func cutting(h http.Handler, answers int) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, ".edeploy") && answers > 0 {
			answers--
			w = &cutWriter{w, 100_000}
		}
		h.ServeHTTP(w, r)
	})
}

type cutWriter struct {
	http.ResponseWriter
	left int
}

func (w *cutWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p[:min(len(p), w.left)])
	if w.left -= n; err == nil && n < len(p) {
		err = errors.New("the wire is cut")
	}
	return n, err
}

// TestAddons: the add-ons that an appliance names come from where it serves them,
// also over a wire that is cut.
func TestAddons(t *testing.T) {
	dir := t.TempDir()
	packed(t, filepath.Join(dir, "boot/addons/python3"), "usr/bin/python3")
	packed(t, filepath.Join(dir, "images/install/8.07.14/megacli-8.07.14"), "opt/MegaRAID/MegaCli/MegaCli64")
	web := httptest.NewServer(cutting(served(t, dir), 6))
	defer web.Close()
	host, port, err := net.SplitHostPort(web.Listener.Addr().String())
	must(t, err)
	args, err := wire.ParseBootArgs(fmt.Sprintf("SERV=%s HTTP_PORT=%s ADDONS=megacli/8.07.14,python3", host, port))
	must(t, err)
	root := t.TempDir()
	r := addon.Ramdisk{Args: args, Root: root, Memory: addon.FreeMemory,
		Transfer: source.Transfer{Log: slog.New(slog.NewTextHandler(t.Output(), nil)), FirstPause: time.Millisecond}}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, name := range args.AddonNames() {
		must(t, r.Lay(ctx, name))
	}
	for _, file := range []string{"usr/bin/python3", "opt/MegaRAID/MegaCli/MegaCli64"} {
		if text, err := os.ReadFile(filepath.Join(root, file)); !bytes.Equal(text, bytes.Repeat([]byte(file), 50_000)) {
			t.Errorf("%s holds %d bytes, %v", file, len(text), err)
		}
	}
}
