package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"edeploy/agent/dialect"
	"edeploy/server/api"
	"edeploy/server/internal/fileset"
	"edeploy/server/internal/state"
	"edeploy/server/wire"
)

// handedOut is the sentence about the profiles of all deployments whose scripts
// ask for an image by its name, as "vm" or "vm of deployment LAB"; "": there is
// none. Profiles that their state file does not list are given to nobody; without
// a state file that can be read, all count.
func handedOut(ctx context.Context, client *api.Client, ref wire.ImageRef) (string, error) {
	v, err := client.Version(ctx)
	if err != nil {
		return "", err
	}
	if slices.Contains(v.Addons, ref) {
		return fmt.Sprintf("[BOOT] ADDONS gives %s to all machines", ref), nil
	}
	all, err := client.ConfigFiles(ctx)
	if err != nil {
		return "", err
	}
	listed, err := states(ctx, client, all)
	if err != nil {
		return "", err
	}
	var names []string
	for _, f := range all {
		name, err := fileset.ParseName(f.Name)
		st := listed[f.Section]
		if err != nil || name.Kind != fileset.Configure || st != nil && st.Find(name.Profile) < 0 {
			continue
		}
		text, _, err := client.ConfigFile(ctx, f.Section, f.Name)
		if err != nil {
			return "", err
		}
		if images, _ := dialect.Roles(string(text)); slices.Contains(images, ref) {
			if f.Section != defaultSection {
				name.Profile += " of deployment " + f.Section
			}
			names = append(names, name.Profile)
		}
	}
	slices.Sort(names)
	switch len(names) {
	case 0:
		return "", nil
	case 1:
		return fmt.Sprintf("profile %s gives %s to machines", names[0], ref), nil
	}
	return fmt.Sprintf("profiles %s give %s to machines", strings.Join(names, ", "), ref), nil
}

// states are the state files among these that can be read, by deployment.
func states(ctx context.Context, client *api.Client, files []api.ConfigFile) (map[string]*state.State, error) {
	listed := map[string]*state.State{} // by deployment
	for _, f := range files {
		if f.Name != stateFile {
			continue
		}
		text, _, err := client.ConfigFile(ctx, f.Section, f.Name)
		if err != nil {
			return nil, err
		}
		if st, err := state.Parse(stateFile, string(text)); err == nil {
			listed[f.Section] = st
		}
	}
	return listed, nil
}
