package allocation

import (
	"errors"
	"fmt"
	"strings"

	"edeploy/server/internal/assign"
	"edeploy/server/internal/refusal"
)

// explain makes a refusal of an error of assign.
func explain(why *assign.Error) error {
	switch {
	case errors.Is(why, assign.ErrNoMatch):
		return refusal.New(refusal.NoMatch, "%s%s%s", why.Message, cures(why.Full), attempts(why.Tried))
	case errors.Is(why, assign.ErrStateExhausted):
		return refusal.New(refusal.Conflict, "%s%s%s", why.Message, cures(why.Full), attempts(why.Tried))
	case errors.Is(why, assign.ErrCMDBExhausted):
		return refusal.New(refusal.Conflict, "profile %s: %s All entries of %s.cmdb are used: edeployctl cmdb list %s", why.Profile, why.Message, why.Profile, why.Profile)
	case errors.Is(why, assign.ErrDiffers):
		return refusal.New(refusal.Conflict, "%s", why.Message)
	}
	kind, sentence := refusal.Broken, why.Message
	if errors.Is(why, assign.ErrCMDBNoEntry) {
		kind = refusal.Conflict
	}
	if why.Profile != "" && !strings.Contains(sentence, why.Profile) {
		sentence = "profile " + why.Profile + ": " + sentence
	}
	return refusal.New(kind, "%s", sentence)
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
