package fileset

import (
	"errors"
	"fmt"
	"iter"
	"strings"
	"unicode/utf8"

	"edeploy/server/internal/cmdb"
	"edeploy/server/internal/expectation"
	"edeploy/server/internal/literal"
	"edeploy/server/internal/match"
	"edeploy/server/internal/profile"
	"edeploy/server/internal/state"

	"golang.org/x/crypto/ssh"
)

// Problem is a mistake in a file.
type Problem struct {
	File    string
	Line    int // from 1; 0: the mistake has no place
	Column  int // from 1, in characters
	Text    string
	Warning bool // the file works, but perhaps not as it was meant
}

// Check reads a file as the server does when a machine asks, and answers what
// is wrong with it. A file is read up to its first mistake. A .configure file
// only has to be text: lint.Script reads it.
func Check(name Name, text string) []Problem {
	if p, bad := checkText(name.String(), text); bad {
		return []Problem{p}
	}
	switch name.Kind {
	case State:
		return checkState(name.String(), text)
	case Specs:
		specs, err := match.Compile(name.String(), text)
		if err != nil {
			return []Problem{problemOf(name.String(), err)}
		}
		var all []Problem
		for _, w := range specs.Warnings {
			all = append(all, Problem{File: name.String(), Text: w.Error(), Warning: true})
		}
		return all
	case CMDB:
		if _, err := cmdb.Parse(name.String(), text); err != nil {
			return []Problem{problemOf(name.String(), err)}
		}
	case Bill:
		if _, err := expectation.Parse(name.String(), text); err != nil {
			return []Problem{problemOf(name.String(), err)}
		}
	case Keys:
		return checkKeys(name.String(), text)
	}
	return nil
}

// checkText finds the first byte that is no UTF-8 text.
func checkText(file, text string) (Problem, bool) {
	for i := 0; i < len(text); {
		r, n := utf8.DecodeRuneInString(text[i:])
		if r == 0 || r == utf8.RuneError && n == 1 {
			doc := literal.Document{File: file, Text: text}
			return problemOf(file, doc.ErrorAt(i, "byte 0x%02x is no UTF-8 text", text[i])), true
		}
		i += n
	}
	return Problem{}, false
}

func checkState(file, text string) []Problem {
	st, err := state.Parse(file, text)
	if err != nil {
		return []Problem{problemOf(file, err)}
	}
	var all []Problem
	for _, pair := range st.Pairs() {
		if err := profile.CheckName(pair.Profile); err != nil {
			all = append(all, Problem{File: file, Text: fmt.Sprintf("%s: %v", file, err)})
		}
	}
	return all
}

// keyLines are the lines of authorized_keys that are no comments, by where they
// begin.
func keyLines(text string) iter.Seq2[int, string] {
	return func(yield func(int, string) bool) {
		at := 0
		for line := range strings.Lines(text) {
			if is := strings.TrimSpace(line); is != "" && !strings.HasPrefix(is, "#") && !yield(at, is) {
				return
			}
			at += len(line)
		}
	}
}

// CountKeys is how many keys authorized_keys has.
func CountKeys(text string) (n int) {
	for range keyLines(text) {
		n++
	}
	return n
}

// checkKeys wants a key on each line that is no comment: the agent passes over
// others without a word.
func checkKeys(file, text string) []Problem {
	doc := literal.Document{File: file, Text: text}
	for at, line := range keyLines(text) {
		switch _, _, options, _, err := ssh.ParseAuthorizedKey([]byte(line)); {
		case err != nil:
			return []Problem{problemOf(file, doc.ErrorAt(at, "want a public key as ssh-keygen writes it into a .pub file"))}
		case len(options) > 0:
			return []Problem{problemOf(file, doc.ErrorAt(at, "a key with options: machines do not know them, and pass the key over"))}
		}
	}
	return nil
}

func problemOf(file string, err error) Problem {
	p := Problem{File: file, Text: err.Error()}
	var place *literal.Error
	if errors.As(err, &place) {
		p.Line, p.Column = place.Line, place.Column
	} else if !strings.HasPrefix(p.Text, file) {
		p.Text = file + ": " + p.Text
	}
	return p
}
