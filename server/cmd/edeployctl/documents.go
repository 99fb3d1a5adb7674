package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"

	"edeploy/server/api"
	"edeploy/server/internal/state"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"
)

// documents are the configuration files of a deployment.
type documents interface {
	// get answers a file and its version; fs.ErrNotExist when there is none.
	get(ctx context.Context, name string) (text, version string, err error)
	// put replaces a file, if it still is that version; else api.ErrChanged.
	put(ctx context.Context, name, text, version string) error
}

const stateFile = "state"

// place says where configuration files are: on the server, or in a directory.
type place struct {
	client       *api.Client
	section, dir string
}

func (p *place) flags(cmd *cobra.Command) {
	addSectionFlag(cmd, &p.section)
	cmd.Flags().StringVar(&p.dir, "config", "", "work on this directory instead of the server")
}

func (p *place) state(ctx context.Context) (*state.State, error) {
	text, _, err := p.documents().get(ctx, stateFile)
	if err != nil {
		return nil, err
	}
	return state.Parse(stateFile, text)
}

// complete names the profiles, for a first argument.
func (p *place) complete(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	return completes(func(ctx context.Context, before []string) []string {
		st, err := p.state(ctx)
		if err != nil || len(before) > 0 {
			return nil
		}
		return profilesOf(st)
	})(cmd, args, prefix)
}

func (p *place) documents() documents {
	if p.dir != "" {
		return directory(p.dir)
	}
	return deployment{p.client, p.section}
}

// maxTries bounds how often a change is begun again because machines changed
// the file meanwhile.
const maxTries = 10

// change reads a file, lets edit decide on the new text, and replaces it;
// again, when somebody was quicker.
func change(ctx context.Context, d documents, name string, edit func(text string) (string, error)) error {
	for range maxTries {
		text, version, err := d.get(ctx, name)
		if err != nil {
			return err
		}
		after, err := edit(text)
		if err != nil || after == text {
			return err
		}
		if err = d.put(ctx, name, after, version); !errors.Is(err, api.ErrChanged) {
			return err
		}
	}
	return fmt.Errorf("replace %s: it changed %d times meanwhile: try again", name, maxTries)
}

// directory is a configuration directory; versions are texts.
type directory string

func (d directory) get(_ context.Context, name string) (text, version string, err error) {
	b, err := os.ReadFile(filepath.Join(string(d), name))
	return string(b), string(b), err
}

func (d directory) put(ctx context.Context, name, text, version string) error {
	now, _, err := d.get(ctx, name)
	if err != nil {
		return err
	}
	if now != version {
		return api.ErrChanged
	}
	path := filepath.Join(string(d), name)
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	return renameio.WriteFile(path, []byte(text), info.Mode().Perm(), renameio.WithExistingPermissions())
}

// deployment is a deployment of a server; versions are ETags.
type deployment struct {
	client  *api.Client
	section string
}

func (d deployment) get(ctx context.Context, name string) (text, version string, err error) {
	body, version, err := d.client.ConfigFile(ctx, d.section, name)
	if api.StatusOf(err) == http.StatusNotFound {
		err = fmt.Errorf("%w: %w", err, fs.ErrNotExist)
	}
	return string(body), version, err
}

func (d deployment) put(ctx context.Context, name, text, version string) error {
	return d.client.PutConfigFile(ctx, d.section, name, text, version)
}
