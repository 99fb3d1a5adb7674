package server

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"edeploy/server/internal/allocation"
	"edeploy/server/internal/archive"
	"edeploy/server/internal/flock"
	"edeploy/server/internal/profile"
	"edeploy/server/internal/upload"
)

// Deployment is one section of edeploy.conf (reference section 4.1).
type Deployment struct {
	ConfigDir   string // CONFIGDIR; must exist
	HWDir       string // HWDIR; empty: ConfigDir
	LogDir      string // LOGDIR; empty: ConfigDir
	LockFile    string // LOCKFILE; empty: a file in the state directory
	MetadataURL string // METADATAURL: handed to the agent as METADATA_URL
	PXEMngrURL  string // PXEMNGRURL, when USEPXEMNGR is True: handed on as PXEMNGR_URL; pxemngr itself is not called
}

// deployment is a Deployment that is open.
type deployment struct {
	Deployment
	name     string
	dir      *profile.Dir
	site     *allocation.Deployment // what decisions see of it
	hardware *archive.Archive
	logs     *archive.Archive
}

func openDeployments(config Config, limits Limits) (map[string]*deployment, error) {
	if len(config.Deployments) == 0 {
		return nil, errors.New("no deployment: edeploy.conf needs a section such as [SERVER]")
	}
	all := map[string]*deployment{}
	for name, d := range config.Deployments {
		open, err := openDeployment(name, d, config.StateDir, limits)
		if err != nil {
			return nil, fmt.Errorf("deployment %s: %w", name, err)
		}
		all[name] = open
	}
	return all, nil
}

func openDeployment(name string, d Deployment, stateDir string, limits Limits) (*deployment, error) {
	if name == "" || strings.ContainsAny(name, "/\x00") {
		return nil, fmt.Errorf("section name %q cannot be used", name)
	}
	if d.HWDir == "" {
		d.HWDir = d.ConfigDir
	}
	if d.LogDir == "" {
		d.LogDir = d.ConfigDir
	}
	if d.LockFile == "" {
		d.LockFile = filepath.Join(stateDir, "lock-"+archive.CleanName(name))
	}
	if err := d.check(); err != nil {
		return nil, err
	}
	// The most files that a directory may hold follows from the machines.
	hardware := &archive.Archive{Dir: d.HWDir, Suffix: archive.HardwareSuffix, MaxBytes: limits.ArchiveBytes, MaxFiles: 2 * limits.Machines}
	logs := &archive.Archive{Dir: d.LogDir, Suffix: archive.LogSuffix, MaxBytes: limits.ArchiveBytes,
		MaxFiles: 2 * limits.Machines * (1 + limits.LogsPerMember), KeepEach: limits.LogsPerMember}
	site := &allocation.Deployment{Name: name, ConfigDir: d.ConfigDir, MetadataURL: d.MetadataURL, PXEMngrURL: d.PXEMngrURL, Dir: profile.Open(d.ConfigDir)}
	return &deployment{Deployment: d, name: name, dir: site.Dir, site: site, hardware: hardware, logs: logs}, nil
}

// check refuses settings that cannot work.
func (d Deployment) check() error {
	for _, is := range []struct{ key, dir string }{{"CONFIGDIR", d.ConfigDir}, {"HWDIR", d.HWDir}, {"LOGDIR", d.LogDir}} {
		if info, err := os.Stat(is.dir); err != nil {
			return fmt.Errorf("%s: %w", is.key, err)
		} else if !info.IsDir() {
			return fmt.Errorf("%s: %s is no directory", is.key, is.dir)
		}
	}
	if err := checkURL(d.MetadataURL); err != nil {
		return fmt.Errorf("METADATAURL: %w", err)
	}
	if err := checkURL(d.PXEMngrURL); err != nil {
		return fmt.Errorf("PXEMNGRURL: %w", err)
	}
	if err := checkLockFile(d.LockFile); err != nil {
		return fmt.Errorf("LOCKFILE: %w", err)
	}
	return nil
}

// checkLockFile makes the lock file's directory and tries the lock; that
// somebody holds it now is no mistake.
func checkLockFile(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	lock, err := flock.Try(path)
	if errors.Is(err, flock.ErrHeld) {
		return nil
	}
	if err != nil {
		return err
	}
	return lock.Release()
}

// checkURL refuses what could not stand in a script between quotes.
func checkURL(text string) error {
	if text == "" {
		return nil
	}
	u, err := url.Parse(text)
	if err != nil {
		return err
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || strings.ContainsAny(text, "'\"\\$`;&|<>() \t\n") {
		return fmt.Errorf("%q: want an http URL without quotes, blanks and shell characters", text)
	}
	return nil
}

// defaultSection completes Config.BootSection; a set one must exist.
func defaultSection(config Config) (string, error) {
	switch {
	case config.BootSection != "":
		if _, ok := config.Deployments[config.BootSection]; !ok {
			return "", fmt.Errorf("boot section %s: edeploy.conf has no such section", config.BootSection)
		}
		return config.BootSection, nil
	case len(config.Deployments) == 1:
		for name := range config.Deployments {
			return name, nil
		}
	}
	return upload.DefaultSection, nil
}
