package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Limits of a hardware description. A large server with every disk's SMART
// values has some thousand facts.
const (
	MaxHardwareBytes = 8 << 20
	MaxFacts         = 50_000
)

// Fact is one detected property: the 4-tuple (category, id, field, value) of
// reference section 3. Detection writes strings only; files of later eDeploy
// versions hold numbers too, so Value is a string, int64, float64, bool or nil.
// On the wire it is a JSON array of four.
type Fact struct {
	Category, ID, Field string
	Value               any
}

// Text is the value as text: how literals and helpers of a spec see it.
func (f Fact) Text() string { return valueText(f.Value) }

func valueText(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case nil:
		return "None"
	case bool:
		if v {
			return "True"
		}
		return "False"
	}
	return fmt.Sprint(v)
}

// Hardware is the ordered description of one machine. Order matters: a spec
// takes the first fact that fits.
type Hardware []Fact

// Find returns the first value of the given property, as text.
func (h Hardware) Find(category, id, field string) (string, bool) {
	for _, f := range h {
		if f.Category == category && f.ID == id && f.Field == field {
			return f.Text(), true
		}
	}
	return "", false
}

// Identity collects what identifies the machine: network/*/serial,
// system/product/uuid and system/product/serial.
func (h Hardware) Identity() Identity {
	var id Identity
	for _, f := range h {
		switch {
		case f.Category == "network" && f.Field == "serial":
			if mac := NormalMAC(f.Text()); mac != "" {
				id.MACs = append(id.MACs, mac)
			}
		case f.Category == "system" && f.ID == "product" && f.Field == "uuid":
			id.UUID = strings.ToLower(strings.TrimSpace(f.Text()))
		case f.Category == "system" && f.ID == "product" && f.Field == "serial":
			id.Serial = strings.TrimSpace(f.Text())
		}
	}
	return id
}

// MarshalJSON writes the fact as an array of four.
func (f Fact) MarshalJSON() ([]byte, error) {
	return json.Marshal([4]any{f.Category, f.ID, f.Field, f.Value})
}

// UnmarshalJSON reads an array of four. Numbers and other plain values in the
// first three places become text; arrays and objects are refused.
func (f *Fact) UnmarshalJSON(b []byte) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	var raw []any
	if err := dec.Decode(&raw); err != nil {
		return fmt.Errorf("fact %s: want an array of four values", clip(b))
	}
	if len(raw) != 4 {
		return fmt.Errorf("fact %s: has %d values, want 4", clip(b), len(raw))
	}
	for i, v := range raw {
		plain, err := plainValue(v)
		if err != nil {
			return fmt.Errorf("fact %s: value %d: %w", clip(b), i+1, err)
		}
		raw[i] = plain
	}
	*f = Fact{valueText(raw[0]), valueText(raw[1]), valueText(raw[2]), raw[3]}
	return nil
}

func plainValue(v any) (any, error) {
	switch v := v.(type) {
	case string:
		return strings.ToValidUTF8(v, "�"), nil
	case bool, nil:
		return v, nil
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n, nil
		}
		x, err := v.Float64()
		if err != nil {
			return nil, fmt.Errorf("number %s is out of range", clip([]byte(v)))
		}
		return x, nil
	}
	return nil, fmt.Errorf("want a string or a number, not a list or an object")
}

func clip(b []byte) string {
	const most = 80
	if len(b) > most {
		b = append(bytes.Clone(b[:most]), "..."...)
	}
	return strings.ToValidUTF8(string(b), "?")
}

// EncodeHardware writes the description as one ASCII-only JSON array, a fact
// a line.
func EncodeHardware(w io.Writer, h Hardware) error {
	var out bytes.Buffer
	out.WriteString("[")
	for i, f := range h {
		if i > 0 {
			out.WriteString(",\n ")
		}
		line, err := json.Marshal(f)
		if err != nil {
			return fmt.Errorf("encode fact %s/%s/%s: %w", f.Category, f.ID, f.Field, err)
		}
		writeASCII(&out, line)
	}
	out.WriteString("]\n")
	_, err := w.Write(out.Bytes())
	return err
}

// writeASCII copies JSON text with every non-ASCII character as \u escape.
func writeASCII(out *bytes.Buffer, text []byte) {
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		text = text[n:]
		switch {
		case r < utf8.RuneSelf:
			out.WriteByte(byte(r))
		case r > 0xffff:
			r -= 0x10000
			fmt.Fprintf(out, `\u%04x\u%04x`, 0xd800+(r>>10), 0xdc00+(r&0x3ff))
		default:
			fmt.Fprintf(out, `\u%04x`, r)
		}
	}
}

// DecodeHardware reads a description; it stops reading at MaxHardwareBytes.
// An error names the fact that is wrong.
func DecodeHardware(r io.Reader) (Hardware, error) {
	data, err := io.ReadAll(io.LimitReader(r, MaxHardwareBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read hardware description: %w", err)
	}
	if len(data) > MaxHardwareBytes {
		return nil, fmt.Errorf("hardware description is larger than %d bytes", MaxHardwareBytes)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	if t, err := dec.Token(); err != nil || t != json.Delim('[') {
		return nil, fmt.Errorf("hardware description: want a JSON array, got %q", clip(data))
	}
	var h Hardware
	for dec.More() {
		if len(h) == MaxFacts {
			return nil, fmt.Errorf("hardware description has more than %d facts", MaxFacts)
		}
		var f Fact
		if err := dec.Decode(&f); err != nil {
			return nil, fmt.Errorf("hardware description, item %d: %w", len(h)+1, err)
		}
		h = append(h, f)
	}
	if _, err := dec.Token(); err != nil {
		return nil, fmt.Errorf("hardware description ends after item %d of an unfinished list: %w", len(h), err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, fmt.Errorf("hardware description: text after the end of the list")
	}
	return h, nil
}
