package httpd

import (
	"net/http"

	"edeploy/server/api"
	"edeploy/server/internal/allocation"
	"edeploy/server/internal/awaited"
	"edeploy/server/internal/refusal"
	"edeploy/server/internal/transaction"
)

// installAnyway lets pass what a machine has otherwise than expected.
func (h *Handlers) installAnyway(r *http.Request) (any, error) {
	return h.decideShown(r, func(snapshot *allocation.Snapshot) (allocation.Outcome, allocation.Changes, error) {
		return allocation.InstallAnyway(snapshot, r.PathValue("id"))
	})
}

// maxTogether bounds the records of one change: a shared store takes no more
// than 128 documents at once.
const maxTogether = 100

// importExpected takes in a list of machines that are to come. Nothing of one
// with a mistake is taken.
func (h *Handlers) importExpected(r *http.Request) (any, error) {
	text, err := readBody(r, awaited.MaxBytes, "the list of machines")
	if err != nil {
		return nil, err
	}
	all, err := awaited.Parse(string(text))
	if err != nil {
		return nil, refusal.New(refusal.Unusable, "%v", err)
	}
	if err := (allocation.Import{Machines: all}).Check(h.Snapshot()); err != nil {
		return nil, err
	}
	var done api.Imported
	for len(all) > 0 {
		n := min(len(all), maxTogether)
		var some api.Imported
		_, err := h.Decide(r.Context(), func(snapshot *allocation.Snapshot) (_ allocation.Outcome, c allocation.Changes, err error) {
			some, c, err = allocation.Import{Machines: all[:n]}.Decide(snapshot)
			return allocation.Outcome{}, c, err
		}, transaction.Alone)
		if err != nil && done == (api.Imported{}) {
			return nil, err
		}
		if err != nil {
			return nil, refusal.New(refusal.Broken, "the machines from line %d on are not taken, those before are; bring the list again: %w", all[0].Line, err)
		}
		done.Added, done.Changed, done.Unchanged = done.Added+some.Added, done.Changed+some.Changed, done.Unchanged+some.Unchanged
		all = all[n:]
	}
	return done, nil
}
