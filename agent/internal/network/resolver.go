package network

import (
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
)

const resolvConf = "/etc/resolv.conf"

// maxServers is what the C library reads (resolv.conf(5)).
const maxServers = 3

type resolver struct {
	path string

	mu      sync.Mutex
	servers map[string][]netip.Addr // by device
	domains map[string]string       // by device
}

// set replaces what a device contributes and writes the file. The file is
// written in place: it is small, and may be a mount point.
func (r *resolver) set(device string, servers []netip.Addr, domain string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.servers[device], r.domains[device] = servers, domain
	if err := os.WriteFile(r.path, []byte(r.text()), 0o644); err != nil {
		return fmt.Errorf("set name servers: %w", err)
	}
	return nil
}

// text is resolv.conf, nothing twice. A domain
// from the network goes in only if it looks like one.
func (r *resolver) text() string {
	var domains, lines []string
	for _, device := range slices.Sorted(maps.Keys(r.servers)) {
		if domain := r.domains[device]; isDomain(domain) && !slices.Contains(domains, domain) {
			domains = append(domains, domain)
		}
		for _, server := range r.servers[device] {
			line := "nameserver " + server.String()
			if len(lines) < maxServers && !slices.Contains(lines, line) {
				lines = append(lines, line)
			}
		}
	}
	if len(domains) > 0 {
		lines = append([]string{"search " + strings.Join(domains, " ")}, lines...)
	}
	return strings.Join(append(lines, ""), "\n")
}

func isDomain(name string) bool {
	return name != "" && len(name) < 256 && strings.Trim(strings.ToLower(name), "abcdefghijklmnopqrstuvwxyz0123456789.-_") == ""
}
