package tftp_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"edeploy/integration/needs"
)

// peers are Debian's TFTP clients: how each gets a file from a port into a
// file of its working directory.
var peers = []struct {
	name   string // of the program
	debian string
	args   func(port uint16, remote, local string) []string
}{
	{"tftp", "tftp-hpa", func(port uint16, remote, local string) []string {
		return []string{"-m", "binary", "127.0.0.1", fmt.Sprint(port), "-c", "get", remote, local}
	}},
	{"atftp", "atftp", func(port uint16, remote, local string) []string {
		return []string{"--option", "blksize 1432", "--option", "tsize 0", "--get", "-r", remote, "-l", local, "127.0.0.1", fmt.Sprint(port)}
	}},
	{"busybox", "busybox", func(port uint16, remote, local string) []string {
		return []string{"tftp", "-g", "-b", "1468", "-r", remote, "-l", local, "127.0.0.1", fmt.Sprint(port)}
	}},
}

// TestPeers gets files of awkward sizes with real clients.
func TestPeers(t *testing.T) {
	files := map[string][]byte{}
	for _, size := range []int{0, 1, 511, 512, 513, 1432, 1468, 2 * 1468, 74_000, 1_000_000} {
		files[fmt.Sprintf("file-%d", size)] = random(size)
	}
	s := serve(t, 0, files)
	for _, peer := range peers {
		t.Run(peer.debian, func(t *testing.T) {
			program := needs.Program(t, peer.name)
			for name, want := range files {
				dir := t.TempDir()
				cmd := exec.Command(program, peer.args(s.addr.Port(), name, "got")...)
				cmd.Dir = dir
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
				}
				got, err := os.ReadFile(filepath.Join(dir, "got"))
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(got, want) {
					t.Errorf("%v: got %d bytes, want %d; or other ones", cmd.Args, len(got), len(want))
				}
			}
		})
	}
	t.Run("netascii", func(t *testing.T) {
		text := []byte("a line\nand a return\ralone\r\n")
		s := serve(t, 0, map[string][]byte{"text": text})
		cmd := exec.Command(needs.Program(t, "tftp"), "-m", "ascii", "127.0.0.1", fmt.Sprint(s.addr.Port()), "-c", "get", "text", "got")
		cmd.Dir = t.TempDir()
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
		}
		if got, err := os.ReadFile(filepath.Join(cmd.Dir, "got")); err != nil || !bytes.Equal(got, text) {
			t.Errorf("got %q, want %q (%v)", got, text, err)
		}
	})
	t.Run("missing file", func(t *testing.T) {
		cmd := exec.Command(needs.Program(t, "busybox"), "tftp", "-g", "-r", "missing", "-l", "got", "127.0.0.1", fmt.Sprint(s.addr.Port()))
		cmd.Dir = t.TempDir()
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), "no such file") {
			t.Errorf("%v: %v, output %q, want an error with the reason", cmd.Args, err, out)
		}
	})
}

// TestPeersAtOnce: many real clients at the same time.
func TestPeersAtOnce(t *testing.T) {
	program := needs.Program(t, "busybox")
	want := random(74_000)
	s := serve(t, 0, map[string][]byte{"undionly.kpxe": want})
	var all sync.WaitGroup
	for i := range 20 {
		dir := t.TempDir()
		all.Go(func() {
			cmd := exec.Command(program, "tftp", "-g", "-b", "1468", "-r", "undionly.kpxe", "-l", "got", "127.0.0.1", fmt.Sprint(s.addr.Port()))
			cmd.Dir = dir
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Errorf("client %d: %v: %v\n%s", i, cmd.Args, err, out)
				return
			}
			if got, err := os.ReadFile(filepath.Join(dir, "got")); err != nil || !bytes.Equal(got, want) {
				t.Errorf("client %d: other bytes than sent (%v)", i, err)
			}
		})
	}
	all.Wait()
}
