package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"edeploy/integration/lab"
	"edeploy/integration/rack"
)

// commands is what the kept demo understands.
const commands = `Here you do what hands do in a rack:
  add            another blank machine, switched on; it is installed
  cycle NAME     cut a machine's power and switch it on again
  off NAME       cut its power
  on NAME        switch it on
  list           the machines, and how to log in
  quit           switch everything off (Ctrl-C, too)
`

// ideas is what to try: the appliance's HTTP address, the first machine's
// Ethernet address, the directory of the profiles, role, version and the next
// version.
const ideas = `
In another terminal you are the operator:
  export EDEPLOY_SERVER=%[1]s PATH=$PWD/out/bin:$PATH
  edeployctl machines --watch                    who is there, and what they do
  edeployctl machines %[2]s          the history of machine1
  edeployctl reinstall %[2]s         then, here: cycle machine1
  edeployctl hold %[2]s              then, here: cycle machine1; boot-auto ends it
  edeployctl rescue %[2]s            then, here: cycle machine1, and look at its console
  edeployctl lint %[3]s             after a change of a file there; then
  edeployctl config push %[3]s      and, here: add
An upgrade, which takes some minutes:
  mkrole build --from %[5]s %[4]s %[6]s
  edeployctl push out/install/%[6]s/%[4]s-%[6]s.edeploy
  edeployctl push-metadata out/metadata
On an installed machine: edeploy role, edeploy verify, edeploy list, edeploy upgrade %[6]s, edeploy rollback

`

// keep leaves everything on and does what it is told until ctx or "quit" ends
// it. Without anybody at in it waits for ctx.
func (d *demo) keep(ctx context.Context, in io.Reader, out io.Writer) error {
	fmt.Fprintf(out, "\nEverything stays on. %s", commands)
	fmt.Fprintf(out, ideas, d.rack.Server(), d.machines[0].vm.MAC(0), filepath.Join(dir, "config"),
		image.Role, image.Version, image.Version+".next")
	if err := d.list(out); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	lines, added := make(chan string), make(chan func())
	go func() {
		for scanner := bufio.NewScanner(in); scanner.Scan(); {
			lines <- scanner.Text()
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return nil
		case note := <-added:
			note()
		case line := <-lines:
			words := strings.Fields(line)
			if len(words) == 1 && words[0] == "quit" {
				return nil
			}
			if err := d.obey(ctx, words, out, added); err != nil {
				d.say("%v", err)
			}
		}
	}
}

// obey does what one line says.
func (d *demo) obey(ctx context.Context, words []string, out io.Writer, added chan<- func()) error {
	switch {
	case len(words) == 0:
		return nil
	case len(words) == 1 && words[0] == "list":
		return d.list(out)
	case len(words) == 1 && words[0] == "add":
		m, err := d.add(ctx)
		if err != nil {
			return err
		}
		d.say("%s is switched on", m.name)
		go d.follow(ctx, m, m.vm, added)
		return nil
	case len(words) == 2 && (words[0] == "off" || words[0] == "on" || words[0] == "cycle"):
		m, err := d.find(words[1])
		if err != nil {
			return err
		}
		return d.power(ctx, m, words[0])
	}
	fmt.Fprint(out, commands)
	return nil
}

// follow says how the installation of an added machine goes, and hands over
// what is noted of it at the end.
func (d *demo) follow(ctx context.Context, m *machine, vm *lab.VM, added chan<- func()) {
	host, err := d.await(ctx, vm, 10*time.Minute)
	if ctx.Err() != nil {
		return // everything is being switched off
	}
	if err != nil {
		d.say("%v", err)
		return
	}
	d.say("%s lets you in (list says how)", vm.Name())
	select {
	case added <- func() { m.host = host }:
	case <-ctx.Done():
	}
}

func (d *demo) find(name string) (*machine, error) {
	var names []string
	for _, m := range d.machines {
		if m.name == name {
			return m, nil
		}
		names = append(names, m.name)
	}
	return nil, fmt.Errorf("no machine %s: there are %s", name, strings.Join(names, ", "))
}

// power switches a machine: off, on, or cycle for both.
func (d *demo) power(ctx context.Context, m *machine, what string) error {
	if what != "on" {
		if err := m.vm.Kill(); err != nil {
			return err
		}
		d.say("%s is off", m.name)
	}
	if what == "off" {
		return nil
	}
	select {
	case <-m.vm.Exited():
	default:
		return fmt.Errorf("%s is on", m.name)
	}
	vm, err := d.rack.Power(ctx, rack.Blank{Name: m.name})
	if err != nil {
		return err
	}
	m.vm = vm
	d.say("%s is switched on; to see it boot: tail -f %s", m.name, vm.ConsolePath())
	return nil
}

// list says how to get at each machine.
func (d *demo) list(out io.Writer) error {
	for _, m := range d.machines {
		fmt.Fprintf(out, "  %s  %s\n", m.name, m.vm.MAC(0))
		fmt.Fprintf(out, "    console: tail -f %s\n", m.vm.ConsolePath())
		if !m.host.IsValid() {
			continue
		}
		port, err := d.port(m)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "    log in:  ssh -i %s -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -p %d root@127.0.0.1\n", d.key.File, port)
	}
	fmt.Fprintf(out, "  appliance\n    console: tail -f %s\n", d.rack.Appliance.ConsolePath())
	return nil
}

// port is the port of 127.0.0.1 that leads to a machine's ssh.
func (d *demo) port(m *machine) (uint16, error) {
	if m.port != 0 {
		return m.port, nil
	}
	local, err := d.rack.Laptop.Forward("127.0.0.1:0", netip.AddrPortFrom(m.host, 22).String())
	if err != nil {
		return 0, err
	}
	m.port = local.(interface{ AddrPort() netip.AddrPort }).AddrPort().Port()
	return m.port, nil
}
