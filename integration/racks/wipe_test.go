package racks

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"edeploy/integration/lab"
	"edeploy/integration/lab/labtest"
	"edeploy/integration/needs"
	"edeploy/server/api"
)

// TestWipe: an agent that was told to erase disks erases none before the operator
// has said so of its machine; then all that are in it, on random buses, and
// neither stick nor CD.
func TestWipe(t *testing.T) {
	if os.Getenv("EDEPLOY_LONG") != "1" {
		t.Skip("EDEPLOY_LONG=1 runs it (make test-long)")
	}
	labtest.NeedVM(t)
	needs.Programs(t, "sfdisk", "mke2fs")
	seed := needs.Seed(t)
	s := startUpload(t)
	for i := range 5 {
		l := newLayout(fmt.Sprint("wiped", i), rand.New(rand.NewPCG(seed, uint64(i))))
		t.Run(l.name, func(t *testing.T) { l.wipe(t, s) })
	}
}

func (l *layout) wipe(t *testing.T, s *upload) {
	machines := labtest.New(t)
	if a, b := l.parts[meant], l.parts[spare]; a.Bus == lab.NVMe && b.Bus == lab.NVMe {
		b.Serial = "B" + a.Serial // the kernel takes one of two twins, and nobody can erase the other
	}
	l.make(t, machines)
	for _, p := range l.parts[:stick] {
		fill(t, p.Path, p.size)
		p.hash = hash(t, p.Path)
	}
	m := l.machine(t, s)
	m.Kernel.Args += " WIPE=1"
	vm := labtest.Start(t, machines, m)
	labtest.Expect(t, vm, 4*time.Minute, "the server says no: nobody has said that the disks of this machine are to be erased")
	for i, p := range l.parts {
		if hash(t, p.Path) != p.hash {
			t.Errorf("disk %d changed before anybody has said so", i)
		}
	}
	if _, err := s.client.SetBoot(t.Context(), vm.MAC(0), "wipe"); err != nil {
		t.Fatal(err)
	}
	is := s.wiped(t, vm)
	if err := vm.Kill(); err != nil {
		t.Fatal(err)
	}
	l.checkWiped(t, is)
}

// checkWiped holds the files behind the disks against what the machine has said.
func (l *layout) checkWiped(t *testing.T, is api.Machine) {
	if is.State != "wiped" || is.NextBoot != "hold" || is.Wipe == nil || len(is.Wipe.Disks) != stick {
		t.Fatalf("%+v", is)
	}
	for i, p := range l.parts {
		if i >= stick {
			if hash(t, p.Path) != p.hash {
				t.Errorf("disk %d (serial %s) is not in the machine to stay, and was changed", i, p.Serial)
			}
			continue
		}
		empty(t, p.Path)
	}
	for _, d := range is.Wipe.Disks {
		t.Log(d)
		if d.Held == 0 || strings.HasPrefix(d.Name, "nvme") && d.Method != "NVMe format" {
			t.Errorf("%+v", d)
		}
	}
	for _, want := range []string{"removable\\): left as it is", "erased by .* blocks read back"} {
		if !slices.ContainsFunc(is.History, func(line api.HistoryLine) bool { return regexp.MustCompile(want).MatchString(line.Message) }) {
			t.Errorf("the history has no line with %q", want)
		}
	}
}

// wiped waits until a machine's disks are erased, or are not.
func (s *upload) wiped(t *testing.T, vm *lab.VM) api.Machine {
	ctx, cancel := lab.Deadline(t.Context(), 6*time.Minute)
	defer cancel()
	for {
		m, err := s.client.Machine(ctx, vm.MAC(0))
		if err == nil && (m.State == "wiped" || m.State == "wipe-failed") {
			return m
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			t.Fatalf("the disks are not erased: %s, %v; the console:\n%s", m.Now, cmp.Or(err, context.Cause(ctx)), strings.Join(vm.LastLines(30), "\n"))
		}
	}
}

// fill writes data to every second MiB of a disk, and to its last one.
func fill(t *testing.T, path string, size int64) {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data := bytes.Repeat([]byte("somebody's data "), 1<<20/16)
	for at := int64(2 << 20); at < size; at += 2 << 20 {
		if _, err := f.WriteAt(data[:min(int64(len(data)), size-at)], at); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := f.WriteAt(data, size-int64(len(data))); err != nil {
		t.Fatal(err)
	}
}

// empty holds that a disk has zeros alone.
func empty(t *testing.T, path string) {
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	buf := make([]byte, 1<<20)
	for at := int64(0); ; {
		n, err := io.ReadFull(f, buf)
		if len(bytes.Trim(buf[:n], "\x00")) > 0 {
			t.Errorf("%s holds data behind byte %d", path, at)
			return
		}
		if at += int64(n); err != nil {
			return
		}
	}
}
