package upgrade

import (
	"errors"
	"fmt"
	"io/fs"
	"path"

	"edeploy/agent/internal/plan"
	"edeploy/images/manifest"
)

// Loss is something of the machine's own that an upgrade takes away: what the
// tree that it was made of does not have, or has otherwise.
type Loss struct {
	Path   string      `json:"path"`
	Action plan.Action `json:"action"` // delete or replace
	Files  int         `json:"files"`  // of it and below it
	Bytes  int64       `json:"bytes"`
}

func (l Loss) String() string {
	word := map[plan.Action]string{plan.Delete: "deleted", plan.Replace: "overwritten"}[l.Action]
	return fmt.Sprintf("lost:   %-11s  %s  (%d files, %.1f MB)", word, manifest.Escape(l.Path), l.Files, float64(l.Bytes)/1e6)
}

// lost are the losses; a directory that goes stands for all in it. Without the
// manifest of the old tree nothing is known of them.
func (p *Preparation) lost() ([]Loss, error) {
	was, err := p.system.Manifest()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, CannotLook{err}
	}
	own := map[string]plan.Action{}
	for _, o := range p.Plan.Operations {
		if (o.Action == plan.Delete || o.Action == plan.Replace) && p.ownContent(was, o.Path) {
			own[o.Path] = o.Action
		}
	}
	var losses []Loss
	at := map[string]int{} // of a topmost path
	for i := range p.disk.Entries {
		e := &p.disk.Entries[i] // a directory comes before what is in it
		action, lost := own[e.Path]
		if !lost {
			continue
		}
		top, below := at[path.Dir(e.Path)]
		if !below {
			top = len(losses)
			losses = append(losses, Loss{Path: e.Path, Action: action})
		}
		if e.Type == manifest.Dir {
			at[e.Path] = top
			continue
		}
		losses[top].Files++
		losses[top].Bytes += e.Size
	}
	return losses, nil
}

// ownContent tells whether what the disk has at a path is not the old tree's.
func (p *Preparation) ownContent(was *manifest.Manifest, name string) bool {
	is, ok := p.disk.Lookup(name)
	old, had := was.Lookup(name)
	if !ok {
		return false
	}
	return !had || old.Type != is.Type || old.SHA256 != is.SHA256 || old.Link != is.Link || old.Major != is.Major || old.Minor != is.Minor
}

// LossSentence is the losses in one line, "" when there are none.
func (p *Preparation) LossSentence() string {
	if len(p.Losses) == 0 {
		return ""
	}
	var names []string
	for _, l := range p.Losses {
		names = append(names, l.Path)
	}
	return fmt.Sprintf("Lost of this machine's own: %s. A rollback brings them back, until the next upgrade; exclude keeps them.", ShortList(names))
}
