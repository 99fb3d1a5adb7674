package wire

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
)

// BootArgs are the kernel parameters of the agent (reference section 1.2).
// The boot loader's configuration carries them; the agent reads them from
// /proc/cmdline. Zero values are not the defaults: start from DefaultBootArgs.
type BootArgs struct {
	Serv      string // SERV: the server's host name or address
	HTTPPort  int    // HTTP_PORT: port of the upload URL
	HTTPPath  string // HTTP_PATH: directory of upload.py
	RServ     string // RSERV: rsync server; empty means Serv
	RServPort int    // RSERV_PORT
	RPath     string // RPATH: rsync module, may hold a sub-path
	HServ     string // HSERV: not empty: fetch the role over HTTP instead of rsync
	HServPort int    // HSERV_PORT
	HPath     string // HPATH: URL directory of the archives
	Section   string // SECTION: deployment (section of edeploy.conf)

	OnSuccess string // ONSUCCESS: reboot, halt, console or kexec
	OnFailure string // ONFAILURE: halt, reboot or console
	UploadLog bool   // UPLOAD_LOG: upload the log at the end (only the value 1 does)
	Debug     bool   // DEBUG=1: alias of ONFAILURE=console
	Verbose   bool   // VERBOSE=1: log every command
	NoConsole bool   // NOCONSOLE: no shell even when OnFailure is console

	IP                   string // IP: network plan, reference section 1.3
	BootIF               string // BOOTIF: the network card that the machine booted from, "01-" and its MAC address with hyphens
	LinkUpTimeoutSeconds int    // LINK_UP_TIMEOUT: longest wait for a carrier
	LLDPSeconds          int    // LLDP_SECONDS: how long after its carrier came a card without a word of a switch is waited for
	ScriptMinutes        int    // SCRIPT_MINUTES: how long the configuration script may take; 0: as long as it wants
	OS                   string // OS: replaces the role given to set_role
	OSVer                string // OS_VER: replaces the version given to set_role
	KexecKernel          string // KEXEC_KERNEL: substring of the kernel that kexec loads
	MetadataURL          string // METADATA_URL: cloud-init data source of the installed system
	Addons               string // ADDONS: names of add-ons, with commas between them; see CheckAddon

	// Kept is the text between the two bars of "| args |": parameters that
	// the installed kernel gets too (reference section 1.5), blanks squeezed.
	Kept string
}

// MaxLLDPSeconds is the longest LLDP_SECONDS: some switches speak every half a minute.
const MaxLLDPSeconds = 300

// DefaultBootArgs are the values of parameters that are not given.
func DefaultBootArgs() BootArgs {
	return BootArgs{
		Serv: "10.0.3.1", HTTPPort: 80, HTTPPath: "/cgi-bin/",
		RServPort: 873, RPath: "install",
		HServPort: 80, HPath: "install",
		Section:   "SERVER",
		OnSuccess: "reboot", OnFailure: "halt", UploadLog: true,
		IP: "all:dhcp", LinkUpTimeoutSeconds: 10, LLDPSeconds: 3, ScriptMinutes: 120,
	}
}

// param binds a parameter's name to the way it is read and written.
type param struct {
	name string
	get  func(*BootArgs) string
	set  func(*BootArgs, string) error
}

func text(name string, field func(*BootArgs) *string) param {
	return param{name,
		func(a *BootArgs) string { return *field(a) },
		func(a *BootArgs, v string) error { *field(a) = v; return nil }}
}

func number(name string, max int, field func(*BootArgs) *int) param {
	return param{name,
		func(a *BootArgs) string { return strconv.Itoa(*field(a)) },
		func(a *BootArgs, v string) error {
			n, err := strconv.Atoi(v)
			if err != nil || n < 0 || n > max {
				return fmt.Errorf("kernel parameter %s=%s: want a number from 0 to %d", name, v, max)
			}
			*field(a) = n
			return nil
		}}
}

func flag(name, on string, field func(*BootArgs) *bool) param {
	return param{name,
		func(a *BootArgs) string {
			if *field(a) {
				return "1"
			}
			return "0"
		},
		func(a *BootArgs, v string) error {
			*field(a) = v == on || (on == "" && v != "")
			return nil
		}}
}

var params = []param{
	text("SERV", func(a *BootArgs) *string { return &a.Serv }),
	number("HTTP_PORT", 65535, func(a *BootArgs) *int { return &a.HTTPPort }),
	text("HTTP_PATH", func(a *BootArgs) *string { return &a.HTTPPath }),
	text("RSERV", func(a *BootArgs) *string { return &a.RServ }),
	number("RSERV_PORT", 65535, func(a *BootArgs) *int { return &a.RServPort }),
	text("RPATH", func(a *BootArgs) *string { return &a.RPath }),
	text("HSERV", func(a *BootArgs) *string { return &a.HServ }),
	number("HSERV_PORT", 65535, func(a *BootArgs) *int { return &a.HServPort }),
	text("HPATH", func(a *BootArgs) *string { return &a.HPath }),
	text("SECTION", func(a *BootArgs) *string { return &a.Section }),
	text("ONSUCCESS", func(a *BootArgs) *string { return &a.OnSuccess }),
	text("ONFAILURE", func(a *BootArgs) *string { return &a.OnFailure }),
	flag("UPLOAD_LOG", "1", func(a *BootArgs) *bool { return &a.UploadLog }),
	flag("DEBUG", "1", func(a *BootArgs) *bool { return &a.Debug }),
	flag("VERBOSE", "1", func(a *BootArgs) *bool { return &a.Verbose }),
	text("IP", func(a *BootArgs) *string { return &a.IP }),
	number("LINK_UP_TIMEOUT", 3600, func(a *BootArgs) *int { return &a.LinkUpTimeoutSeconds }),
	text("BOOTIF", func(a *BootArgs) *string { return &a.BootIF }),
	number("LLDP_SECONDS", MaxLLDPSeconds, func(a *BootArgs) *int { return &a.LLDPSeconds }),
	number("SCRIPT_MINUTES", 7*24*60, func(a *BootArgs) *int { return &a.ScriptMinutes }),
	text("OS", func(a *BootArgs) *string { return &a.OS }),
	text("OS_VER", func(a *BootArgs) *string { return &a.OSVer }),
	text("KEXEC_KERNEL", func(a *BootArgs) *string { return &a.KexecKernel }),
	text("METADATA_URL", func(a *BootArgs) *string { return &a.MetadataURL }),
	{"ADDONS", func(a *BootArgs) string { return a.Addons }, setAddons},
}

