package drive

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"edeploy/agent/internal/detect"
)

// Wish says which disks a script wants. Zero fields ask for nothing. Of a field
// with several texts one is enough; IDs, Places and Models may be patterns
// (path.Match).
type Wish struct {
	Count int // how many; 0: all that fit, at least one

	IDs, Serials, WWNs, Places, Models []string
	Transports                         []string
	Rotational                         *bool
	Removable                          *bool // nil: either
	SizeMin, SizeMax                   int64 // bytes

	Order Order
}

// Order decides which disks come first, and so which are taken when there are
// more than wanted.
type Order string

// The orders.
const (
	Unordered Order = ""      // more disks than wanted are refused; the result is in the order of places
	BySize    Order = "size"  // the smallest first
	BySizeUp  Order = "-size" // the largest first
	ByPlace   Order = "path"  // by the place, numbers in it by value
)

// Transports are the ways a disk can be attached.
var Transports = []string{"sata", "sas", "scsi", "nvme", "virtio", "usb", "mmc"}

// Check says what no machine could fulfil.
func (w Wish) Check() error {
	for _, t := range w.Transports {
		if !slices.Contains(Transports, t) {
			return fmt.Errorf("transport %q: want one of %s", t, strings.Join(Transports, ", "))
		}
	}
	for _, pattern := range slices.Concat(w.IDs, w.Places, w.Models) {
		if _, err := path.Match(pattern, ""); err != nil {
			return fmt.Errorf("pattern %q: %w", pattern, err)
		}
	}
	switch {
	case w.Count < 0:
		return fmt.Errorf("count %d: want a number of disks", w.Count)
	case !slices.Contains([]Order{Unordered, BySize, BySizeUp, ByPlace}, w.Order):
		return fmt.Errorf("order %q: want 'size', '-size' or 'path'", string(w.Order))
	}
	return nil
}

// Choose picks disks. Where nothing says which of several, it picks none: the
// error lists those that could be meant. Disks that are write-protected or have
// no medium are not looked at. The result depends on the disks alone, not on
// what the kernel calls them today.
func (w Wish) Choose(all []Drive) ([]Drive, error) {
	if err := w.Check(); err != nil {
		return nil, err
	}
	fits := slices.DeleteFunc(slices.Clone(all), func(d Drive) bool { return !w.fits(d) })
	if err := w.twins(fits); err != nil {
		return nil, err
	}
	slices.SortFunc(fits, func(a, b Drive) int { return cmp.Or(w.compare(a, b), byPlace(a, b), cmp.Compare(a.Serial, b.Serial)) })
	want := cmp.Or(w.Count, len(fits))
	switch {
	case len(fits) == 0:
		return nil, fmt.Errorf("no disk fits; there are: %s", cmp.Or(list(all), "none"))
	case len(fits) < want:
		return nil, fmt.Errorf("%d disks are wanted, and only %d fit: %s; there are: %s", want, len(fits), list(fits), list(all))
	case len(fits) > want && (w.Order == Unordered || w.compare(fits[want-1], fits[want]) == 0):
		return nil, w.ambiguous(fits, want)
	}
	return fits[:want], nil
}

// ambiguous lists the disks that could be the last one, and says what to do.
func (w Wish) ambiguous(fits []Drive, want int) error {
	if w.Order == Unordered {
		return fmt.Errorf("%d disks are wanted, and %d fit: say more, or order='size', '-size' or 'path': %s", want, len(fits), list(fits))
	}
	tied := slices.DeleteFunc(slices.Clone(fits), func(d Drive) bool { return w.compare(d, fits[want-1]) != 0 })
	return fmt.Errorf("%d disks are wanted by order=%q, and nothing says which of these %d is one of them: %s",
		want, string(w.Order), len(tied), list(tied))
}

