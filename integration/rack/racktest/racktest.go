// Package racktest wraps a rack for stories: it skips without EDEPLOY_VM=1,
// and a story that fails ends with the lab's report.
package racktest

import (
	"context"
	"log/slog"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"edeploy/integration/lab"
	"edeploy/integration/lab/labtest"
	"edeploy/integration/rack"
	"edeploy/server/api"
	"edeploy/server/wire"
)

// Base is the role that most stories install.
var Base = wire.ImageRef{Role: "base", Version: "D12-F.1.0.0"}

// MySQL are the versions that `make scenario` builds.
var MySQL = struct{ First, NewServer, NewKernel wire.ImageRef }{
	wire.ImageRef{Role: "mysql", Version: "D12-F.1.0.0"},
	wire.ImageRef{Role: "mysql", Version: "D12-F.1.0.1"},
	wire.ImageRef{Role: "mysql", Version: "D12-F.1.0.2"},
}

// Rack is a rack whose errors end the test.
type Rack struct {
	*rack.Rack
	t   *testing.T
	Key *rack.Key
}

// Start boots an appliance that holds Base and MySQL. It is the same disk for
// all stories, so several can run at once.
func Start(t *testing.T) *Rack {
	t.Helper()
	labtest.NeedVM(t)
	out, err := filepath.Abs(filepath.Join("..", "..", "out"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := rack.Start(context.WithoutCancel(t.Context()), rack.Options{
		Dir: labtest.Dir(t), Out: out, Images: []wire.ImageRef{Base, MySQL.First, MySQL.NewServer, MySQL.NewKernel}, Say: t.Logf,
		Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			r.Report(t.Output())
		} else {
			r.Lab.Timeline.WriteTable(t.Output())
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	key, err := rack.NewKey(r.Lab.Path("id_ed25519"))
	if err != nil {
		t.Fatal(err)
	}
	return &Rack{r, t, key}
}

// In is the same rack for a part of the test: its errors end that part.
func (r *Rack) In(t *testing.T) *Rack { return &Rack{r.Rack, t, r.Key} }

// or ends the test with an error.
func or[T any](r *Rack) func(v T, err error) T {
	return func(v T, err error) T {
		r.t.Helper()
		if err != nil {
			r.t.Fatal(err)
		}
		return v
	}
}

// Configure replaces the appliance's profiles.
func (r *Rack) Configure(files map[string]string, flags ...string) {
	r.t.Helper()
	or[any](r)(nil, r.Rack.Configure(r.t.Context(), files, flags...))
}

// Power switches a machine on; it runs until the rack closes.
func (r *Rack) Power(b rack.Blank) *lab.VM {
	r.t.Helper()
	return or[*lab.VM](r)(r.Rack.Power(context.WithoutCancel(r.t.Context()), b))
}

// PowerAppliance switches the appliance on again.
func (r *Rack) PowerAppliance() {
	r.t.Helper()
	or[any](r)(nil, r.Rack.PowerAppliance(context.WithoutCancel(r.t.Context())))
}

// AwaitState waits until the appliance says that the machine is in a state.
func (r *Rack) AwaitState(vm *lab.VM, state string, patience time.Duration) *api.Machine {
	r.t.Helper()
	return or[*api.Machine](r)(r.Rack.AwaitState(r.t.Context(), vm, state, patience))
}

// Expect waits for a line of a machine's console.
func (r *Rack) Expect(vm *lab.VM, patience time.Duration, pattern string) []string {
	r.t.Helper()
	return labtest.Expect(r.t, vm, patience, pattern)
}

// SSH runs a command on an installed machine and returns what it printed.
func (r *Rack) SSH(vm *lab.VM, command string) string {
	r.t.Helper()
	host := or[netip.Addr](r)(r.Address(r.t.Context(), vm))
	return or[string](r)(r.Rack.SSH(r.t.Context(), r.Key, host, command))
}

// ConfigFile is one file of the appliance's configuration directory.
func (r *Rack) ConfigFile(name string) string {
	r.t.Helper()
	return or[string](r)(r.Rack.ConfigFile(r.t.Context(), name))
}
