package server

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"edeploy/server/internal/allocation"
	"edeploy/server/internal/archive"
	"edeploy/server/internal/flock"
	"edeploy/server/internal/httpd"
	"edeploy/server/internal/upload"
	"edeploy/server/wire"
)

// Deployment is one section of edeploy.conf (reference section 4.1).
type Deployment struct {
	ConfigDir   string // CONFIGDIR; must exist
	HWDir       string // HWDIR; empty: ConfigDir
	LogDir      string // LOGDIR; empty: ConfigDir
	LockFile    string // LOCKFILE; empty: a file in the state directory
	Wipe        string // WIPE: yes, ask or refuse: what scripts may do to data that no installation has written; profiles may be stricter
	MetadataURL string // METADATAURL: handed to the agent as METADATA_URL
	PXEMngrURL  string // PXEMNGRURL, when USEPXEMNGR is True: handed on as PXEMNGR_URL; pxemngr itself is not called
}

// openDeployments opens what decisions see of the deployments, and what their
// machines have sent.
func openDeployments(config Config) (map[string]*allocation.Deployment, map[string]httpd.Archives, error) {
	if len(config.Deployments) == 0 {
		return nil, nil, errors.New("no deployment: edeploy.conf needs a section such as [SERVER]")
	}
	deployments, archives := map[string]*allocation.Deployment{}, map[string]httpd.Archives{}
	for name, d := range config.Deployments {
		if name == "" || strings.ContainsAny(name, "/\x00") {
			return nil, nil, fmt.Errorf("deployment %s: section name %q cannot be used", name, name)
		}
		d.HWDir, d.LogDir = cmp.Or(d.HWDir, d.ConfigDir), cmp.Or(d.LogDir, d.ConfigDir)
		d.LockFile = cmp.Or(d.LockFile, filepath.Join(config.StateDir, "lock-"+archive.CleanName(name)))
		if err := d.check(); err != nil {
			return nil, nil, fmt.Errorf("deployment %s: %w", name, err)
		}
		deployments[name] = &allocation.Deployment{Name: name, ConfigDir: d.ConfigDir, MetadataURL: d.MetadataURL, PXEMngrURL: d.PXEMngrURL, LockFile: d.LockFile, Wipe: wire.WipePolicy(d.Wipe)}
		archives[name] = d.archives(config.Limits)
	}
	for _, d := range deployments { // sections that share a directory share its documents
		d.Collection = allocation.Collection(d.Name)
		for name, other := range deployments {
			if other.ConfigDir == d.ConfigDir {
				d.Collection = min(d.Collection, allocation.Collection(name))
			}
		}
	}
	return deployments, archives, nil
}

// archives are bounded: the most files that a directory may hold follows from
// the machines.
func (d Deployment) archives(limits Limits) httpd.Archives {
	return httpd.Archives{
		Hardware: &archive.Archive{Dir: d.HWDir, Suffix: archive.HardwareSuffix, MaxBytes: limits.ArchiveBytes, MaxFiles: 2 * limits.Machines},
		Logs: &archive.Archive{Dir: d.LogDir, Suffix: archive.LogSuffix, MaxBytes: limits.ArchiveBytes,
			MaxFiles: 2 * limits.Machines * (1 + limits.LogsPerMember), KeepEach: limits.LogsPerMember}}
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
	if _, err := wire.ParseWipePolicy(d.Wipe); err != nil {
		return fmt.Errorf("WIPE: %w", err)
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
