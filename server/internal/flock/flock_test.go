package flock_test

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"edeploy/server/internal/flock"
)

func TestExcludes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	first, err := flock.Try(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := flock.Try(path); !errors.Is(err, flock.ErrHeld) {
		t.Errorf("second Try: got %v, want ErrHeld", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Millisecond)
	defer cancel()
	if _, err := flock.Take(ctx, path); !errors.Is(err, flock.ErrHeld) {
		t.Errorf("Take until the deadline: got %v, want ErrHeld", err)
	}
	taken := make(chan error)
	go func() {
		l, err := flock.Take(context.Background(), path)
		if err == nil {
			err = l.Release()
		}
		taken <- err
	}()
	if err := first.Release(); err != nil {
		t.Fatal(err)
	}
	if err := <-taken; err != nil {
		t.Errorf("Take after the release: %v", err)
	}
}

// TestDiesWithProcess: a holder that is killed locks nobody out.
func TestDiesWithProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	holder := exec.Command(os.Args[0], "-test.run=^TestHolder$")
	holder.Env = append(os.Environ(), "FLOCK_HOLD="+path)
	out, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "held\n" {
		t.Fatalf("holder says %q, %v", line, err)
	}
	if _, err := flock.Try(path); !errors.Is(err, flock.ErrHeld) {
		t.Errorf("while it is held: got %v, want ErrHeld", err)
	}
	if err := holder.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = holder.Wait() // killed, as meant
	if l, err := flock.Try(path); err != nil {
		t.Errorf("after kill -9 of the holder: %v", err)
	} else if err := l.Release(); err != nil {
		t.Error(err)
	}
}

// TestHolder is the other process of TestDiesWithProcess.
func TestHolder(t *testing.T) {
	path := os.Getenv("FLOCK_HOLD")
	if path == "" {
		t.Skip("only as the other process of TestDiesWithProcess")
	}
	if _, err := flock.Try(path); err != nil {
		t.Fatal(err)
	}
	os.Stdout.WriteString("held\n")
	select {} // until killed
}

func TestNoDirectory(t *testing.T) {
	if _, err := flock.Try(filepath.Join(t.TempDir(), "none", "lock")); err == nil || errors.Is(err, flock.ErrHeld) {
		t.Errorf("got %v, want an error about the file", err)
	}
}
