package appliance

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"gopkg.in/ini.v1"

	"edeploy/server/wire"
)

// Config is edeploy.conf, checked. Every field has the value it is used with.
type Config struct {
	Deployments map[string]Deployment // by section name; SERVER is always there
	StateDir    string                // machine records, leases

	Interface netDevice
	DHCP      dhcpConfig
	TFTPPort  int
	HTTPPort  int
	HTTPNames []string // that browsers may call the appliance by, besides its address
	RsyncPort int
	ImagesTop string // holds install/ and metadata/
	Boot      bootConfig

	// Notes are sentences for the operator: directories that the file does not
	// name, though a host of an operator may want them elsewhere, and keys that
	// are set in vain.
	Notes []string
}

// SameSockets says whether both configurations have the same TCP sockets.
func (c Config) SameSockets(other Config) bool {
	return c.Interface == other.Interface && c.HTTPPort == other.HTTPPort && c.RsyncPort == other.RsyncPort
}

// Deployment is one section of the original's edeploy.conf (reference section
// 4.1).
type Deployment struct {
	ConfigDir   string
	LockFile    string
	HWDir       string
	LogDir      string
	MetadataURL string
	Wipe        string // what scripts may do to data that no installation has written: yes, ask, refuse
	UsePXEMngr  bool
	PXEMngrURL  string
}

type netDevice struct {
	Name      string       // kernel name of the provisioning NIC; "" serves on Address whatever the device
	Address   netip.Prefix // the server's own address there
	Configure bool         // bring the device up and give it the address
}

type bootConfig struct {
	Dir        string        // kernel, initrd.pxe and loaders
	KernelArgs string        // for the agent's kernel itself, such as console=
	Args       wire.BootArgs // for the agent
}

// raw is the file as typed: section to key (upper case) to value.
type raw map[string]map[string]string

// keys are the keys of our own sections; a section with any other name is a
// deployment with the original's keys.
var keys = map[string][]string{
	"NETWORK": {"INTERFACE", "ADDRESS", "CONFIGURE"},
	"DHCP":    append([]string{"ENABLED", "MODE", "LOOK", "HOSTS"}, subnetKeys...),
	"TFTP":    {"PORT"},
	"HTTP":    {"PORT", "NAMES"},
	"RSYNC":   {"PORT"},
	"IMAGES":  {"TOP"},
	"STATE":   {"DIR"},
	"BOOT":    {"DIR", "KERNELARGS", "ARGS", "ADDONS"},
}

var deploymentKeys = []string{"CONFIGDIR", "LOCKFILE", "HWDIR", "LOGDIR", "HEALTHDIR",
	"METADATAURL", "USEPXEMNGR", "PXEMNGRURL", "WIPE"}

// knownKeys are the keys of a section of our own.
func knownKeys(section string) (known []string, ours bool) {
	if strings.HasPrefix(section, subnetPrefix) {
		return subnetKeys, true
	}
	known, ours = keys[section]
	return known, ours
}

// ReadConfig reads and checks edeploy.conf. Relative paths are taken from the
// file's directory. All mistakes are reported together.
func ReadConfig(file string) (Config, error) {
	r, err := readRaw(file)
	if err != nil {
		return Config{}, err
	}
	c, err := r.typed(filepath.Dir(file))
	if err != nil {
		return Config{}, fmt.Errorf("%s: %w", file, err)
	}
	return c, nil
}

// readRaw parses the INI file as Python's ConfigParser does: option names in
// any case, "=" or ":", a [DEFAULT] section, "%%" for a percent sign.
func readRaw(file string) (raw, error) {
	f, err := ini.LoadSources(ini.LoadOptions{InsensitiveKeys: true, IgnoreInlineComment: true}, file)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	r := raw{}
	for _, s := range f.Sections() {
		if s.Name() == ini.DefaultSection {
			continue
		}
		values := map[string]string{}
		for _, from := range []*ini.Section{f.Section(ini.DefaultSection), s} {
			for _, k := range from.Keys() {
				values[strings.ToUpper(k.Name())] = strings.ReplaceAll(k.Value(), "%%", "%")
			}
		}
		r[s.Name()] = values
	}
	if err := r.checkKeys(f.Section(ini.DefaultSection)); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return r, nil
}

