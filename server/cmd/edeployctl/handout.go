package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"edeploy/server/api"
	"edeploy/server/internal/fileset"
	"edeploy/server/internal/lint"
	"edeploy/server/internal/state"
	"edeploy/server/wire"
)

// handingOut names the profiles of all deployments whose scripts ask for an
// image by its name, as "vm" or "vm of deployment LAB", sorted. Profiles that
// their state file does not list are given to nobody; without a state file that
// can be read, all count.
func handingOut(ctx context.Context, client *api.Client, ref wire.ImageRef) ([]string, error) {
	all, err := client.ConfigFiles(ctx)
	if err != nil {
		return nil, err
	}
	listed := map[string]*state.State{} // by deployment
	for _, f := range all {
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
	var names []string
	for _, f := range all {
		name, err := fileset.ParseName(f.Name)
		st := listed[f.Section]
		if err != nil || name.Kind != fileset.Configure || st != nil && st.Find(name.Profile) < 0 {
			continue
		}
		text, _, err := client.ConfigFile(ctx, f.Section, f.Name)
		if err != nil {
			return nil, err
		}
		if slices.Contains(lint.Roles(string(text)), ref) {
			names = append(names, profileOf(name.Profile, f.Section))
		}
	}
	slices.Sort(names)
	return names, nil
}

// profileOf names a profile; that of the default deployment by itself.
func profileOf(name, section string) string {
	if section == defaultSection {
		return name
	}
	return name + " of deployment " + section
}

// handedOut is the sentence about profiles that hand out an image; "": none.
func handedOut(ref wire.ImageRef, profiles []string) string {
	switch len(profiles) {
	case 0:
		return ""
	case 1:
		return fmt.Sprintf("profile %s gives %s to machines", profiles[0], ref)
	}
	return fmt.Sprintf("profiles %s give %s to machines", strings.Join(profiles, ", "), ref)
}
