package allocation

import (
	"errors"
	"fmt"
	"strings"

	"edeploy/server/internal/assign"
	"edeploy/server/internal/refusal"
)

// explain makes a refusal of an error of assign.
func explain(err error) error {
	var known *refusal.Error
	if errors.As(err, &known) {
		return err
	}
	kind := refusal.Broken
	switch {
	case errors.Is(err, assign.ErrNoMatch):
		kind = refusal.NoMatch
	case errors.Is(err, assign.ErrStateExhausted), errors.Is(err, assign.ErrCMDBExhausted), errors.Is(err, assign.ErrCMDBNoEntry):
		kind = refusal.Conflict
	}
	var why *assign.Error
	switch {
	case !errors.As(err, &why):
	case errors.Is(err, assign.ErrNoMatch), errors.Is(err, assign.ErrStateExhausted):
		return refusal.New(kind, "%s%s%s", why.Message, cures(why.Full), attempts(why.Tried))
	case errors.Is(err, assign.ErrCMDBExhausted):
		return refusal.New(kind, "profile %s: %s All entries of %s.cmdb are used: edeployctl cmdb list %s", why.Profile, why.Message, why.Profile, why.Profile)
	case why.Profile != "" && !strings.Contains(why.Message, why.Profile):
		return refusal.New(kind, "profile %s: %s", why.Profile, why.Message)
	}
	return refusal.New(kind, "%v", err)
}

// cures tells which profiles would fit if their count were not 0.
func cures(full []string) string {
	var list strings.Builder
	for _, name := range full {
		fmt.Fprintf(&list, "; %s fits, but its count is 0: edeployctl state set %s N", name, name)
	}
	return list.String()
}

// Bounds of what a refusal lists on a machine's console.
const (
	maxAttempts = 50 // profiles
	maxClosest  = 5  // of these, with the fact that came closest
)

// attempts lists why the profiles do not fit, one a line, the first ones with
// the fact that came closest.
func attempts(tried assign.Tries) string {
	var list strings.Builder
	for i, a := range tried.Attempts(maxAttempts) {
		fmt.Fprintf(&list, "\n  %s: %s", a.Profile, a.Reason)
		if closest := a.Closest(); closest != "" && i < maxClosest {
			fmt.Fprintf(&list, "\n    closest: %s", closest)
		}
	}
	if more := len(tried) - maxAttempts; more > 0 {
		fmt.Fprintf(&list, "\n  ... and %d more profiles", more)
	}
	return list.String()
}
