package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"edeploy/server/wire"
)

// unknown completes the error about a role that the server does not have with
// what it has.
func unknown(ctx context.Context, args wire.BootArgs, image wire.ImageRef, cause error) error {
	if !errors.Is(cause, ErrMissing) {
		return cause
	}
	host := args.RsyncHost()
	if args.HServ != "" {
		host = "HSERV " + args.HServ
	}
	what := fmt.Sprintf("role %s version %s does not exist on %s", image.Role, image.Version, host)
	if there := offers(ctx, args, image.Version); there != "" {
		what += ", which has " + there
	}
	return fmt.Errorf("%s: %w", what, oneLine{cause})
}

type oneLine struct{ error }

func (e oneLine) Error() string { return strings.ReplaceAll(e.error.Error(), "\n", ", ") }
func (e oneLine) Unwrap() error { return e.error }

// offers describes what the server has: roles of the version, else versions.
// It is "" when the server does not say: the rsync server is asked by HTTP, as
// an appliance can be.
func offers(ctx context.Context, args wire.BootArgs, version string) string {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	extension := ".edeploy"
	if args.HServ == "" {
		extension = ".mtree"
	}
	var roles, versions []string
	for _, name := range list(ctx, args.ImageURL(version)) {
		role, ok := strings.CutSuffix(name, "-"+version+extension)
		if _, err := wire.NewImageRef(role, version); ok && err == nil {
			roles = append(roles, role)
		}
	}
	if len(roles) > 0 {
		return "of " + version + ": " + firstOf(roles)
	}
	for _, name := range list(ctx, args.ImageURL("")) {
		name, dir := strings.CutSuffix(name, "/")
		if _, err := wire.NewImageRef("x", name); dir && err == nil {
			versions = append(versions, name)
		}
	}
	if len(versions) == 0 {
		return ""
	}
	return "the versions " + firstOf(versions)
}

// firstOf joins the first of many names, in order.
func firstOf(names []string) string {
	const most = 10
	slices.Sort(names)
	if more := len(names) - most; more > 0 {
		names = append(names[:most], fmt.Sprintf("and %d more", more))
	}
	return strings.Join(names, ", ")
}

const maxListing = 256 << 10

// list lists a directory of a web server that answers names, one a line, those
// of directories with "/" at their end, as the appliance does. What cannot be
// listed is empty.
func list(ctx context.Context, url string) []string {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(url, "/")+"/", nil)
	if err != nil {
		return nil
	}
	resp, err := web.Do(req)
	if err != nil {
		return nil
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") {
		return nil
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxListing))
	if err != nil {
		return nil
	}
	return strings.Fields(string(text))
}
