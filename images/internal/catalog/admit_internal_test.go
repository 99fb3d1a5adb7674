package catalog

import (
	"context"
	"testing"
	"time"

	"edeploy/server/api"
)

// One peer that unpacks large trees does not keep another one waiting.
func TestAdmits(t *testing.T) {
	c, err := Open(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	var told []string
	tell := func(p api.Publishing) { told = append(told, p.Step) }
	leave, err := c.admit(t.Context(), "a", tell)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.admit(t.Context(), "b", tell); err != nil {
		t.Fatal(err)
	}
	if len(told) > 0 {
		t.Errorf("two peers: %v", told)
	}
	gone, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := c.admit(gone, "a", tell); err == nil || len(told) != 1 {
		t.Errorf("a second tree of one peer: %v, %v", err, told)
	}
	leave()
	if _, err := c.admit(t.Context(), "a", tell); err != nil {
		t.Error(err)
	}
}
