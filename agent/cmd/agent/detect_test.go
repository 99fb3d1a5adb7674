package main

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edeploy/server/wire"
)

const recorded = "../../internal/detect/testdata/"

// A recording, an anonymous copy of it, and what they describe.
func TestDetect(t *testing.T) {
	anonymous := filepath.Join(t.TempDir(), "anonymous.json")
	var out, messages bytes.Buffer
	if err := runDetect(t.Context(), []string{"-play", recorded + "qemu.json", "-record", anonymous, "-anonymous", "-comment", "a try"}, &out, &messages); err != nil {
		t.Fatal(err)
	}
	if out.Len() > 0 || !strings.HasPrefix(messages.String(), anonymous+": ") {
		t.Errorf("it prints %q and %q", out.String(), messages.String())
	}
	text, err := os.ReadFile(anonymous)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "VM-0001") || !strings.Contains(string(text), `"comment": "a try"`) {
		t.Error("the recording is not anonymous, or has no comment")
	}
	for file, serial := range map[string]bool{recorded + "qemu.json": true, anonymous: false} {
		out.Reset()
		if err := runDetect(t.Context(), []string{"-play", file}, &out, &messages); err != nil {
			t.Fatal(err)
		}
		h, err := wire.DecodeHardware(&out)
		if err != nil {
			t.Fatal(err)
		}
		if id := h.Identity(); (id.Serial == "VM-0001") != serial || len(h) < 100 {
			t.Errorf("%s: %d facts of %v", file, len(h), id)
		}
	}
}

func TestDetectUsage(t *testing.T) {
	for args, want := range map[string]string{
		"-anonymous":                             "name a file with -record",
		"sda":                                    `no argument "sda"`,
		"-play missing":                          "no such file",
		"-play " + recorded + "qemu.golden.json": "read recording",
		"-record /nowhere/x -play " + recorded + "qemu.json": "write recording",
	} {
		var out, messages bytes.Buffer
		if err := runDetect(t.Context(), strings.Fields(args), &out, &messages); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("agent detect %s: got %v, want %q", args, err, want)
		}
	}
	var messages bytes.Buffer
	if err := runDetect(t.Context(), []string{"--help"}, &messages, &messages); !errors.Is(err, flag.ErrHelp) || !strings.Contains(messages.String(), "agent detect -record my.json") {
		t.Errorf("help: %v, %s", err, messages.String())
	}
}
