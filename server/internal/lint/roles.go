package lint

import (
	"path"
	"slices"
	"strings"

	"edeploy/agent/dialect"
	"edeploy/server/wire"
)

// Bounds of what is looked at: images that one script names, texts that one
// name holds, tokens of one call.
const (
	maxRoles  = 100
	maxTexts  = 10
	maxTokens = 200
)

// Roles are the images that a configuration script can ask for, as far as its
// text says so: set_role('vm', 'D7-F.1.0.0', disk), with names that hold texts
// in place of the texts, and the same in Python and shell. What the script
// makes out of variables is not among them. Sorted, each once; a script that
// cannot run is read, too.
func Roles(script string) []wire.ImageRef {
	read := callRoles
	if strings.HasSuffix(program(script), "sh") {
		read = shellRoles
	}
	var all []wire.ImageRef
	for _, ref := range read(script) {
		if ref, err := wire.NewImageRef(ref.Role, ref.Version); err == nil && len(all) < maxRoles && !slices.Contains(all, ref) {
			all = append(all, ref)
		}
	}
	slices.SortFunc(all, func(a, b wire.ImageRef) int { return strings.Compare(a.String(), b.String()) })
	return all
}

// program is what runs a script that starts with "#!", through env when the
// line says so; "" without one.
func program(script string) string {
	words := strings.Fields((wire.Configuration{Script: script}).Interpreter())
	if len(words) > 1 && path.Base(words[0]) == "env" {
		words = words[1:]
	}
	if len(words) == 0 {
		return ""
	}
	return words[0]
}

// shellRoles reads lines such as: set_role vm "D7-F.1.0.0" $disk
func shellRoles(script string) []wire.ImageRef {
	var all []wire.ImageRef
	for line := range strings.Lines(script) {
		words := strings.Fields(strings.NewReplacer(`"`, "", `'`, "", ";", " ; ").Replace(line))
		for i, word := range words {
			if word == "set_role" && i+2 < len(words) {
				all = append(all, wire.ImageRef{Role: words[i+1], Version: words[i+2]})
			}
			if strings.HasPrefix(word, "#") {
				break
			}
		}
	}
	return all
}

// callRoles reads calls in the dialect or in Python.
func callRoles(script string) []wire.ImageRef {
	tokens := codeTokens(script)
	texts := namedTexts(tokens)
	var all []wire.ImageRef
	for i, token := range tokens {
		if token != "set_role" || i+1 >= len(tokens) || tokens[i+1] != "(" || i > 0 && tokens[i-1] == "def" {
			continue
		}
		args := arguments(tokens[i+2 : min(i+2+maxTokens, len(tokens))])
		for _, role := range textsOf(args, 0, "role", texts) {
			for _, version := range textsOf(args, 1, "version", texts) {
				if ref := (wire.ImageRef{Role: role, Version: version}); !slices.Contains(all, ref) && len(all) < maxRoles {
					all = append(all, ref)
				}
			}
		}
	}
	return all
}

// codeTokens are the tokens of a script that mean something; ends of lines do
// outside of brackets, and prefixes of strings are not needed here.
func codeTokens(script string) []string {
	var all []string
	depth := 0
	for _, token := range dialect.Tokens(script) {
		switch c := token[0]; {
		case c == ' ', c == '\t', c == '\r', c == '#', c == '\\', c == '\n' && depth > 0:
			continue
		case strings.ContainsRune("([{", rune(c)):
			depth++
		case strings.ContainsRune(")]}", rune(c)):
			depth--
		case c == '\'', c == '"':
			if n := len(all); n > 0 && slices.Contains([]string{"r", "u", "b"}, strings.ToLower(all[n-1])) {
				all = all[:n-1]
			}
		}
		all = append(all, token)
	}
	return all
}

// namedTexts are the names that are given texts, and which.
func namedTexts(tokens []string) map[string][]string {
	texts := map[string][]string{}
	for i := 0; i+2 < len(tokens); i++ {
		text, ok := plainText(tokens[i+2])
		ends := i+3 == len(tokens) || tokens[i+3] == "\n" || tokens[i+3] == ";"
		name := tokens[i]
		if ok && ends && tokens[i+1] == "=" && dialect.IsWord(name) && !slices.Contains(texts[name], text) && len(texts[name]) < maxTexts {
			texts[name] = append(texts[name], text)
		}
	}
	return texts
}

// plainText is the text of a string without escapes.
func plainText(token string) (string, bool) {
	text := strings.Trim(token, token[:1])
	return text, (token[0] == '\'' || token[0] == '"') && !strings.ContainsAny(text, "\\\n") && text != ""
}

// arguments are those of a call, up to its closing bracket.
func arguments(tokens []string) [][]string {
	args := [][]string{nil}
	depth := 0
	for _, token := range tokens {
		last := len(args) - 1
		switch token {
		case "(", "[", "{":
			depth++
		case ")", "]", "}":
			if depth--; depth < 0 {
				return args
			}
		case ",":
			if depth == 0 {
				args = append(args, nil)
				continue
			}
		}
		args[last] = append(args[last], token)
	}
	return args
}

// textsOf are the texts that an argument can be.
func textsOf(args [][]string, position int, keyword string, texts map[string][]string) []string {
	for i, arg := range args {
		switch {
		case len(arg) == 3 && arg[0] == keyword && arg[1] == "=":
			arg = arg[2:]
		case i != position || len(arg) != 1:
			continue
		}
		if text, ok := plainText(arg[0]); ok {
			return []string{text}
		}
		return texts[arg[0]]
	}
	return nil
}
