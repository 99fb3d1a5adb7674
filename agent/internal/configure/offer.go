package configure

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"edeploy/agent/dialect"
	"edeploy/server/wire"
)

// sources are the kernel parameters that say where roles come from. A script
// may set them in /vars.
var sources = []string{"RSERV", "RSERV_PORT", "RPATH", "HSERV", "HSERV_PORT", "HPATH"}

// plainly is how a script says such a thing whatever happens: a line that is not
// indented, without variables.
var plainly = regexp.MustCompile(`(?m)^open\( *["']/vars["'] *, *["']a["'] *\)\.write\(["'](\w+)=([^"'%{\\]*)\\n["']\)[ \t]*$`)

// source is from where the role comes, as far as it is settled now: it is not
// while the script has something to say about it that is not in /vars yet.
func (h Host) source(script string) (args wire.BootArgs, settled bool) {
	vars, err := h.readVars()
	if err != nil {
		return h.Args, false
	}
	text, _ := dialect.Dedent(script)
	for _, name := range sources {
		if _, ok := vars[name]; !ok && strings.Contains(plainly.ReplaceAllString(text, ""), name) {
			return h.Args, false
		}
	}
	for _, said := range plainly.FindAllStringSubmatch(text, -1) {
		if slices.Contains(sources, said[1]) {
			vars[said[1]] = said[2]
		}
	}
	args, err = h.Args.With(vars)
	return args, err == nil
}

// checkNamed refuses a script none of whose images can be had, before it
// changes anything. Where the script decides between several, one of them is
// enough; where it makes the names out of something else, nothing is known.
func (h Host) checkNamed(ctx context.Context, script string) error {
	args, settled := h.source(script)
	images, all := dialect.Roles(script)
	if h.Args.OS != "" && h.Args.OSVer != "" {
		images, all = []wire.ImageRef{{}}, true
	}
	if h.Offered == nil || !settled || !all {
		return nil
	}
	var missing []error
	for _, image := range images {
		image, _, err := h.role(image.Role, image.Version, "unknown")
		if err != nil {
			return nil // set_role says it, with its line
		}
		if err := h.Offered(ctx, args, image); err != nil {
			missing = append(missing, err)
		}
	}
	err := errors.Join(missing...)
	if len(missing) < len(images) {
		for _, err := range missing {
			fmt.Fprintf(h.log(), "warning: %v\n", err)
		}
		return ctx.Err()
	}
	return err
}
