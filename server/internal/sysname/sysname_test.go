package sysname_test

import (
	"strings"
	"testing"

	"edeploy/server/internal/sysname"
	"edeploy/server/wire"
)

func TestOf(t *testing.T) {
	product := func(field, v string) wire.Fact {
		return wire.Fact{Category: "system", ID: "product", Field: field, Value: v}
	}
	mac := func(v string) wire.Fact {
		return wire.Fact{Category: "network", ID: "ens1", Field: "serial", Value: v}
	}
	for _, tc := range []struct {
		h    wire.Hardware
		want string
	}{
		{nil, ""},
		{wire.Hardware{product("vendor", "Acme Ltd.")}, "AcmeLtd-"},
		{wire.Hardware{product("vendor", "Acme"), product("name", "Rack Node (R7)"), mac("02:00:00:00:00:01")}, "RackNodeR7-02-00-00-00-00-01"},
		{wire.Hardware{product("serial", "../../etc/passwd"), mac("../../x;y z")}, "etcpasswd-xyz"},
		{wire.Hardware{product("serial", "SN/00-9"), mac("02:00:00:00:00:01"), mac("02:00:00:00:00:02")}, "SN009-02-00-00-00-00-01"},
		{wire.Hardware{product("name", strings.Repeat("x", 1000))}, strings.Repeat("x", 64) + "-"},
	} {
		if got, _ := sysname.Of(tc.h); got != tc.want {
			t.Errorf("%v: got %q, want %q", tc.h, got, tc.want)
		}
	}
}
