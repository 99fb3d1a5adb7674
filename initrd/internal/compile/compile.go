// Package compile builds the Go programs of the initrd: static, stripped, the
// same bytes on every machine.
package compile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/u-root/gobusybox/src/pkg/bb"
	"github.com/u-root/gobusybox/src/pkg/golang"
	"github.com/u-root/uio/ulog"
)

// Program builds one package of the module in dir and answers the binary.
func Program(ctx context.Context, dir, pkg string) ([]byte, error) {
	temp, err := os.MkdirTemp("", "mkinitrd-")
	if err != nil {
		return nil, fmt.Errorf("build %s: %w", pkg, err)
	}
	defer os.RemoveAll(temp)
	binary := filepath.Join(temp, "program")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=", "-o", binary, pkg)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, out)
	}
	return os.ReadFile(binary)
}

// ModuleDir is the directory with the files of a module that the module in dir
// requires. A module that no build has needed yet is fetched: `go list -m`
// would answer nothing for it.
func ModuleDir(ctx context.Context, dir, module string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "mod", "download", "-json", module)
	cmd.Dir = dir
	out, err := cmd.Output()
	var answer struct{ Dir, Error string }
	if json.Unmarshal(out, &answer) == nil && answer.Error != "" {
		return "", fmt.Errorf("fetch module %s (it needs the network once): %s", module, answer.Error)
	}
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		err = fmt.Errorf("%w\n%s", err, exit.Stderr)
	}
	if err == nil && answer.Dir == "" {
		err = fmt.Errorf("no directory in its answer %q", out)
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", strings.Join(cmd.Args, " "), err)
	}
	return answer.Dir, nil
}

// Imports are the packages that a Go file imports: the list of commands is kept
// as blank imports, so that go.mod knows their modules.
func Imports(source string) ([]string, error) {
	file, err := parser.ParseFile(token.NewFileSet(), "commands.go", source, parser.ImportsOnly)
	if err != nil {
		return nil, fmt.Errorf("read list of commands: %w", err)
	}
	var packages []string
	for _, spec := range file.Imports {
		pkg, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return nil, fmt.Errorf("read list of commands: %w", err)
		}
		packages = append(packages, pkg)
	}
	return packages, nil
}

// Busybox builds one binary out of many commands, which answers to each of
// their names.
func Busybox(dir string, packages []string) (binary []byte, names []string, err error) {
	temp, err := os.MkdirTemp("", "mkinitrd-")
	if err != nil {
		return nil, nil, fmt.Errorf("build u-root commands: %w", err)
	}
	defer os.RemoveAll(temp)
	// A program that was compiled without paths does not know where Go is.
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return nil, nil, fmt.Errorf("build u-root commands: go env GOROOT: %w", err)
	}
	out := filepath.Join(temp, "bb")
	err = bb.BuildBusybox(ulog.Null, &bb.Opts{
		Env: golang.Default(golang.DisableCGO(), golang.WithGOOS("linux"), golang.WithGOARCH("amd64"),
			golang.WithGOROOT(strings.TrimSpace(string(root))), golang.WithWorkingDir(dir)),
		GenSrcDir:    filepath.Join(temp, "src"),
		CommandPaths: packages,
		BinaryPath:   out,
		GoBuildOpts:  &golang.BuildOpts{},
	})
	if err != nil {
		return nil, nil, fmt.Errorf("build u-root commands: %w", err)
	}
	for _, pkg := range packages {
		names = append(names, path.Base(pkg))
	}
	binary, err = os.ReadFile(out)
	return binary, names, err
}
