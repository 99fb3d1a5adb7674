package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"unicode/utf8"

	"edeploy/server/api"
	"edeploy/server/internal/fileset"
	"edeploy/server/internal/lint"
)

type configPush struct {
	client       *api.Client
	section, dir string
	prune, force bool
}

func (c configPush) run(ctx context.Context, out io.Writer) error {
	files, err := readProfiles(c.dir)
	if err != nil {
		return err
	}
	told, err := c.lint(ctx, out, files)
	if err != nil {
		return err
	}
	r, err := c.client.PutConfigFiles(ctx, c.section, api.ConfigSet{Files: files, Prune: c.prune}, c.force)
	if err != nil {
		return refusedFiles(out, err)
	}
	r.Warnings = slices.DeleteFunc(r.Warnings, func(p api.Problem) bool { return told[spot{p.File, p.Line, p.Column}] })
	printReplaced(out, r)
	return nil
}

type spot struct {
	file         string
	line, column int
}

// lint looks at the files as lint does, together with the others that the
// server will have; what is wrong with them is printed, in lint's words. told
// are the places. Errors refuse the push, unless it is forced.
func (c configPush) lint(ctx context.Context, out io.Writer, files map[string]string) (told map[spot]bool, err error) {
	all, err := c.others(ctx, files)
	if err != nil {
		return nil, err
	}
	maps.Copy(all, files)
	told = map[spot]bool{}
	wrong := map[string]bool{}
	var known lint.Known
	if known.First, known.Last, err = dhcpRange(ctx, c.client); err != nil {
		return nil, err
	}
	for _, f := range lint.Files(all, known).Findings {
		if _, mine := files[f.File]; !mine {
			continue
		}
		fmt.Fprintln(out, printable(f.String()))
		told[spot{f.File, f.Line, f.Column}] = true
		if f.Severity == lint.Error {
			wrong[f.File] = true
		}
	}
	if len(wrong) == 0 || c.force {
		return told, nil
	}
	return nil, fmt.Errorf("nothing was changed: %s; --force brings them all the same", mistakesIn(slices.Sorted(maps.Keys(wrong))))
}

// mistakesIn names files with mistakes, or counts them.
func mistakesIn(files []string) string {
	if len(files) == 1 {
		return printable(files[0]) + " has mistakes"
	}
	return plural(len(files), "file") + " have mistakes"
}

// others are the server's files that stay when these come.
func (c configPush) others(ctx context.Context, files map[string]string) (map[string]string, error) {
	listed, err := deploymentFiles(ctx, c.client, c.section)
	if err != nil {
		return nil, err
	}
	others := map[string]string{}
	for _, f := range listed {
		name, err := fileset.ParseName(f.Name)
		_, replaced := files[f.Name]
		if err != nil || replaced || name.Kind == fileset.Original || c.prune && name.Profile != "" {
			continue
		}
		text, _, err := c.client.ConfigFile(ctx, c.section, f.Name)
		if err != nil {
			return nil, fmt.Errorf("read %s of the server: %w", f.Name, err)
		}
		others[f.Name] = string(text)
	}
	return others, nil
}

func deploymentFiles(ctx context.Context, client *api.Client, section string) ([]api.ConfigFile, error) {
	all, err := client.ConfigFiles(ctx)
	return slices.DeleteFunc(all, func(f api.ConfigFile) bool { return f.Section != section }), err
}

func readProfiles(dir string) (map[string]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	files := map[string]string{}
	for _, e := range entries {
		name, err := fileset.ParseName(e.Name())
		if err != nil || name.Kind == fileset.Original {
			continue
		}
		text, err := readProfile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		if !utf8.ValidString(text) { // JSON could not carry it to the server
			return nil, errors.New(fileset.Check(name, text)[0].Text)
		}
		files[e.Name()] = text
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("%s holds no profiles: want state, authorized_keys, NAME.specs, NAME.configure, NAME.cmdb, NAME.bill", dir)
	}
	return files, nil
}

func readProfile(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("%s is no regular file", path)
	}
	if info.Size() > fileset.MaxFileBytes {
		return "", fmt.Errorf("%s has %d bytes, more than %d", path, info.Size(), fileset.MaxFileBytes)
	}
	text, err := os.ReadFile(path)
	return string(text), err
}
