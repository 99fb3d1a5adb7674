package rack

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"edeploy/integration/lab"
)

// Key is the operator's ssh key, made for this rack.
type Key struct {
	Signer     ssh.Signer
	Authorized string // the line for authorized_keys
	File       string // private key, for a person's ssh
}

// NewKey makes a key and writes it to file.
func NewKey(file string) (*Key, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKey(private, "edeploy lab")
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
		return nil, err
	}
	line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey())))
	return &Key{Signer: signer, Authorized: line, File: file}, nil
}

// longestCommand bounds a command on an installed machine: an upgrade takes less
// than a minute on a machine with KVM that has nothing else to do.
const longestCommand = 5 * time.Minute

// SSH logs into an installed machine as root and runs a command; it waits for
// the machine to let it in. What the command printed comes back; a command
// that fails is an error that carries it.
func (r *Rack) SSH(ctx context.Context, key *Key, host netip.Addr, command string) (string, error) {
	ctx, cancel := lab.Deadline(ctx, longestCommand)
	defer cancel()
	client, err := r.login(ctx, key, host)
	if err != nil {
		return "", fmt.Errorf("ssh root@%s: %w", host, err)
	}
	defer client.Close()
	stop := context.AfterFunc(ctx, func() { client.Close() })
	defer stop()
	session, err := client.NewSession()
	if err != nil {
		return "", fmt.Errorf("ssh root@%s: %w", host, err)
	}
	defer session.Close()
	out, err := session.CombinedOutput(command)
	if err != nil {
		return string(out), fmt.Errorf("ssh root@%s %q: %w\n%s", host, command, err, out)
	}
	return string(out), nil
}

// AwaitLogin waits until a machine that is booting lets the operator in.
func (r *Rack) AwaitLogin(ctx context.Context, vm *lab.VM, key *Key, host netip.Addr) error {
	defer r.Lab.Timeline.Begin(vm.Name(), "reboot to first login")()
	defer r.followConsole(vm)()
	_, err := r.SSH(ctx, key, host, "true")
	return err
}

func (r *Rack) login(ctx context.Context, key *Key, host netip.Addr) (*ssh.Client, error) {
	var client *ssh.Client
	err := try(ctx, 2*time.Second, func() (err error) {
		client, err = r.tryLogin(ctx, key, host)
		return err
	})
	return client, err
}

func (r *Rack) tryLogin(ctx context.Context, key *Key, host netip.Addr) (*ssh.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, lab.Patience(10*time.Second))
	defer cancel()
	conn, err := r.Laptop.DialContext(ctx, "tcp", net.JoinHostPort(host.String(), "22"))
	if err != nil {
		return nil, err
	}
	deadline, _ := ctx.Deadline()
	conn.SetDeadline(deadline)
	c, channels, requests, err := ssh.NewClientConn(conn, host.String(), &ssh.ClientConfig{
		User: "root",
		Auth: []ssh.AuthMethod{ssh.PublicKeys(key.Signer)},
		// A freshly installed machine makes its host keys at its first boot:
		// there is nothing yet to compare with on this private wire.
		HostKeyCallback: ssh.InsecureIgnoreHostKey(),
	})
	if err != nil {
		conn.Close()
		return nil, err
	}
	conn.SetDeadline(time.Time{})
	return ssh.NewClient(c, channels, requests), nil
}
