package wire

import (
	"fmt"
	"strconv"
	"strings"
)

// Places on an installed machine (reference sections 2.8 and 10.1).
const (
	ConfPath     = "/var/lib/edeploy/conf"     // Installed, written by the agent, kept by edeploy
	ManifestPath = "/var/lib/edeploy/manifest" // manifest of the installed tree
	LogDir       = "/var/log/edeploy"          // install.log vars hw.json configure dmesg
	LocalPath    = "/var/lib/edeploy/local"    // paths the installation itself wrote over the tree, one a line
)

// RebootExitCode is how a post script asks for a reboot.
const RebootExitCode = 100

// Installed is what an installed machine knows about itself: the shell
// assignments in ConfPath.
type Installed struct {
	Image     ImageRef // ROLE and VERS
	Profile   string   // PROFILE
	Serv      string   // SERV
	HTTPPort  int      // HTTP_PORT
	RServ     string   // RSERV
	RServPort int      // RSERV_PORT
	RPath     string   // RPATH
}

// Encode writes the shell assignments.
func (c Installed) Encode() string {
	return fmt.Sprintf("VERS=%s\nROLE=%s\nPROFILE=%s\nSERV=%s\nHTTP_PORT=%d\nRSERV=%s\nRSERV_PORT=%d\nRPATH=%s\n",
		c.Image.Version, c.Image.Role, c.Profile, c.Serv, c.HTTPPort, c.RServ, c.RServPort, c.RPath)
}

// ParseInstalled reads the assignments; unknown names are kept out, quotes
// around a value are removed, the last assignment of a name wins. ROLE and
// VERS must be there. The text is never given to a shell.
func ParseInstalled(text string) (Installed, error) {
	c := Installed{HTTPPort: 80, RServPort: 873, RPath: "install"}
	var role, version string
	fields := map[string]*string{"VERS": &version, "ROLE": &role, "PROFILE": &c.Profile,
		"SERV": &c.Serv, "RSERV": &c.RServ, "RPATH": &c.RPath}
	ports := map[string]*int{"RSERV_PORT": &c.RServPort, "HTTP_PORT": &c.HTTPPort}
	for line := range strings.Lines(text) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if !ok || strings.HasPrefix(name, "#") {
			continue
		}
		value = strings.Trim(value, `'"`)
		if field := fields[name]; field != nil {
			*field = value
		}
		if field := ports[name]; field != nil {
			port, err := strconv.Atoi(value)
			if err != nil || port < 1 || port > 65535 {
				return c, fmt.Errorf("%s=%s is not a port", name, value)
			}
			*field = port
		}
	}
	if role == "" || version == "" {
		return c, fmt.Errorf("ROLE or VERS is missing: this machine was not installed by edeploy")
	}
	if c.RServ == "" {
		c.RServ = c.Serv
	}
	var err error
	c.Image, err = NewImageRef(role, version)
	return c, err
}

// UpgradePath is where the metadata of one upgrade is found below the rsync
// module [metadata]: FROM/ROLE/TO/{exclude,add_only,pre,post}.
func UpgradePath(from ImageRef, to string) string {
	return from.Version + "/" + from.Role + "/" + to
}
