package rsyncd

import (
	"fmt"
	"strings"

	"edeploy/images/manifest"
)

// request is what a client asks for, after its arguments are checked.
type request struct {
	args   []string // for the library
	paths  []string // MODULE/path, as sent
	dryRun bool     // the client only wants to know: it sends no checksums
	flat   bool     // directories without what is below their entries (-d)
}

// Short options of a client, by what the sending side has to do about them.
const (
	passed = "vlogDtprcndIu" // the library knows them
	silent = "SWiEOJKbhTy"   // matter to the receiving side only
)

// Long options, likewise. A "=" at the end stands for any value.
var (
	passedLong = []string{"--server", "--sender", "--partial", "--no-r", "--no-D", "--specials", "--devices",
		"--no-specials", "--no-devices", "--list-only", "--fsync"}
	silentLong = []string{"--timeout=", "--contimeout=", "--stats", "--sparse", "--omit-dir-times", "--omit-link-times",
		"--log-format=", "--out-format=", "--human-readable", "--itemize-changes", "--delete", "--delete-before", "--delete-during",
		"--delete-after", "--delete-delay", "--force", "--no-implied-dirs", "--no-inc-recursive", "--modify-window=",
		"--partial-dir=", "--temp-dir=", "--backup", "--suffix=", "--backup-dir=", "--ignore-existing", "--existing",
		"--size-only", "--safe-links", "--msgs2stderr"}
)

// parseRequest checks a client's arguments. Everything that would change what
// the protocol carries and that the library does not do is refused by name:
// the library ignores some of it, which transfers the wrong files, answers
// some with a broken stream, and --help or --version even ends the process.
func parseRequest(args []string) (request, error) {
	var r request
	sender, i := false, 0
	for ; i < len(args) && args[i] != "."; i++ {
		arg := args[i]
		switch {
		case listed(passedLong, arg):
			sender = sender || arg == "--sender"
			r.args = append(r.args, arg)
		case listed(silentLong, arg):
		case strings.HasPrefix(arg, "--"):
			return r, unsupported(arg)
		case strings.HasPrefix(arg, "-"):
			short, err := shortOptions(arg[1:])
			if err != nil {
				return r, err
			}
			r.dryRun = r.dryRun || strings.Contains(short, "n")
			if strings.Contains(short, "d") && !strings.Contains(short, "r") {
				// The library would list the directory itself and nothing in it.
				r.flat = true
				short = strings.ReplaceAll(short, "d", "r")
			}
			if short != "" {
				r.args = append(r.args, "-"+short)
			}
		default:
			return r, fmt.Errorf("unexpected argument %q", arg)
		}
	}
	if !sender {
		return r, fmt.Errorf("the modules are read-only: nothing can be sent to this server")
	}
	if i+1 >= len(args) {
		return r, fmt.Errorf("no path is asked for")
	}
	r.paths = args[i+1:]
	for _, p := range r.paths {
		if strings.HasPrefix(p, "-") {
			return r, fmt.Errorf("path %q starts with a dash", p)
		}
		if strings.Count(p, "/") > manifest.MaxDepth+2 { // below MODULE/VERSION/ROLE
			return r, fmt.Errorf("path %.40q... has more than %d names", p, manifest.MaxDepth)
		}
	}
	r.args = append(append(r.args, "."), r.paths...)
	return r, nil
}

// shortOptions keeps the letters that the library needs. From "e" on the word
// lists the client's capabilities (rsync, options.c, server_options).
func shortOptions(letters string) (string, error) {
	letters, _, _ = strings.Cut(letters, "e")
	var kept strings.Builder
	for _, c := range letters {
		switch {
		case strings.ContainsRune(passed, c):
			kept.WriteRune(c)
		case !strings.ContainsRune(silent, c):
			return "", unsupported("-" + string(c))
		}
	}
	return kept.String(), nil
}

func listed(options []string, arg string) bool {
	for _, o := range options {
		if arg == o || strings.HasSuffix(o, "=") && strings.HasPrefix(arg, o) {
			return true
		}
	}
	return false
}

func unsupported(option string) error {
	return fmt.Errorf("this server does not support the rsync option %s (plain -a works; what -a loses is in the manifest beside the tree)", option)
}
