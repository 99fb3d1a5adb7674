package detect_test

import (
	"context"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"edeploy/agent/internal/detect"
	"edeploy/server/wire"
)

// stuck is a file system in which reading one file never ends, or panics.
type stuck struct {
	fs.FS
	name string
	how  func()
}

func (s stuck) Open(name string) (fs.File, error) {
	if strings.HasSuffix(name, s.name) {
		s.how()
	}
	return s.FS.Open(name)
}

func (s stuck) ReadLink(name string) (string, error) { return fs.ReadLink(s.FS, name) }

func (s stuck) Lstat(name string) (fs.FileInfo, error) { return fs.Lstat(s.FS, name) }

// skipped are what a description names as left out.
func skipped(h wire.Hardware) (list []string) {
	for _, f := range h {
		if f.Category == "system" && f.ID == "detection" && f.Field == "skipped" {
			list = append(list, f.Text())
		}
	}
	return list
}

// What hangs costs its own facts after its own time, and is named; the rest is
// as always, in the same order.
func TestHanging(t *testing.T) {
	for _, test := range []struct {
		name string
		hang func(*detect.Source)
		gone func(wire.Fact) bool // that may be missing
		want string
		most time.Duration
	}{
		{"a disk's file", func(s *detect.Source) { s.FS = stuck{s.FS, "sdb/device/model", forEver} },
			func(f wire.Fact) bool { return f.Category == "disk" && f.ID == "sdb" }, "disk sdb: no answer within 5s", 6 * time.Second},
		{"a driver", func(s *detect.Source) {
			s.Ethtool = func(device string) detect.Ethtool {
				if device == "eno1" {
					forEver()
				}
				return detect.Ethtool{}
			}
		}, func(f wire.Fact) bool { return f.Category == "network" }, "network eno1: no answer within 5s", 6 * time.Second},
		{"every smartctl, obedient", func(s *detect.Source) {
			s.Run = func(ctx context.Context, argv ...string) (detect.Output, error) {
				<-ctx.Done()
				return detect.Output{}, ctx.Err()
			}
		}, func(f wire.Fact) bool { return false }, "smart sda: no answer within 30s", 4 * time.Minute},
		{"a panic", func(s *detect.Source) { s.FS = stuck{s.FS, "sys/class/dmi/id/bios_date", func() { panic("odd") }} },
			func(f wire.Fact) bool { return f.Category == "firmware" }, "firmware: unexpected form: odd", time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			whole := describe(t, load(t, "server").Source())
			synctest.Test(t, func(t *testing.T) {
				release = make(chan struct{})
				defer close(release)
				source := load(t, "server").Source()
				test.hang(&source)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				began := time.Now()
				got, err := source.Hardware(ctx, nil)
				if err != nil {
					t.Fatal(err)
				}
				if took := time.Since(began); took > test.most {
					t.Errorf("it took %s", took)
				}
				if names := skipped(got); !slices.Contains(names, test.want) {
					t.Errorf("skipped: %q, want %q", names, test.want)
				}
				rest := func(h wire.Hardware) wire.Hardware {
					return slices.DeleteFunc(slices.Clone(h), func(f wire.Fact) bool { return test.gone(f) || f.ID == "detection" })
				}
				if diff := cmp.Diff(rest(whole), rest(got)); diff != "" {
					t.Errorf("(-whole +got):\n%s", diff)
				}
			})
		})
	}
}

// release lets what hangs for ever end with its test, whose clock it obeys.
var release chan struct{}

func forEver() { <-release }

// A machine that hangs everywhere is described, too.
func TestNothingAnswers(t *testing.T) {
	source := load(t, "dell-r730").Source()
	source.Run = func(context.Context, ...string) (detect.Output, error) {
		return detect.Output{}, fmt.Errorf("fork/exec: resource temporarily unavailable")
	}
	got := describe(t, source)
	if _, ok := got.Find("disk", "sda", "size"); !ok || len(got) < 300 {
		t.Errorf("%d facts without programs", len(got))
	}
	for _, name := range []string{"megaraid", "smart sda", "ethtool eno1", "ipmi", "ipmi sensors"} {
		if !slices.ContainsFunc(skipped(got), func(s string) bool { return strings.HasPrefix(s, name+": ") }) {
			t.Errorf("%s is not named in %q", name, skipped(got))
		}
	}
}

// The same machine is described the same, however the probes run.
func TestDeterministic(t *testing.T) {
	first := describe(t, load(t, "disks24").Source())
	for range 5 {
		if diff := cmp.Diff(first, describe(t, load(t, "disks24").Source())); diff != "" {
			t.Fatalf("(-first +again):\n%s", diff)
		}
	}
}
