package httpd

import (
	"net/http"

	"edeploy/server/api"
	"edeploy/server/internal/allocation"
	"edeploy/server/internal/refusal"
	"edeploy/server/internal/transaction"
)

// shownForgotten is the public form.
func shownForgotten(f allocation.Forgotten) api.Forgotten {
	r := f.Record
	shown := api.Forgotten{ID: r.ID, DisplayName: r.DisplayName(), MACs: r.MACs, State: string(r.State), Time: f.Time}
	if a := r.Allocation; a != nil {
		shown.Section, shown.Profile, shown.Counted = a.Section, a.Profile, a.Counted
		shown.CMDB, shown.Entry = a.Before, plainValues(a.Before)
	}
	return shown
}

func (h *Handlers) listForgotten(*http.Request) (any, error) {
	kept, broken, err := allocation.ReadForgotten(h.Store)
	h.Late.Note(broken)
	all := []api.Forgotten{}
	for _, k := range kept {
		all = append(all, shownForgotten(k))
	}
	return all, err
}

// deleteMachine forgets a machine; what it holds is given back.
func (h *Handlers) deleteMachine(r *http.Request) (any, error) {
	out, err := h.Decide(r.Context(), func(snapshot *allocation.Snapshot) (allocation.Outcome, allocation.Changes, error) {
		return allocation.Forget(snapshot, r.PathValue("id"), r.URL.Query().Get("force") == "1")
	}, transaction.Alone, h.Site.Sections()...)
	if err != nil {
		return nil, err
	}
	h.Activity.Forget(out.Record.ID)
	return shownForgotten(allocation.Forgotten{Time: out.Lines[0].Time, Record: out.Record}), h.Explanations.Forget(out.Record.ID)
}

// restoreMachine takes a forgotten machine back, with what it held.
func (h *Handlers) restoreMachine(r *http.Request) (any, error) {
	out, err := h.Decide(r.Context(), func(snapshot *allocation.Snapshot) (allocation.Outcome, allocation.Changes, error) {
		return allocation.Restore(snapshot, r.PathValue("id"))
	}, transaction.Alone, h.Site.Sections()...)
	return h.show(out.Record), err
}

// deleteStrangers forgets all machines that nobody needs, and answers how many.
func (h *Handlers) deleteStrangers(r *http.Request) (any, error) {
	if r.URL.Query().Get("strangers") != "1" {
		return nil, refusal.New(refusal.Input, "only the machines that nobody needs are forgotten together: say ?strangers=1")
	}
	var gone api.ForgottenStrangers
	_, err := h.Decide(r.Context(), func(snapshot *allocation.Snapshot) (allocation.Outcome, allocation.Changes, error) {
		c := allocation.ForgetStrangers(snapshot)
		gone.Forgotten = len(c.Removed)
		return allocation.Outcome{}, c, nil
	}, transaction.Alone)
	return gone, err
}
