package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"

	"edeploy/agent/internal/machine"
	"edeploy/agent/internal/sshd"
)

// logIn serves ssh on all of the machine's addresses.
func logIn(ctx context.Context, keys []byte) (said string, err error) {
	shell, env, err := machine.Shell()
	if err != nil {
		return "", err
	}
	server, err := sshd.New(shell, keys)
	if err != nil {
		return "", err
	}
	server.Env = env
	l, err := net.Listen("tcp", ":22")
	if err != nil {
		return "", err
	}
	go func() {
		if err := server.Serve(ctx, l); err != nil {
			fmt.Fprintln(os.Stderr, "login by ssh ended:", err)
		}
	}()
	return fmt.Sprintf("ssh root@%s opens a shell here, too (%s)", strings.Join(addresses(), " or "), server.Fingerprint()), nil
}

// addresses are those of the cards.
func addresses() []string {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return []string{"this machine"}
	}
	var names []string
	for _, a := range all {
		if is, ok := a.(*net.IPNet); ok && is.IP.IsGlobalUnicast() {
			names = append(names, is.IP.String())
		}
	}
	return names
}
