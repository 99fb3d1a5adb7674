package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// prompt starts an example in the README: the command, and its output below.
const prompt = "    $ edeployctl "

// TestReadme: the examples of the server's README are what the program prints.
// EDEPLOY_GOLDEN=1 writes them anew.
func TestReadme(t *testing.T) {
	readme, err := filepath.Abs("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(readme)
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(original)
	examples := 0
	var is strings.Builder
	lines := strings.SplitAfter(string(text), "\n")
	for i := 0; i < len(lines); i++ {
		is.WriteString(lines[i])
		command, ok := strings.CutPrefix(lines[i], prompt)
		if !ok {
			continue
		}
		examples++
		is.WriteString(indented(output(t, command)))
		for i+1 < len(lines) && inExample(lines[i+1:]) {
			i++
		}
	}
	if os.Getenv("EDEPLOY_GOLDEN") != "" {
		if err := os.WriteFile(readme, []byte(is.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(string(text), is.String()); diff != "" {
		t.Errorf("the README is not what the program prints; EDEPLOY_GOLDEN=1 writes it anew (-readme +program):\n%s", diff)
	}
	if examples < 3 {
		t.Errorf("the README has %d examples, want lint, match and match --all", examples)
	}
}

// output is what a command prints on both streams.
func output(t *testing.T, command string) string {
	t.Setenv("EDEPLOY_SERVER", "")
	var out, err bytes.Buffer
	run(t.Context(), strings.Fields(command), &out, &err)
	return out.String() + err.String()
}

// inExample: the next line belongs to the output, which is indented; empty
// lines within it do, too.
func inExample(rest []string) bool {
	for _, line := range rest {
		if strings.TrimSpace(line) != "" {
			return strings.HasPrefix(line, "    ") && !strings.HasPrefix(line, prompt)
		}
	}
	return false
}

func indented(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if line = strings.TrimRight(line, " \n"); line != "" {
			line = "    " + line
		}
		b.WriteString(line + "\n")
	}
	return b.String()
}
