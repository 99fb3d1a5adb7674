// Package sysname names the file a machine's description is kept in, and its
// model.
package sysname

import (
	"strings"

	"edeploy/server/wire"
)

// maxPart bounds the part of the name that comes from one value.
const maxPart = 64

// Of is the name of a machine made of its product, serial and first MAC
// address (reference section 4.5), without suffix: vendor only when there is
// no product name. It holds only letters, digits, "_" and "-", and is "" when
// nothing is known. Serials are the values of all network/*/serial facts.
func Of(h wire.Hardware) (name string, serials []string) {
	if vendor, ok := h.Find("system", "product", "vendor"); ok {
		name = clean(vendor) + "-"
	}
	if product, ok := h.Find("system", "product", "name"); ok {
		name = clean(product) + "-"
	}
	if serial, ok := h.Find("system", "product", "serial"); ok {
		name += clean(serial) + "-"
	}
	for _, f := range h {
		if f.Category == "network" && f.Field == "serial" {
			serials = append(serials, f.Text())
		}
	}
	if len(serials) > 0 {
		name += keep(strings.ReplaceAll(serials[0], ":", "-"), "-")
	}
	return name, serials
}

// Model is vendor and product of a machine, on one line; "" when it says neither.
func Model(h wire.Hardware) string {
	vendor, _ := h.Find("system", "product", "vendor")
	product, _ := h.Find("system", "product", "name")
	model := strings.Join(strings.Fields(strings.ToValidUTF8(vendor+" "+product, "")), " ")
	return strings.ToValidUTF8(model[:min(len(model), 2*maxPart)], "")
}

func clean(s string) string { return keep(s, "") }

// keep keeps letters, digits, "_" and the others given, all of which are safe
// in a file name. (The original let the MAC address pass unchanged.)
func keep(s, others string) string {
	kept := strings.Map(func(r rune) rune {
		if r == '_' || strings.ContainsRune(others, r) || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return -1
	}, s)
	return kept[:min(len(kept), maxPart)]
}
