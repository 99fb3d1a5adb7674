package main

import (
	"fmt"
	"strings"
	"testing"
)

func TestObey(t *testing.T) {
	for _, tt := range []struct{ line, out, err string }{
		{"", "", "<nil>"},
		{"help", "cycle NAME", "<nil>"},
		{"cycle", "cycle NAME", "<nil>"},
		{"add two", "cycle NAME", "<nil>"},
		{"cycle machine7", "", "no machine machine7: there are machine1, machine2"},
	} {
		d := demo{machines: []*machine{{name: "machine1"}, {name: "machine2"}}}
		var out strings.Builder
		err := d.obey(t.Context(), strings.Fields(tt.line), &out, nil)
		if got := out.String(); !strings.Contains(got, tt.out) || tt.out == "" && got != "" {
			t.Errorf("%q printed %q, want %q", tt.line, got, tt.out)
		}
		if got := fmt.Sprint(err); got != tt.err {
			t.Errorf("%q: error %s, want %s", tt.line, got, tt.err)
		}
	}
}
