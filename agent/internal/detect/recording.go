package detect

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os/exec"
	"path"
	"strings"
	"testing/fstest"
	"unicode/utf8"

	"edeploy/server/wire"
)

// Recording is everything that detection was told on one machine: enough to
// describe it again anywhere, which is how odd hardware becomes a test. Paths
// are relative to the root; none goes through a link.
type Recording struct {
	Comment   string                    `json:"comment"` // which machine, from where
	Files     map[string]string         `json:"files"`
	Binary    map[string][]byte         `json:"binary,omitempty"` // files that are not text
	Links     map[string]string         `json:"links"`            // targets of symbolic links
	Names     []string                  `json:"names,omitempty"`  // what is there, but was not read
	Programs  map[string]Program        `json:"programs,omitempty"`
	Addresses map[string][]netip.Prefix `json:"addresses,omitempty"`
	Ethtool   map[string]Ethtool        `json:"ethtool,omitempty"`
	NVMe      map[string]NVMe           `json:"nvme,omitempty"`
	LLDP      map[string]string         `json:"lldp,omitempty"` // what neighbours of network devices say, as lldptool -t -n prints it
}

// Program is how a command ended, by its words with blanks between.
type Program struct {
	Output
	Error string `json:"error,omitempty"` // it did not end by itself, or could not be started
}

// Record describes the machine, and answers all that the description was made
// of. An error is that of Hardware.
func (s Source) Record(ctx context.Context, comment string) (Recording, wire.Hardware, error) {
	s = s.whole()
	s.seen = newRecorder(comment)
	s = s.seen.questions(s)
	h, err := s.Hardware(ctx, nil)
	if err != nil {
		return Recording{}, nil, fmt.Errorf("record: %w", err)
	}
	return s.seen.end(), h, nil
}

// DecodeRecording reads the JSON of a recording; an error says what of it
// cannot be played.
func DecodeRecording(text []byte) (Recording, error) {
	var rec Recording
	if err := json.Unmarshal(text, &rec); err != nil {
		return rec, fmt.Errorf("read recording: %w", err)
	}
	return rec, rec.check()
}

// check refuses paths that are none and links that lead in circles.
func (rec Recording) check() error {
	for name := range rec.tree() {
		if !fs.ValidPath(name) {
			return fmt.Errorf("read recording: %q is no path below the root", name)
		}
	}
	for name := range rec.Links {
		if _, ok := rec.resolve(name); !ok {
			return fmt.Errorf("read recording: the link %s leads in a circle", name)
		}
	}
	return nil
}

// maxSteps bounds the way to a file: links may lead in circles.
const maxSteps = 100

// resolve follows the links on the way to a name.
func (rec Recording) resolve(name string) (string, bool) {
	return follow(name, func(link string) (string, bool) { target, ok := rec.Links[link]; return target, ok })
}

// follow walks a path, link by link.
func follow(name string, readLink func(string) (string, bool)) (string, bool) {
	place, rest := "", strings.Split(name, "/")
	for range maxSteps {
		if len(rest) == 0 {
			return place, true
		}
		next := path.Join(place, rest[0])
		rest = rest[1:]
		if target, ok := readLink(next); ok {
			rest = append(strings.Split(path.Join(place, target), "/"), rest...)
			next = ""
		}
		place = next
	}
	return "", false
}

// tree is the recorded machine's file system.
func (rec Recording) tree() fstest.MapFS {
	tree := fstest.MapFS{}
	for _, name := range rec.Names {
		tree[name] = &fstest.MapFile{Mode: fs.ModeDir | 0o555}
	}
	for name, text := range rec.Files {
		tree[name] = &fstest.MapFile{Data: []byte(text), Mode: 0o444}
	}
	for name, data := range rec.Binary {
		tree[name] = &fstest.MapFile{Data: data, Mode: 0o444}
	}
	for name, target := range rec.Links {
		tree[name] = &fstest.MapFile{Data: []byte(target), Mode: fs.ModeSymlink | 0o777}
	}
	return tree
}

// Source plays the recording.
func (rec Recording) Source() Source {
	return Source{
		FS: rec.tree(),
		Run: func(_ context.Context, argv ...string) (Output, error) {
			p, known := rec.Programs[strings.Join(argv, " ")]
			switch {
			case !known:
				return Output{}, exec.ErrNotFound
			case p.Error != "":
				return Output{}, errors.New(p.Error)
			}
			return p.Output, nil
		},
		Addresses: func(device string) []netip.Prefix { return rec.Addresses[device] },
		Ethtool:   func(device string) Ethtool { return rec.Ethtool[device] },
		LLDP:      func(context.Context) (map[string]string, error) { return rec.LLDP, nil },
		NVMe: func(disk string) (NVMe, error) {
			if answers, known := rec.NVMe[disk]; known {
				return answers, nil
			}
			return NVMe{}, fs.ErrNotExist
		},
	}
}

// note adds a file, or a name without content, with all links on the way.
func (rec Recording) note(fsys fs.FS, name string) (place string, ok bool) {
	return follow(name, func(link string) (string, bool) {
		target, err := fs.ReadLink(fsys, link)
		if err != nil {
			return "", false
		}
		rec.Links[link] = target
		return target, true
	})
}

func (rec Recording) content(place string, data []byte) {
	if utf8.Valid(data) {
		rec.Files[place] = string(data)
	} else {
		rec.Binary[place] = data
	}
}

// clone keeps a recording from what a probe that hangs may still add.
func (rec Recording) clone() Recording {
	rec.Files, rec.Binary, rec.Links = maps.Clone(rec.Files), maps.Clone(rec.Binary), maps.Clone(rec.Links)
	rec.Programs, rec.NVMe, rec.LLDP = maps.Clone(rec.Programs), maps.Clone(rec.NVMe), maps.Clone(rec.LLDP)
	rec.Addresses, rec.Ethtool = maps.Clone(rec.Addresses), maps.Clone(rec.Ethtool)
	return rec
}
