package install_test

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"edeploy/agent/internal/install"
	"edeploy/server/wire"
)

func TestConsoleLines(t *testing.T) {
	var out bytes.Buffer
	clock := time.Unix(1000, 0)
	log := install.NewConsoleLogger(&out, func() time.Time { return clock }, "network")
	clock = clock.Add(12345 * time.Millisecond)
	log.Debug("not shown")
	log.Info("link is up", "device", "eth0", "speed", 1000)
	log.With("device", "eth 1").Warn("no answer\nfrom anybody")
	want := "[  12.3s] network: link is up device=eth0 speed=1000\n[  12.3s] network: no answer\nfrom anybody device=\"eth 1\"\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestMeter(t *testing.T) {
	start := time.Unix(1000, 0)
	m := install.NewMeter(400e6)
	var got []string
	for _, p := range []struct {
		at    float64
		bytes int64
	}{{0, 0}, {0.5, 30e6}, {1, 39e6}, {1.5, 45e6}, {2, 79e6}, {2.2, 81e6}, {3, 81e6}, {7, 82e6}, {8.1, 82e6}, {9.5, 500e6}} {
		line, report := m.At(start.Add(time.Duration(p.at*float64(time.Second))), p.bytes)
		got = append(got, fmt.Sprintf("%.1f %q %t", p.at, line, report))
	}
	want := []string{
		`0.0 "" false`, `0.5 "" false`, `1.0 "" true`, `1.5 "11% 45 of 400 MB, 30 MB/s" false`,
		`2.0 "" true`, `2.2 "" false`, `3.0 "20% 81 of 400 MB, 24 MB/s" true`,
		`7.0 "" true`, `8.1 "20% 82 of 400 MB, 0 MB/s" true`, `9.5 "100% 400 of 400 MB, 227 MB/s" true`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestLogName(t *testing.T) {
	product := func(field, value string) wire.Fact {
		return wire.Fact{Category: "system", ID: "product", Field: field, Value: value}
	}
	nic := wire.Fact{Category: "network", ID: "eth0", Field: "serial", Value: "02:00:00:00:00:01"}
	tests := []struct {
		hw   wire.Hardware
		want string
	}{
		{wire.Hardware{product("vendor", "Acme, Inc."), product("name", "Rack  Node (R7)"), product("serial", "SN/00-9")}, "Acme_Inc.-Rack_Node_R7-SN_00_9.log.gz"},
		{wire.Hardware{product("vendor", "QEMU"), product("serial", "0123456789"), product("uuid", "aa-bb")}, "QEMU--aa_bb.log.gz"},
		{wire.Hardware{nic, product("name", "../../etc")}, "-.._.._etc-02_00_00_00_00_01.log.gz"},
		{nil, "--.log.gz"},
	}
	for _, tt := range tests {
		if got := wire.LogName(tt.hw); got != tt.want {
			t.Errorf("got %s, want %s", got, tt.want)
		}
	}
}
