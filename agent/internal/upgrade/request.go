package upgrade

import (
	"bytes"
	"errors"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"edeploy/agent/internal/grubcfg"
	"edeploy/agent/internal/installed"
	"edeploy/agent/internal/transaction"
	"edeploy/server/wire"
)

// fetching begins the name of metadata that are being fetched.
const fetching = ".metadata-"

// metadataDir makes a directory for metadata. What was left by upgrades that
// were killed while they compared is removed.
func (s System) metadataDir() (string, error) {
	state := s.Path(path.Dir(wire.ConfPath))
	left, err := filepath.Glob(filepath.Join(state, fetching+"*"))
	for _, dir := range left {
		if info, statErr := os.Lstat(dir); statErr == nil && time.Since(info.ModTime()) > time.Hour {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}
	if err != nil {
		return "", err
	}
	return os.MkdirTemp(state, fetching)
}

// request is what the transaction is to do, when that is possible.
func (p *Preparation) request(console Console) (transaction.Upgrade, error) {
	if err := p.Possible(); err != nil {
		return transaction.Upgrade{}, err
	}
	if err := p.keepMetadata(); err != nil {
		return transaction.Upgrade{}, err
	}
	out, err := console.Planned(p)
	if err != nil {
		return transaction.Upgrade{}, err
	}
	own, err := p.ownFiles()
	if err != nil {
		return transaction.Upgrade{}, err
	}
	var preserve []string // post may rewrite these
	for _, dir := range grubcfg.Dirs {
		preserve = append(preserve, p.system.Inside(dir+"/grub.cfg"), p.system.Inside(dir+"/grubenv"))
	}
	scripts := scripts{root: p.system.Root, from: p.Conf.Image, to: p.To.Version, dir: "/" + p.system.Inside(path.Join(path.Dir(wire.ConfPath), p.To.Version)), out: out}
	return transaction.Upgrade{
		From: p.Conf.Image, To: p.To, Plan: p.Plan, Disk: p.disk, Target: p.target, Source: p.files.Tree(p.To),
		Own: own, Preserve: preserve, Pre: scripts.pre(), Post: scripts.post(),
	}, nil
}

// keepMetadata puts the metadata where the scripts find them.
func (p *Preparation) keepMetadata() error {
	if err := os.Chmod(p.metadata, 0o755); err != nil {
		return err
	}
	at := filepath.Join(p.system.Path(path.Dir(wire.ConfPath)), p.To.Version)
	if err := os.RemoveAll(at); err != nil {
		return err
	}
	if err := os.Rename(p.metadata, at); err != nil {
		return err
	}
	p.metadata = at
	return nil
}

// ownFiles are those that say what the machine is (reference section 10.3 step 9).
func (p *Preparation) ownFiles() (map[string][]byte, error) {
	next := p.Conf
	next.Image = p.To
	var text bytes.Buffer
	if _, err := p.target.WriteTo(&text); err != nil {
		return nil, err
	}
	own := map[string][]byte{p.system.Inside(wire.ConfPath): []byte(next.Encode()), p.system.Inside(wire.ManifestPath): text.Bytes()}
	left, err := os.ReadFile(filepath.Join(p.metadata, "exclude"))
	if err != nil {
		return nil, err
	}
	var rules strings.Builder
	for _, m := range p.Merged {
		if !m.mine {
			own[m.Path] = []byte(m.text)
		}
		rules.WriteString("- /" + m.Path + "\n")
	}
	own[p.system.Inside(installed.LeftPath)] = append([]byte(rules.String()), left...)
	if motd, ok := p.motd(); ok {
		own["etc/motd"] = motd
	}
	return own, nil
}

// motd is the message of the day with another version, when it names one and
// is not the tree's to change.
func (p *Preparation) motd() ([]byte, bool) {
	for _, o := range p.Plan.Operations {
		if o.Path == "etc/motd" {
			return nil, false
		}
	}
	name := filepath.Join(p.system.Root, "etc/motd")
	if info, err := os.Lstat(name); err != nil || !info.Mode().IsRegular() {
		return nil, false
	}
	text, err := os.ReadFile(name)
	old := "\nVersion " + p.Conf.Image.Version + "\n"
	if err != nil || !strings.Contains("\n"+string(text), old) {
		return nil, false
	}
	return []byte(strings.Replace("\n"+string(text), old, "\nVersion "+p.To.Version+"\n", 1))[1:], true
}
