// Package sshd lets operators log in to a machine that runs the agent: one in
// the rescue shell, or one whose installation has failed. Who has one of the
// deployment's keys may; there are no passwords.
package sshd

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"sync"
	"time"

	"github.com/creack/pty"
	"github.com/gliderlabs/ssh"
	gossh "golang.org/x/crypto/ssh"
	"golang.org/x/net/netutil"
)

// Bounds of what strangers can take.
const (
	maxConnections = 64
	loginTime      = 30 * time.Second // until a session begins
)

// Server is a server for one shell. The zero value lets nobody in.
type Server struct {
	Shell string   // the program
	Env   []string // what it gets besides the environment of this process
	keys  []ssh.PublicKey
	host  gossh.Signer
}

// New reads the keys, in the form of OpenSSH's authorized_keys, and makes a key
// for this machine. Keys with options are left out: what they forbid would be
// allowed here. Without any that are left it is an error.
func New(shell string, keys []byte) (*Server, error) {
	s := &Server{Shell: shell}
	for len(keys) > 0 {
		key, _, options, rest, err := gossh.ParseAuthorizedKey(keys)
		if err != nil {
			break // there are no more
		}
		if keys = rest; len(options) == 0 {
			s.keys = append(s.keys, key)
		}
	}
	if len(s.keys) == 0 {
		return nil, errors.New("there is no key without options")
	}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	s.host, err = gossh.NewSignerFromKey(private)
	return s, err
}

// Fingerprint is that of the machine's own key: SHA256:...
func (s *Server) Fingerprint() string { return gossh.FingerprintSHA256(s.host.PublicKey()) }

// Serve lets operators in until ctx ends, which ends their sessions, too.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	server := &ssh.Server{
		Handler:          s.session,
		HostSigners:      []ssh.Signer{s.host},
		PublicKeyHandler: func(_ ssh.Context, key ssh.PublicKey) bool { return s.knows(key) },
		ConnCallback: func(ctx ssh.Context, conn net.Conn) net.Conn {
			_ = conn.SetDeadline(time.Now().Add(loginTime)) // a connection that is broken says so later
			ctx.SetValue(connection{}, conn)
			return conn
		},
	}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	err := server.Serve(netutil.LimitListener(l, maxConnections))
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// connection is the key of a session's connection.
type connection struct{}

func (s *Server) knows(key ssh.PublicKey) bool {
	return slices.ContainsFunc(s.keys, func(k ssh.PublicKey) bool { return ssh.KeysEqual(k, key) })
}

// session runs the shell, or a command in it, until that ends or the operator
// is gone.
func (s *Server) session(session ssh.Session) {
	if conn, ok := session.Context().Value(connection{}).(net.Conn); ok {
		_ = conn.SetDeadline(time.Time{})
	}
	cmd := exec.CommandContext(session.Context(), s.Shell)
	if command := session.RawCommand(); command != "" {
		cmd.Args = append(cmd.Args, "-c", command)
	}
	cmd.Env, cmd.Dir = append(os.Environ(), s.Env...), "/"
	cmd.WaitDelay = time.Second // for output of what the command left running
	run := plain
	if _, _, is := session.Pty(); is {
		run = inTerminal
	}
	err := run(session, cmd)
	if exit, is := errors.AsType[*exec.ExitError](err); is {
		_ = session.Exit(exit.ExitCode())
		return
	}
	if err != nil {
		fmt.Fprintln(session.Stderr(), err)
		_ = session.Exit(255)
		return
	}
	_ = session.Exit(0)
}

// plain runs a command without a terminal: input and output are the session's.
func plain(session ssh.Session, cmd *exec.Cmd) error {
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	cmd.Stdout, cmd.Stderr = session, session.Stderr()
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(in, session) // ends with the session, or the command
		in.Close()
	}()
	return cmd.Wait()
}

// inTerminal runs a command in a terminal of its own, as large as the
// operator's.
func inTerminal(session ssh.Session, cmd *exec.Cmd) error {
	asked, sizes, _ := session.Pty()
	cmd.Env = append(cmd.Env, "TERM="+asked.Term)
	terminal, err := pty.StartWithSize(cmd, winsize(asked.Window))
	if err != nil {
		return err
	}
	defer terminal.Close()
	done := make(chan struct{})
	var resizing sync.WaitGroup
	resizing.Go(func() {
		for {
			select {
			case size, more := <-sizes:
				if !more {
					return
				}
				_ = pty.Setsize(terminal, winsize(size))
			case <-done:
				return
			}
		}
	})
	defer resizing.Wait() // before the terminal is closed
	defer close(done)
	go io.Copy(terminal, session)
	_, _ = io.Copy(session, terminal) // EIO is the shell's end
	return cmd.Wait()
}

func winsize(w ssh.Window) *pty.Winsize {
	return &pty.Winsize{Rows: uint16(w.Height), Cols: uint16(w.Width)}
}
