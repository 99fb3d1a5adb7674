package httpd

import (
	"fmt"
	"math"

	"edeploy/server/internal/literal"
)

// plainValues are the values of a text in Python syntax, as JSON has them: a
// dictionary is an object, tuples and lists are arrays. nil: the text is none.
func plainValues(text string) any {
	if text == "" {
		return nil
	}
	doc, err := literal.Parse("values", text)
	if err != nil {
		return nil // the record was edited; the text itself is shown beside it
	}
	return plainValue(doc.Node.Value)
}

func plainValue(v literal.Value) any {
	switch v := v.(type) {
	case *literal.Dict:
		all := map[string]any{}
		for key, value := range v.All() {
			all[keyText(key)] = plainValue(value)
		}
		return all
	case literal.List:
		return plainList(v)
	case literal.Tuple:
		return plainList(v)
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) { // JSON has no such number
			return fmt.Sprint(v)
		}
	}
	return v
}

func plainList(values []literal.Value) []any {
	all := make([]any, len(values))
	for i, v := range values {
		all[i] = plainValue(v)
	}
	return all
}

func keyText(key literal.Value) string {
	if text, ok := key.(string); ok {
		return text
	}
	return literal.Repr(key)
}