// checkKeys refuses unknown keys. A key of [DEFAULT] is known when any section
// may hold it.
func (r raw) checkKeys(defaults *ini.Section) error {
	var errs []error
	for section, values := range r {
		known, ours := knownKeys(section)
		if !ours {
			known = deploymentKeys
		}
		for key := range values {
			if slices.Contains(known, key) || defaults.HasKey(strings.ToLower(key)) && slices.Contains(deploymentKeys, key) {
				continue
			}
			errs = append(errs, fmt.Errorf("[%s] has an unknown key %s; known are %s", section, key, strings.Join(known, ", ")))
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(errs...)
}

func (r raw) typed(dir string) (Config, error) {
	var errs []error
	of := func(section string) fields { return fields{section, r[section], &errs} }
	abs := func(path string) string {
		if path == "" || filepath.IsAbs(path) {
			return path
		}
		return filepath.Join(dir, path)
	}
	c := Config{
		StateDir:  abs(of("STATE").text("DIR", "/var/lib/edeploy/server")),
		TFTPPort:  of("TFTP").port("PORT", 69),
		HTTPPort:  of("HTTP").port("PORT", 80),
		HTTPNames: strings.Fields(strings.ReplaceAll(of("HTTP").text("NAMES", ""), ",", " ")),
		RsyncPort: of("RSYNC").port("PORT", 873),
		ImagesTop: abs(of("IMAGES").text("TOP", "/var/lib/debootstrap")),
		Interface: netDevice{
			Name:      of("NETWORK").text("INTERFACE", ""),
			Address:   of("NETWORK").prefix("ADDRESS", "10.0.3.1/24"),
			Configure: of("NETWORK").yes("CONFIGURE", false),
		},
	}
	c.DHCP = r.dhcp(abs, of, c.Interface.Address)
	c.Boot = of("BOOT").boot(abs, c)
	c.Deployments = r.deployments(abs, of)
	c.Notes = r.notes(c)
	return c, errors.Join(errs...)
}

// notes names the directories that are used because the file is silent, and
// the keys of the original's files that nothing here obeys.
func (r raw) notes(c Config) []string {
	var lines []string
	for _, d := range []struct{ section, key, holds, dir string }{
		{"SERVER", "CONFIGDIR", "configuration", c.Deployments["SERVER"].ConfigDir},
		{"STATE", "DIR", "machine records and leases", c.StateDir},
		{"IMAGES", "TOP", "images", c.ImagesTop},
		{"BOOT", "DIR", "boot files", c.Boot.Dir},
	} {
		if _, named := r[d.section][d.key]; !named && (d.section != "BOOT" || c.DHCP.Enabled) {
			lines = append(lines, fmt.Sprintf("%s: in %s, because edeploy.conf has no [%s] %s", d.holds, d.dir, d.section, d.key))
		}
	}
	for _, section := range slices.Sorted(maps.Keys(r)) {
		if r[section]["HEALTHDIR"] != "" {
			lines = append(lines, fmt.Sprintf("[%s] HEALTHDIR is not supported: health checks are not taken, and nothing is written there; remove it from edeploy.conf", section))
		}
	}
	return lines
}

func (f fields) boot(abs func(string) string, c Config) bootConfig {
	b := bootConfig{
		Dir:        abs(f.text("DIR", "/usr/lib/edeploy/boot")),
		KernelArgs: f.text("KERNELARGS", "console=tty0 console=ttyS0,115200 panic=30"),
	}
	given := f.text("ARGS", "")
	args, err := wire.ParseBootArgs(given)
	if err != nil {
		f.bad("ARGS", err.Error())
	}
	for name := range strings.FieldsSeq(strings.ReplaceAll(f.text("ADDONS", ""), ",", " ")) {
		if err := wire.CheckAddon(name); err != nil {
			*f.errs = append(*f.errs, fmt.Errorf("[%s] ADDONS: %w", f.section, err))
		}
		args.Addons = strings.TrimPrefix(args.Addons+","+name, ",")
	}
	names := strings.Fields(given)
	set := func(name string) bool {
		return slices.ContainsFunc(names, func(w string) bool { return strings.HasPrefix(w, name+"=") })
	}
	if !set("SERV") {
		args.Serv = c.Interface.Address.Addr().String()
	}
	if !set("HTTP_PORT") {
		args.HTTPPort = c.HTTPPort
	}
	if !set("RSERV_PORT") {
		args.RServPort = c.RsyncPort
	}
	b.Args = args
	return b
}

func (r raw) deployments(abs func(string) string, of func(string) fields) map[string]Deployment {
	all := map[string]Deployment{}
	if _, ok := r["SERVER"]; !ok {
		r["SERVER"] = nil
	}
	for section := range r {
		if _, ours := knownKeys(section); ours {
			continue
		}
		f := of(section)
		config := abs(f.text("CONFIGDIR", "/var/lib/edeploy/config"))
		all[section] = Deployment{
			ConfigDir:   config,
			LockFile:    abs(f.text("LOCKFILE", filepath.Join(config, ".lock"))),
			HWDir:       abs(f.text("HWDIR", config)),
			LogDir:      abs(f.text("LOGDIR", config)),
			MetadataURL: f.text("METADATAURL", ""),
			Wipe:        f.text("WIPE", "yes"),
			UsePXEMngr:  f.text("USEPXEMNGR", "") == "True",
			PXEMngrURL:  f.text("PXEMNGRURL", ""),
		}
	}
	return all
}
