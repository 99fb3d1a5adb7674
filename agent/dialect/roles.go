package dialect

import (
	"path"
	"slices"
	"strings"

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
// in place of the texts, and the same in Python and shell. all says that there
// is no call whose image the script makes out of something else. Sorted, each
// once; a script that cannot run is read, too.
func Roles(script string) (images []wire.ImageRef, all bool) {
	read := callRoles
	if strings.HasSuffix(Program(script), "sh") {
		read = shellRoles
	}
	named, all := read(script)
	for _, n := range named {
		ref, err := wire.NewImageRef(n.Role, n.Version)
		if err != nil || len(images) == maxRoles {
			all = false
			continue
		}
		if !slices.Contains(images, ref) {
			images = append(images, ref)
		}
	}
	slices.SortFunc(images, func(a, b wire.ImageRef) int { return strings.Compare(a.String(), b.String()) })
	return images, all
}

// Program is what runs a script that starts with "#!", through env when the
// line says so; "" without one.
func Program(script string) string {
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
func shellRoles(script string) (images []wire.ImageRef, all bool) {
	for line := range strings.Lines(script) {
		words := strings.Fields(strings.NewReplacer(`"`, "", `'`, "", ";", " ; ").Replace(line))
		for i, word := range words {
			if word == "set_role" && i+2 < len(words) {
				images = append(images, wire.ImageRef{Role: words[i+1], Version: words[i+2]})
			}
			if strings.HasPrefix(word, "#") {
				break
			}
		}
	}
	return images, true
}

// callRoles reads calls in the dialect or in Python.
func callRoles(script string) (images []wire.ImageRef, all bool) {
	tokens := CodeTokens(script)
	names := namedTexts(tokens)
	all = true
	for i, token := range tokens {
		if token != "set_role" || i > 0 && tokens[i-1] == "def" {
			continue
		}
		if i+1 == len(tokens) || tokens[i+1] != "(" {
			all = false // called by another name
			continue
		}
		args := arguments(tokens[i+2 : min(i+2+maxTokens, len(tokens))])
		roles, versions := textsOf(args, 0, "role", names), textsOf(args, 1, "version", names)
		for _, role := range roles.texts {
			for _, version := range versions.texts {
				images = append(images, wire.ImageRef{Role: role, Version: version})
			}
		}
		all = all && len(roles.texts)*len(versions.texts) > 0 && !roles.other && !versions.other
	}
	return images, all
}

// CodeTokens are the tokens of a script that mean something; ends of lines do
// outside of brackets, and prefixes of strings are not needed here.
func CodeTokens(script string) []string {
	var all []string
	depth := 0
	for _, token := range Tokens(script) {
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

// named is what a name is given in a script.
type named struct {
	texts []string
	other bool // something else, too
}

// namedTexts are the names that are given texts.
func namedTexts(tokens []string) map[string]named {
	names := map[string]named{}
	for i := 0; i+2 < len(tokens); i++ {
		name, next, value := tokens[i], tokens[i+1], tokens[i+2]
		n := names[name]
		text, ok := plainText(value)
		ends := i+3 == len(tokens) || tokens[i+3] == "\n" || tokens[i+3] == ";"
		switch {
		case !IsWord(name) || next == "=" && value == "=":
			continue
		case next == "=" && ok && ends && len(n.texts) < maxTexts:
			if !slices.Contains(n.texts, text) {
				n.texts = append(n.texts, text)
			}
		case next == "=", next == "+" && value == "=", i > 0 && tokens[i-1] == "for":
			n.other = true
		default:
			continue
		}
		names[name] = n
	}
	return names
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
func textsOf(args [][]string, position int, keyword string, names map[string]named) named {
	for i, arg := range args {
		switch {
		case len(arg) == 3 && arg[0] == keyword && arg[1] == "=":
			arg = arg[2:]
		case i != position || len(arg) != 1:
			continue
		}
		if text, ok := plainText(arg[0]); ok {
			return named{texts: []string{text}}
		}
		return names[arg[0]]
	}
	return named{other: true}
}
