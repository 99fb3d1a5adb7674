package sshd_test

import (
	"context"
	"crypto/ed25519"
	"encoding/pem"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"edeploy/agent/internal/sshd"
	"edeploy/integration/needs"

	"golang.org/x/crypto/ssh"
)

// key makes a key pair: what an operator has, and its line in authorized_keys.
func key(t *testing.T) (ssh.Signer, ed25519.PrivateKey, string) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return signer, private, string(ssh.MarshalAuthorizedKey(signer.PublicKey()))
}

// serve lets the keys in until the test ends.
func serve(t *testing.T, keys string) (address, fingerprint string) {
	t.Helper()
	s, err := sshd.New("/bin/sh", []byte(keys))
	if err != nil {
		t.Fatal(err)
	}
	s.Env = []string{"GREETING=hello"}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String(), s.Fingerprint()
}

func dial(address string, auth ...ssh.AuthMethod) (*ssh.Client, error) {
	return ssh.Dial("tcp", address, &ssh.ClientConfig{User: "root", Auth: auth, HostKeyCallback: ssh.InsecureIgnoreHostKey(), Timeout: 10 * time.Second})
}

// TestKeys: whoever has a key is let in, and nobody else: without a key, with a
// password, with another key, with one that has options.
func TestKeys(t *testing.T) {
	mine, _, line := key(t)
	other, _, _ := key(t)
	bound, _, boundLine := key(t)
	address, _ := serve(t, "# operators\n\nno key\n"+line+`command="true" `+boundLine)
	for _, tt := range []struct {
		name string
		auth []ssh.AuthMethod
		good bool
	}{
		{"the key", []ssh.AuthMethod{ssh.PublicKeys(mine)}, true},
		{"another key", []ssh.AuthMethod{ssh.PublicKeys(other)}, false},
		{"a key with options", []ssh.AuthMethod{ssh.PublicKeys(bound)}, false},
		{"no key", nil, false},
		{"an empty password", []ssh.AuthMethod{ssh.Password("")}, false},
	} {
		client, err := dial(address, tt.auth...)
		if (err == nil) != tt.good {
			t.Errorf("%s: %v", tt.name, err)
		}
		if err == nil {
			client.Close()
		}
	}
	for _, none := range []string{"", "# none\n", `from="10.0.0.1" ` + boundLine} {
		if _, err := sshd.New("/bin/sh", []byte(none)); err == nil {
			t.Errorf("%q lets somebody in", none)
		}
	}
}

// newSession is one of an operator who has a key.
func newSession(t *testing.T) *ssh.Session {
	t.Helper()
	mine, _, line := key(t)
	address, _ := serve(t, line)
	client, err := dial(address, ssh.PublicKeys(mine))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	session, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	return session
}

// TestCommand: input, output, environment and exit status are the command's.
func TestCommand(t *testing.T) {
	session := newSession(t)
	session.Stdin = strings.NewReader("typed")
	var out, complaints strings.Builder
	session.Stdout, session.Stderr = &out, &complaints
	err := session.Run("echo $GREETING from $PWD; cat; echo oops >&2; exit 3")
	if out.String() != "hello from /\ntyped" || complaints.String() != "oops\n" {
		t.Errorf("%q, %q", &out, &complaints)
	}
	if exit, ok := errors.AsType[*ssh.ExitError](err); !ok || exit.ExitStatus() != 3 {
		t.Errorf("%v, want exit status 3", err)
	}
}

// TestTerminal: a shell in a terminal of the operator's size.
func TestTerminal(t *testing.T) {
	session := newSession(t)
	if err := session.RequestPty("vt220", 33, 77, nil); err != nil {
		t.Fatal(err)
	}
	session.Stdin = strings.NewReader("stty size; echo $TERM; exit\n")
	out, err := session.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := session.Shell(); err != nil {
		t.Fatal(err)
	}
	text := make(chan string)
	go func() {
		var all strings.Builder
		buf := make([]byte, 4096)
		for {
			n, err := out.Read(buf)
			all.Write(buf[:n])
			if err != nil {
				text <- all.String()
				return
			}
		}
	}()
	if got := <-text; !strings.Contains(got, "33 77") || !strings.Contains(got, "vt220") {
		t.Errorf("%q", got)
	}
}

// TestOpenSSH: with the client that operators have.
func TestOpenSSH(t *testing.T) {
	program := needs.Program(t, "ssh")
	_, private, line := key(t)
	address, fingerprint := serve(t, line)
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file, known := filepath.Join(dir, "key"), filepath.Join(dir, "known")
	if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(address)
	cmd := exec.Command(program, "-v", "-F", "none", "-i", file, "-p", port, "-o", "StrictHostKeyChecking=accept-new", "-o", "UserKnownHostsFile="+known,
		"root@127.0.0.1", "echo in; echo $((6 * 7))")
	var told strings.Builder
	cmd.Stderr = &told
	out, err := cmd.Output()
	if err != nil || string(out) != "in\n42\n" || !strings.Contains(told.String(), fingerprint) {
		t.Errorf("%v, %q\n%s", err, out, &told)
	}
}
