package httpd

import (
	"bufio"
	"cmp"
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"edeploy/server/api"
	"edeploy/server/internal/allocation"
	"edeploy/server/internal/machine"
	"edeploy/server/internal/refusal"
	"edeploy/server/internal/transaction"
	"edeploy/server/wire"
)

// historyShown is how many lines the API shows.
const historyShown = 500

func (h *Handlers) operatorRoutes() []route {
	ok := func(do action) http.HandlerFunc { return h.json(http.StatusOK, do) }
	return []route{
		{"GET", "/api/v1/machines", h.listMachines},
		{"POST", "/api/v1/machines", h.json(http.StatusCreated, h.addMachine)},
		{"DELETE", "/api/v1/machines", ok(h.deleteStrangers)},
		{"GET", "/api/v1/machines/{id}", ok(h.showMachine)},
		{"GET", "/api/v1/machines/{id}/explanation", ok(h.showExplanation)},
		{"PUT", "/api/v1/machines/{id}/section", ok(h.putSection)},
		{"DELETE", "/api/v1/machines/{id}", ok(h.deleteMachine)},
		{"POST", "/api/v1/machines/{id}/restore", ok(h.restoreMachine)},
		{"GET", "/api/v1/forgotten", ok(h.listForgotten)},
		{"GET", "/api/v1/machines/{id}/hardware", h.showHardware},
		{"GET", "/api/v1/machines/{id}/logs", ok(h.listLogs)},
		{"GET", "/api/v1/machines/{id}/logs/{name}", h.showLog},
		{"PUT", "/api/v1/machines/{id}/boot", ok(h.putBoot)},
		{"POST", "/api/v1/machines/{id}/anyway", ok(h.installAnyway)},
		{"POST", "/api/v1/machines/{id}/wipe-anyway", ok(h.wipeAnyway)},
		{"POST", "/api/v1/expected", ok(h.importExpected)},
		{"PUT", "/api/v1/machines/{id}/loader", ok(h.putLoader)},
		{"GET", "/api/v1/config", ok(h.listConfig)},
		{"PUT", "/api/v1/config/{section}", h.replaceConfig},
		{"GET", "/api/v1/config/{section}/{name}", h.showConfigFile},
		{"PUT", "/api/v1/config/{section}/{name}", h.replaceConfig},
		{"DELETE", "/api/v1/config/{section}/{name}", h.replaceConfig},
		{"GET", "/api/v1/version", ok(func(*http.Request) (any, error) { return h.Version, nil })},
		{"GET", "/api/v1/problems", ok(func(*http.Request) (any, error) { return h.Problems.All(), nil })},
	}
}

// named finds the machine that a request is about.
func (h *Handlers) named(r *http.Request) (machine.Record, error) {
	return allocation.Named(h.Records.Index(), r.PathValue("id"))
}

func (h *Handlers) listMachines(w http.ResponseWriter, r *http.Request) {
	h.answerLong(w, r, "application/json", func(out *bufio.Writer) error {
		before, end := "[\n  ", "[]\n"
		for _, rec := range h.Records.Index().All() {
			text, err := json.MarshalIndent(h.show(rec), "  ", "  ")
			if err != nil {
				return err
			}
			if _, err := out.WriteString(before + string(text)); err != nil {
				return err
			}
			before, end = ",\n  ", "\n]\n"
		}
		_, err := out.WriteString(end)
		return err
	})
}

func (h *Handlers) showMachine(r *http.Request) (any, error) {
	rec, err := h.named(r)
	if err != nil {
		return nil, err
	}
	m := h.show(rec)
	if m.History, err = h.Activity.History.Tail(rec.ID, historyShown); err != nil {
		h.Late.Add(rec.Section, "%v", err)
	}
	return m, nil
}