// twins refuses two disks with one identity, when disks are chosen by it.
func (w Wish) twins(fits []Drive) error {
	for _, identity := range []struct {
		name   string
		wanted []string
		of     func(Drive) []string
	}{
		{"serial number", w.Serials, func(d Drive) []string { return []string{d.Serial} }},
		{"WWN", w.WWNs, func(d Drive) []string { return []string{plainWWN(d.WWN)} }},
		{"id", w.IDs, func(d Drive) []string { return d.IDs }},
	} {
		if len(identity.wanted) == 0 {
			continue
		}
		for i, a := range fits {
			for _, b := range fits[:i] {
				if same := common(identity.of(a), identity.of(b)); same != "" {
					return fmt.Errorf("two disks have the %s %s: %s", identity.name, same, list([]Drive{b, a}))
				}
			}
		}
	}
	return nil
}

func common(a, b []string) string {
	for _, text := range a {
		if text != "" && slices.Contains(b, text) {
			return text
		}
	}
	return ""
}

// compare orders by what the wish says, and no further.
func (w Wish) compare(a, b Drive) int {
	switch w.Order {
	case BySize:
		return cmp.Compare(a.SizeBytes, b.SizeBytes)
	case BySizeUp:
		return cmp.Compare(b.SizeBytes, a.SizeBytes)
	}
	return byPlace(a, b)
}

func byPlace(a, b Drive) int { return detect.Natural(a.Place, b.Place) }

func (w Wish) fits(d Drive) bool {
	is := func(wanted []string, same func(string) bool) bool {
		return len(wanted) == 0 || slices.ContainsFunc(wanted, same)
	}
	like := func(text string) func(string) bool {
		return func(pattern string) bool { ok, _ := path.Match(pattern, text); return ok }
	}
	return !d.WriteProtected &&
		is(w.IDs, func(p string) bool {
			return slices.ContainsFunc(d.IDs, func(id string) bool { return like(id)(path.Base(p)) })
		}) &&
		is(w.Serials, func(s string) bool { return strings.TrimSpace(s) == d.Serial && d.Serial != "" }) &&
		is(w.WWNs, func(s string) bool { return plainWWN(s) == plainWWN(d.WWN) && d.WWN != "" }) &&
		is(w.Places, like(d.Place)) && is(w.Models, like(d.Model)) &&
		is(w.Transports, func(t string) bool { return t == d.Transport }) &&
		(w.Rotational == nil || *w.Rotational == d.Rotational) &&
		(w.Removable == nil || *w.Removable == d.Removable) &&
		d.SizeBytes >= w.SizeMin && (w.SizeMax == 0 || d.SizeBytes <= w.SizeMax)
}

// plainWWN is a World Wide Name without what says its kind: "naa.", "eui.", "0x".
func plainWWN(wwn string) string {
	wwn = strings.ToLower(strings.TrimSpace(wwn))
	for _, prefix := range []string{"wwn-", "naa.", "eui.", "nvme.", "0x"} {
		wwn = strings.TrimPrefix(wwn, prefix)
	}
	return wwn
}

// errSize is what a size that is none is answered with.
var errSize = errors.New("want a number of bytes, or one with K, M, G, T (powers of 1000) or KiB, MiB, GiB, TiB behind it")

// ParseSize reads "100G", "480 GB", "1.8TB", "16GiB".
func ParseSize(text string) (int64, error) {
	digits := strings.TrimLeft(text, "0123456789.")
	number, unit := text[:len(text)-len(digits)], strings.TrimSpace(digits)
	unit, binary := strings.CutSuffix(unit, "iB")
	if !binary {
		unit = strings.TrimSuffix(unit, "B")
	}
	power := 0
	if unit != "" {
		if power = strings.Index("KMGT", strings.ToUpper(unit)) + 1; power == 0 || len(unit) != 1 {
			return 0, fmt.Errorf("size %q: %w", text, errSize)
		}
	} else if binary {
		return 0, fmt.Errorf("size %q: %w", text, errSize)
	}
	return scaled(text, number, power, binary)
}

func scaled(text, number string, power int, binary bool) (int64, error) {
	value, err := strconv.ParseFloat(number, 64)
	if err != nil {
		return 0, fmt.Errorf("size %q: %w", text, errSize)
	}
	unit := 1000.0
	if binary {
		unit = 1024
	}
	for range power {
		value *= unit
	}
	if value > 1<<62 {
		return 0, fmt.Errorf("size %q: no disk is that large", text)
	}
	return int64(value), nil
}