func setAddons(a *BootArgs, v string) error {
	given := BootArgs{Addons: v}
	for _, name := range given.AddonNames() {
		if err := CheckAddon(name); err != nil {
			return fmt.Errorf("kernel parameter ADDONS=%s: %w", v, err)
		}
	}
	a.Addons = v
	return nil
}

// noConsole is special: any non-empty value sets it, and "0" is not empty, so
// it is written only when set.
var noConsole = flag("NOCONSOLE", "", func(a *BootArgs) *bool { return &a.NoConsole })

// ParseBootArgs reads a kernel command line. The last occurrence of a
// parameter wins; tokens inside the | | block count as well. Bad values are
// reported together, and the parameter keeps its default.
func ParseBootArgs(cmdline string) (BootArgs, error) {
	a := DefaultBootArgs()
	var errs []error
	for _, token := range strings.Fields(cmdline) {
		if name, value, ok := strings.Cut(token, "="); ok {
			errs = append(errs, a.set(name, value))
		}
	}
	if a.Debug {
		a.OnFailure = "console"
	}
	if _, rest, ok := strings.Cut(cmdline, "|"); ok {
		kept, _, _ := strings.Cut(rest, "|")
		a.Kept = strings.Join(strings.Fields(kept), " ")
	}
	return a, errors.Join(errs...)
}

// set gives a parameter a value; names that are none are left alone.
func (a *BootArgs) set(name, value string) error {
	for _, p := range append(params, noConsole) {
		if p.name == name {
			return p.set(a, value)
		}
	}
	return nil
}

// With is the same with other values for some parameters, by their names;
// names that are none are left alone. It is how a configuration script changes
// parameters in /vars (reference section 8.5).
func (a BootArgs) With(values map[string]string) (BootArgs, error) {
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if err := a.set(name, values[name]); err != nil {
			return a, err
		}
	}
	return a, nil
}

// String writes the parameters that differ from the defaults, and always
// SERV, in the form ParseBootArgs reads.
func (a BootArgs) String() string {
	def := DefaultBootArgs()
	var words []string
	for _, p := range params {
		if v := p.get(&a); p.name == "SERV" || v != p.get(&def) {
			words = append(words, p.name+"="+v)
		}
	}
	if a.NoConsole {
		words = append(words, "NOCONSOLE=1")
	}
	if a.Kept != "" {
		words = append(words, "|", a.Kept, "|")
	}
	return strings.Join(words, " ")
}

// UploadURL is where the hardware description, failure reports and logs go.
func (a BootArgs) UploadURL() string {
	return a.serverURL(path.Join("/", a.HTTPPath, "upload.py"))
}

// ReportURL is where Reports go.
func (a BootArgs) ReportURL() string { return a.serverURL(ReportPath) }

// WipeURL is where it asks whether it is to erase its disks.
func (a BootArgs) WipeURL() string { return a.serverURL(WipePath) }

// KeysURL is where it says who may log in while the agent runs.
func (a BootArgs) KeysURL() string { return a.serverURL(KeysPath + url.PathEscape(a.Section)) }

func (a BootArgs) serverURL(p string) string {
	return "http://" + net.JoinHostPort(a.Serv, strconv.Itoa(a.HTTPPort)) + p
}

// RsyncHost is the rsync server's host.
func (a BootArgs) RsyncHost() string {
	if a.RServ != "" {
		return a.RServ
	}
	return a.Serv
}

// RsyncURL is the rsync URL of a path below RPATH.
func (a BootArgs) RsyncURL(p string) string {
	return "rsync://" + net.JoinHostPort(a.RsyncHost(), strconv.Itoa(a.RServPort)) + path.Join("/", a.RPath, p)
}

// ArchiveURL is the HTTP URL of a path below HPATH (reference section 11.2).
func (a BootArgs) ArchiveURL(p string) string {
	return "http://" + net.JoinHostPort(a.HServ, strconv.Itoa(a.HServPort)) + path.Join("/", a.HPath, p)
}

// ImageURL is the HTTP URL of a path among the images: ArchiveURL, or, without
// HSERV, that of a web server beside the rsync server and with its directories,
// as an appliance is one.
func (a BootArgs) ImageURL(p string) string {
	if a.HServ == "" {
		a.HServ, a.HServPort, a.HPath = a.RsyncHost(), a.HTTPPort, a.RPath
	}
	return a.ArchiveURL(p)
}
