package agent_test

import (
	"testing"

	"edeploy/integration/needs"
)

// The walks of an installation and of an upgrade.
func TestWalks(t *testing.T) { needs.Walks(t, "agent", 2, 25) }
