package configure_test

import (
	"context"
	"testing"
	"time"

	"edeploy/agent/internal/command"
	"edeploy/agent/internal/configure"
	"edeploy/server/wire"
)

// No script and no variables may crash the agent, however they are written.
func FuzzRun(f *testing.F) {
	f.Add(seedVar, "set_role('mysql', 'D7-F.1.0.0', var['disk'])")
	f.Add("{'a': 1}", "    x = 0644\n    print('''0644\n    ''' % var)")
	f.Add("{", "open('/a', 'w').write('%(a)s' % var)")
	f.Fuzz(func(t *testing.T, vars, script string) {
		if len(script) > 1 && script[:2] == "#!" {
			return // a program of this machine would run
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		h := configure.Host{Root: t.TempDir(), Run: func(context.Context, command.Command) ([]byte, error) { return nil, nil }}
		res, err := configure.Run(ctx, h, wire.Configuration{Profile: "vm", Var: vars, Script: script})
		if err == nil && res.Image.Role == "" {
			t.Error("no error and no role")
		}
	})
}
