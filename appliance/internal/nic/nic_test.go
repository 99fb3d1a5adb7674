package nic_test

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"edeploy/appliance/internal/nic"
)

func TestListen(t *testing.T) {
	l, err := nic.Listen(t.Context(), "lo", netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

func TestListenSaysWhatToDo(t *testing.T) {
	_, err := nic.Listen(t.Context(), "", netip.MustParseAddrPort("192.0.2.77:0"))
	if err == nil || !strings.Contains(err.Error(), "no network device of this machine has the address 192.0.2.77") {
		t.Errorf("listen on a foreign address: %v", err)
	}
}

func TestConfigureNamesTheDevicesThereAre(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	err := nic.Configure(ctx, "nosuch0", netip.MustParsePrefix("192.0.2.1/24"))
	if err == nil || !strings.Contains(err.Error(), "network device nosuch0 does not exist; there are: lo") {
		t.Errorf("configure a missing device: %v", err)
	}
}
