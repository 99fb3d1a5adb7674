package cmdb

import (
	"fmt"
	"strings"

	"edeploy/server/internal/literal"
)

// GenerateDict expands a model whose top-level keys may hold ranges too
// (reference section 7.4): the keys and the entries of a value are paired, the
// shorter list decides; a key without a range takes every entry, merged; equal
// keys are merged, the later value winning. Values must be dictionaries.
func GenerateDict(model *literal.Dict, prefix string) (*literal.Dict, error) {
	out := new(literal.Dict)
	total, copied := 0, 0
	for k, v := range model.All() {
		nested, ok := v.(*literal.Dict)
		if !ok {
			return nil, fmt.Errorf("key %s: want a dictionary, got %s", literal.Repr(k), literal.Repr(v))
		}
		entries, err := Generate(nested, prefix)
		if err != nil {
			return nil, fmt.Errorf("key %s: %w", literal.Repr(k), err)
		}
		keys, err := keySource(k, prefix)
		if err != nil {
			return nil, fmt.Errorf("key %s: %w", literal.Repr(k), err)
		}
		n := min(len(entries), keys.count())
		if total += n; total > MaxEntries {
			return nil, fmt.Errorf("generate makes more than %d entries", MaxEntries)
		}
		for i := range n {
			if copied += mergeAt(out, keys.at(i), entries[i]); copied > maxCopied {
				return nil, fmt.Errorf("key %s: too many entries with long lists are merged into one", literal.Repr(k))
			}
		}
	}
	return out, nil
}

func keySource(k literal.Value, prefix string) (source, error) {
	s, ok := k.(string)
	if !ok || !strings.HasPrefix(s, prefix) {
		return same{k}, nil
	}
	return textSource(strings.TrimPrefix(s, prefix))
}

// maxCopied bounds the values that merging may copy: lists that are joined
// again and again grow with every entry.
const maxCopied = 4 * maxGeneratedValues

// mergeAt answers how many values it has copied.
func mergeAt(out *literal.Dict, key literal.Value, entry *literal.Dict) (copied int) {
	if old, ok := out.Get(key); ok {
		if d, ok := old.(*literal.Dict); ok {
			entry, copied = Merge(d, entry), 1+inside(d)
		}
	}
	out.Set(key, entry)
	return copied
}

// Merge combines two dictionaries (reference section 7.4): missing keys are
// added, dictionaries are merged, lists are joined (the user's first), any
// other clash takes the default's value. The arguments stay as they are.
func Merge(user, fallback *literal.Dict) *literal.Dict {
	out := user.Clone()
	for k, v := range fallback.All() {
		old, ok := out.Get(k)
		if !ok {
			out.Set(k, v)
			continue
		}
		oldDict, isDict := old.(*literal.Dict)
		newDict, bothDicts := v.(*literal.Dict)
		oldList, isList := old.(literal.List)
		newList, bothLists := v.(literal.List)
		switch {
		case isDict && bothDicts:
			out.Set(k, Merge(oldDict, newDict))
		case isList && bothLists:
			out.Set(k, append(oldList[:len(oldList):len(oldList)], newList...))
		default:
			out.Set(k, v)
		}
	}
	return out
}

// IsIncluded tells whether every key of a is in b with an equal value.
func IsIncluded(a, b *literal.Dict) bool {
	for k, v := range a.All() {
		other, ok := b.Get(k)
		if !ok || !literal.Equal(v, other) {
			return false
		}
	}
	return true
}
