package literal

import (
	"fmt"
	"iter"
	"maps"
	"math/big"
	"slices"
	"strconv"
	"strings"
)

// Value is one Python value: nil (None), bool, int64, *big.Int (only for
// numbers outside int64), float64, string, List, Tuple or *Dict.
type Value = any

// List is a Python list.
type List []Value

// Tuple is a Python tuple.
type Tuple []Value

// Dict is a Python dictionary; it keeps the order in which keys were first
// set. The zero value is an empty dictionary. Values are shared, not copied:
// treat what is stored as unchangeable.
type Dict struct {
	keys   []Value
	values map[string]Value // by hashKey of the key
}

// NewDict makes a dictionary of string keys: NewDict("a", 1, "b", "x").
func NewDict(pairs ...Value) *Dict {
	d := new(Dict)
	for i := 0; i+1 < len(pairs); i += 2 {
		d.Set(pairs[i], pairs[i+1])
	}
	return d
}

// Len is the number of keys.
func (d *Dict) Len() int { return len(d.keys) }

// Keys are the keys in their order; do not change the slice.
func (d *Dict) Keys() []Value { return d.keys }

// Get is the value of a key.
func (d *Dict) Get(key Value) (Value, bool) {
	v, ok := d.values[hashKey(key)]
	return v, ok
}

// Key is a key that is looked for in many dictionaries.
type Key string

// KeyOf prepares a key for Lookup.
func KeyOf(key Value) Key { return Key(hashKey(key)) }

// Lookup is Get with a prepared key.
func (d *Dict) Lookup(key Key) (Value, bool) {
	v, ok := d.values[string(key)]
	return v, ok
}

// Set adds or replaces the value of a key.
func (d *Dict) Set(key, value Value) {
	if d.values == nil {
		d.values = make(map[string]Value)
	}
	h := hashKey(key)
	if _, ok := d.values[h]; !ok {
		d.keys = append(d.keys, key)
	}
	d.values[h] = value
}

// Delete removes a key; one that is not there is no error.
func (d *Dict) Delete(key Value) {
	h := hashKey(key)
	if _, ok := d.values[h]; !ok {
		return
	}
	delete(d.values, h)
	kept := make([]Value, 0, len(d.keys)-1)
	for _, k := range d.keys {
		if hashKey(k) != h {
			kept = append(kept, k)
		}
	}
	d.keys = kept
}

// All walks the pairs in order.
func (d *Dict) All() iter.Seq2[Value, Value] {
	return func(yield func(Value, Value) bool) {
		for _, k := range d.keys {
			if !yield(k, d.values[hashKey(k)]) {
				return
			}
		}
	}
}

// Clone copies the dictionary; values are shared.
func (d *Dict) Clone() *Dict {
	return &Dict{keys: append([]Value(nil), d.keys...), values: maps.Clone(d.values)}
}

// Update sets every pair of other.
func (d *Dict) Update(other *Dict) {
	for k, v := range other.All() {
		d.Set(k, v)
	}
}

// Equal compares two values as Python's == does: 1, 1.0 and True are equal,
// a list never equals a tuple, the order of keys does not matter.
func Equal(a, b Value) bool {
	switch a := a.(type) {
	case string:
		b, ok := b.(string)
		return ok && a == b
	case List:
		b, ok := b.(List)
		return ok && slices.EqualFunc(a, b, Equal)
	case Tuple:
		b, ok := b.(Tuple)
		return ok && slices.EqualFunc(a, b, Equal)
	case *Dict:
		b, ok := b.(*Dict)
		return ok && equalDicts(a, b)
	}
	switch b.(type) {
	case List, Tuple, *Dict:
		return false
	}
	return hashKey(a) == hashKey(b)
}

func equalDicts(a, b *Dict) bool {
	if a.Len() != b.Len() {
		return false
	}
	for k, v := range a.All() {
		other, ok := b.Get(k)
		if !ok || !Equal(v, other) {
			return false
		}
	}
	return true
}

// hashKey maps equal plain values and tuples to the same text. Lists and
// dictionaries, which the parser refuses as keys, get a text that equals no
// other.
func hashKey(v Value) string {
	switch v := v.(type) {
	case string:
		return "s" + v
	case nil:
		return "N"
	case bool:
		if v {
			return "i1"
		}
		return "i0"
	case int64:
		return "i" + strconv.FormatInt(v, 10)
	case *big.Int:
		return "i" + v.String()
	case float64:
		if exact, accuracy := big.NewFloat(v).Int(nil); accuracy == big.Exact {
			return "i" + exact.String()
		}
		return "f" + strconv.FormatFloat(v, 'g', -1, 64)
	case Tuple:
		var b strings.Builder
		b.WriteString("t")
		for _, item := range v {
			h := hashKey(item)
			fmt.Fprintf(&b, "%d:%s", len(h), h)
		}
		return b.String()
	}
	return fmt.Sprintf("?%T%p", v, &v)
}
