package configure_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"edeploy/agent/internal/command"
	"edeploy/agent/internal/configure"
	"edeploy/server/wire"
)

// Python is fetched for scripts that name it, when the ramdisk has none, and for
// no other; the script runs with it, whatever version 3 it names.
func TestFetchInterpreter(t *testing.T) {
	const script = "\nset_role('db', 'D12-1', 'vda')\n"
	for _, tt := range []struct {
		name, script string
		there        bool  // Python is
		missing      error // the add-on is
		fetched      []string
		want, log    string
	}{
		{name: "python3", script: "#!/usr/bin/env python3" + script, fetched: []string{"python3"}},
		{name: "a path", script: "#!/nowhere/bin/python3 -u" + script, fetched: []string{"python3"}},
		{name: "it is there", script: "#!/usr/bin/env python3" + script, there: true},
		{name: "of no version", script: "#!/usr/bin/env python" + script, fetched: []string{"python3"}, log: "there is no python: the script runs with "},
		{name: "another version", script: "#!/nowhere/python3.99" + script, there: true, log: "there is no /nowhere/python3.99: the script runs with "},
		{name: "Python 2", script: "#!/usr/bin/env python2" + script, want: "vm.configure:1: #!/usr/bin/env python2: this initrd has no python2: "},
		{name: "another", script: "#!/nowhere/perl\nset_role\n", want: "this initrd has no /nowhere/perl"},
		{name: "the dialect", script: script},
		{name: "the appliance has none", script: "#!/usr/bin/env python3" + script, missing: errors.New("add-on python3: away"), fetched: []string{"python3"},
			want: "vm.configure:1: #!/usr/bin/env python3: add-on python3: away"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bin := t.TempDir()
			t.Setenv("PATH", bin)
			install := func() {
				const python = "#!/bin/sh\nprintf 'ROLE=db\\nVERS=D12-1\\nDISK=vda\\n' >>$EDEPLOY_ROOT/vars\n"
				if err := os.WriteFile(filepath.Join(bin, "python3"), []byte(python), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			if tt.there {
				install()
			}
			m := &machine{root: t.TempDir()}
			h := m.host(wire.BootArgs{})
			h.Run = command.On(&m.log)
			var fetched []string
			h.Addon = func(_ context.Context, name string) error {
				if fetched = append(fetched, name); tt.missing == nil {
					install()
				}
				return tt.missing
			}
			_, err := configure.Run(t.Context(), h, wire.Configuration{Profile: "vm", Script: tt.script})
			if (err != nil) != (tt.want != "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if diff := cmp.Diff(tt.fetched, fetched); diff != "" {
				t.Errorf("fetched (-want +got):\n%s", diff)
			}
			if !strings.Contains(m.log.String(), tt.log) {
				t.Errorf("log %q, want %q", m.log.String(), tt.log)
			}
		})
	}
}
