package dialect_test

import (
	"strings"
	"testing"

	"edeploy/agent/dialect"
)

func TestStarlark(t *testing.T) {
	tests := []struct{ name, script, want string }{
		{"octal", "config('/a', fmod=0644)", "config('/a', fmod=0o644)"},
		{"zero, a decimal, a hexadecimal and a float", "0 00 10 0x10 0.5 08", "0 00 10 0x10 0.5 08"},
		{"a string and a comment keep their digits", "a = '0644' # 0644\nb = \"0\\\"0644\"", "a = '0644' # 0644\nb = \"0\\\"0644\""},
		{"a long string keeps them too", "a = '''\n0644\n'''\n0644", "a = '''\n0644\n'''\n0o644"},
		{"an open string ends with its line", "a = '0644\n0644", "a = '0644\n0o644"},
		{"indented as a whole", "  # here\n  a = 1\n  if a:\n    b = 2\n\n", "# here\na = 1\nif a:\n  b = 2\n\n"},
		{"one line is not indented", "  a = 1\nb = 2\n", "  a = 1\nb = 2\n"},
		{"line ends of DOS", "  a = 1\r\n  b = 2\r\n", "a = 1\nb = 2\n"},
		{"nothing", "", ""},
		{"a comment alone", "  # x", "  # x"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := dialect.Starlark(test.script); got != test.want {
				t.Errorf("%q becomes %q, want %q", test.script, got, test.want)
			}
		})
	}
}

func TestIsWord(t *testing.T) {
	for token, want := range map[string]bool{"a": true, "os.path": true, "_1": true, "é": true, "1": false, "0644": false, "'a'": false, "#a": false, "(": false} {
		if got := dialect.IsWord(token); got != want {
			t.Errorf("%q is a word: %v, want %v", token, got, want)
		}
	}
}

// FuzzTokens: the tokens of a text are all of it, in order, and rewriting keeps
// the number of lines.
func FuzzTokens(f *testing.F) {
	f.Add("a = 'x\\'' + '''\n0644''' \\\n  # 0644")
	f.Add("  x = 0644\r\n\\")
	f.Fuzz(func(t *testing.T, text string) {
		at := 0
		for i, token := range dialect.Tokens(text) {
			if i != at || token == "" || !strings.HasPrefix(text[i:], token) {
				t.Fatalf("token %q at %d, after %d bytes of %q", token, i, at, text)
			}
			at += len(token)
		}
		if at != len(text) {
			t.Errorf("tokens end at %d of %d bytes", at, len(text))
		}
		if got, want := strings.Count(dialect.Starlark(text), "\n"), strings.Count(text, "\n"); got != want {
			t.Errorf("%d lines become %d", want, got)
		}
	})
}
