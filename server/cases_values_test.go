package server_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"edeploy/server/internal/literal"
)

func dictionary(t *testing.T, raw json.RawMessage) *literal.Dict {
	t.Helper()
	v, err := fromJSON(raw)
	d, ok := v.(*literal.Dict)
	if err != nil || !ok {
		t.Fatalf("%s: want a dictionary (%v)", raw, err)
	}
	return d
}

// fromJSON reads a value of a case; {"__tuple__": [...]} is a tuple. The order
// of keys is kept.
func fromJSON(raw json.RawMessage) (literal.Value, error) {
	dec := json.NewDecoder(strings.NewReader(string(raw)))
	dec.UseNumber()
	return jsonValue(dec)
}

func jsonValue(dec *json.Decoder) (literal.Value, error) {
	token, err := dec.Token()
	if err != nil {
		return nil, err
	}
	switch v := token.(type) {
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n, nil
		}
		return v.Float64()
	case json.Delim:
		if v == '[' {
			return jsonList(dec)
		}
		return jsonDict(dec)
	}
	return token, nil
}

func jsonList(dec *json.Decoder) (literal.Value, error) {
	list := literal.List{}
	for dec.More() {
		item, err := jsonValue(dec)
		if err != nil {
			return nil, err
		}
		list = append(list, item)
	}
	_, err := dec.Token()
	return list, err
}

func jsonDict(dec *json.Decoder) (literal.Value, error) {
	d := new(literal.Dict)
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil, err
		}
		item, err := jsonValue(dec)
		if err != nil {
			return nil, err
		}
		d.Set(key, item)
	}
	if _, err := dec.Token(); err != nil {
		return nil, err
	}
	if items, ok := d.Get("__tuple__"); ok && d.Len() == 1 {
		list, ok := items.(literal.List)
		if !ok {
			return nil, fmt.Errorf("__tuple__ holds %v, want an array", items)
		}
		return literal.Tuple(list), nil
	}
	return d, nil
}

// toJSON writes a value as the cases do: tuples of the state file are arrays.
func toJSON(v literal.Value) any {
	switch v := v.(type) {
	case *literal.Dict:
		out := make(map[string]any)
		for k, item := range v.All() {
			out[literal.Text(k)] = tupleMarked(item)
		}
		return out
	case literal.List:
		return arrays(v)
	case literal.Tuple:
		return arrays(v)
	}
	return v
}

func arrays(items []literal.Value) []any {
	out := []any{}
	for _, item := range items {
		out = append(out, toJSON(item))
	}
	return out
}

func tupleMarked(v literal.Value) any {
	if tuple, ok := v.(literal.Tuple); ok {
		return map[string]any{"__tuple__": arrays(tuple)}
	}
	return toJSON(v)
}
