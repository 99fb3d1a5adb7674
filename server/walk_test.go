package server_test

import (
	"testing"

	"edeploy/integration/needs"
)

// The walk of an upload.
func TestWalk(t *testing.T) { needs.Walks(t, "server", 1, 20) }