// show makes the public form of a record.
func (h *Handlers) show(r machine.Record) api.Machine {
	m := api.Machine{ID: r.ID, DisplayName: r.DisplayName(), MACs: r.MACs, FormerMACs: r.FormerMACs, UUID: r.UUID, Serial: r.Serial,
		Name: r.Name, Hardware: r.HardwareFile, Section: r.Section, BootSection: r.BootSection, State: string(r.State), Since: r.Since,
		Boot: string(r.Boot), NextBoot: r.BootAction(), Loader: cmp.Or(r.Loader, api.AnyLoader), Model: r.Model, LastError: r.LastError, Expected: r.Expected, Differs: r.Differs, Foreign: r.Foreign, Wipe: r.Wipe}
	if h.Loaders != nil {
		m.Loaders = h.Loaders(r.MACs)
	}
	if r.Image != (wire.ImageRef{}) {
		m.Image = &r.Image
	}
	if a := r.Allocation; a != nil {
		m.Allocation = &api.Allocation{Profile: a.Profile, Section: a.Section, Counted: a.Counted, Var: a.Var, Variables: plainValues(a.Var),
			CMDB: a.After, Entry: plainValues(a.After), Given: a.Given, Asked: a.Asked, Installed: a.Installed}
	}
	m.Now, m.Progress = h.Activity.Of(r, h.Now())
	return m
}

func (h *Handlers) showExplanation(r *http.Request) (any, error) {
	rec, err := h.named(r)
	if err != nil {
		return nil, err
	}
	e, err := h.Explanations.Of(rec.ID)
	e.Now, _ = h.Activity.Of(rec, h.Now())
	return e, err
}

// decideShown makes a decision about a machine and shows the machine.
func (h *Handlers) decideShown(r *http.Request, decision transaction.Decision) (any, error) {
	out, err := h.Decide(r.Context(), decision, transaction.Together)
	return h.show(out.Record), err
}

func (h *Handlers) addMachine(r *http.Request) (any, error) {
	var body api.NewMachine
	if err := readJSON(r, &body, "{\"mac\": \"52:54:00:12:34:56\", \"machine\": \"\"}"); err != nil {
		return nil, err
	}
	mac, err := allocation.ParseMAC(body.MAC)
	if err != nil {
		return nil, err
	}
	return h.decideShown(r, func(snapshot *allocation.Snapshot) (allocation.Outcome, allocation.Changes, error) {
		return allocation.Add(snapshot, mac, body.Machine)
	})
}

// putSection sets the deployment that a machine belongs to. A MAC address that
// is not known yet becomes known.
func (h *Handlers) putSection(r *http.Request) (any, error) {
	var body api.NewSection
	if err := readJSON(r, &body, "{\"section\": \"LAB\"}"); err != nil {
		return nil, err
	}
	if body.Section != "" && h.Site.Deployments[body.Section] == nil {
		return nil, refusal.New(refusal.Input, "edeploy.conf has no section %q", refusal.Clip(body.Section, 100))
	}
	return h.decideShown(r, func(snapshot *allocation.Snapshot) (allocation.Outcome, allocation.Changes, error) {
		return allocation.SetSection(snapshot, r.PathValue("id"), body.Section)
	})
}

// putLoader pins a machine to a loader.
func (h *Handlers) putLoader(r *http.Request) (any, error) {
	var body api.NewLoader
	if err := readJSON(r, &body, "{\"loader\": \"ipxe\"}"); err != nil {
		return nil, err
	}
	switch {
	case body.Loader == api.AnyLoader:
		body.Loader = ""
	case !slices.Contains(api.Loaders, body.Loader):
		return nil, refusal.New(refusal.Input, "loader %q: want %s or %s", refusal.Clip(body.Loader, 100), strings.Join(api.Loaders, ", "), api.AnyLoader)
	}
	return h.decideShown(r, func(snapshot *allocation.Snapshot) (allocation.Outcome, allocation.Changes, error) {
		return allocation.SetLoader(snapshot, r.PathValue("id"), body.Loader)
	})
}

// wipeAnyway lets a machine overwrite what has stopped its installation.
func (h *Handlers) wipeAnyway(r *http.Request) (any, error) {
	return h.decideShown(r, func(snapshot *allocation.Snapshot) (allocation.Outcome, allocation.Changes, error) {
		return allocation.WipeAnyway(snapshot, r.PathValue("id"))
	})
}

// putBoot sets what the operator wants a machine to boot.
func (h *Handlers) putBoot(r *http.Request) (any, error) {
	var body api.NewBoot
	if err := readJSON(r, &body, "{\"action\": \"reinstall\"}"); err != nil {
		return nil, err
	}
	boot, err := machine.ParseBoot(body.Action)
	if err != nil {
		return nil, refusal.New(refusal.Input, "%v", err)
	}
	return h.decideShown(r, func(snapshot *allocation.Snapshot) (allocation.Outcome, allocation.Changes, error) {
		return allocation.SetBoot(snapshot, r.PathValue("id"), boot)
	})
}
