package lint

import (
	"slices"
	"strings"

	"edeploy/agent/dialect"
)

// pythonNames are what a script of a real Python finds without importing it:
// helpers and modules of the agent's prelude, and the builtins of Python 3.
var pythonNames = wordSet(`var run set_role config grub_options inject_facts raid1 wipe ipmi hpacucli megacli os re sys time commands
ArithmeticError AssertionError AttributeError BaseException BaseExceptionGroup BlockingIOError BrokenPipeError BufferError
BytesWarning ChildProcessError ConnectionAbortedError ConnectionError ConnectionRefusedError ConnectionResetError
DeprecationWarning EOFError Ellipsis EncodingWarning EnvironmentError Exception ExceptionGroup FileExistsError
FileNotFoundError FloatingPointError FutureWarning GeneratorExit IOError ImportError ImportWarning IndentationError
IndexError InterruptedError IsADirectoryError KeyError KeyboardInterrupt LookupError MemoryError ModuleNotFoundError
NameError NotADirectoryError NotImplemented NotImplementedError OSError OverflowError PendingDeprecationWarning
PermissionError ProcessLookupError RecursionError ReferenceError ResourceWarning RuntimeError RuntimeWarning
StopAsyncIteration StopIteration SyntaxError SyntaxWarning SystemError SystemExit TabError TimeoutError TypeError
UnboundLocalError UnicodeDecodeError UnicodeEncodeError UnicodeError UnicodeTranslateError UnicodeWarning UserWarning
ValueError Warning ZeroDivisionError abs aiter all anext any ascii bin bool breakpoint bytearray bytes callable chr
classmethod compile complex delattr dict dir divmod enumerate eval exec exit filter float format frozenset getattr globals
hasattr hash help hex id input int isinstance issubclass iter len list locals map max memoryview min next object oct open ord
pow print property quit range repr reversed round set setattr slice sorted staticmethod str sum super tuple type vars zip`)

// python2Names are builtins of Python 2 alone, and what stands for them now.
var python2Names = map[string]string{
	"xrange": "range", "unicode": "str", "unichr": "chr", "raw_input": "input", "file": "open", "long": "int",
	"basestring": "str", "reduce": "functools.reduce", "execfile": "exec(open(...).read())", "cmp": "< and ==", "apply": "f(*args)",
	"reload": "importlib.reload", "StandardError": "Exception",
}

// python2Modules are modules of Python 2 alone, and what stands for them now.
var python2Modules = map[string]string{
	"urllib2": "urllib.request", "ConfigParser": "configparser", "StringIO": "io", "Queue": "queue", "httplib": "http.client",
	"cPickle": "pickle", "urlparse": "urllib.parse", "sets": "set", "md5": "hashlib", "sha": "hashlib", "popen2": "subprocess",
	"__builtin__": "builtins", "thread": "threading",
}

// ownModules are modules of the original eDeploy that no initrd has.
var ownModules = []string{"areca"}

const ownModuleText = " is a module of the original eDeploy that the initrd has not: call its program with run(...)"

var keywords = wordSet(`False None True and as assert async await break class continue def del elif else except finally for from
global if import in is lambda nonlocal not or pass raise return try while with yield`)

// compounds are keywords that a colon may follow at once.
var compounds = wordSet("else try finally except")

func wordSet(text string) map[string]bool {
	set := map[string]bool{}
	for _, word := range strings.Fields(text) {
		set[word] = true
	}
	return set
}

type named struct {
	name         string
	line, column int
}

// names are what a Python script needs and what it makes. Scopes are not told
// apart: what is bound anywhere counts as bound.
type names struct {
	loads    []named // in the order of the text
	imports  []named // first part of the modules
	members  []named // "module.member" of modules that scripts find
	guarded  bool    // the script knows that a module may be absent: except ImportError
	bound    map[string]bool
	anything bool // nobody knows what is bound: from MODULE import *, globals(), except NameError
}

func readNames(text string) *names {
	n := &names{bound: map[string]bool{}}
	last := ""
	for _, st := range statements(text) {
		all := pieces(text, st)
		if st.word == "=" {
			n.bind(last) // if NAME := VALUE
		}
		n.statement(all)
		last = nameAt(all, len(all)-2) // before the colon
	}
	return n
}

// piece is a token of a statement that means something.
type piece struct {
	named
	depth int  // brackets around it
	index bool // one of them is that of x[...]
}

// pieces are those of a statement, with their places. Names inside of {} of
// an f-string stand behind it.
func pieces(text string, st statement) []piece {
	var all []piece
	line, lineStart, before := st.line, st.start-st.column+1, ""
	var around []bool // open brackets; true: one of x[...], or inside of one
	for i, token := range dialect.Tokens(text[st.start:st.end]) {
		c, prefix := token[0], before
		if before = token; strings.IndexByte(" \t\r\n\\#", c) >= 0 {
			before = ""
		}
		if strings.IndexByte(")]}", c) >= 0 {
			around = around[:max(0, len(around)-1)]
		}
		p := piece{named{token, line, st.start + i - lineStart + 1}, len(around), len(around) > 0 && around[len(around)-1]}
		switch {
		case before == "":
		case (c == '\'' || c == '"') && isPrefix(prefix):
			all = append(all[:len(all)-1], p)
			if strings.ContainsAny(prefix, "fF") {
				all = append(all, formatted(token, p)...)
			}
		default:
			last := nameAt(all, len(all)-1)
			if strings.IndexByte("([{", c) >= 0 {
				around = append(around, p.index || c == '[' && last != "" && (strings.Contains(")]", last) || dialect.IsWord(last)))
			}
			all = append(all, p)
		}
		if n := strings.Count(token, "\n"); n > 0 {
			line, lineStart = line+n, st.start+i+strings.LastIndexByte(token, '\n')+1
		}
	}
	return all
}

func isPrefix(word string) bool {
	return word != "" && len(word) <= 2 && strings.Trim(word, "rRuUbBfF") == ""
}

func formatted(token string, at piece) []piece {
	var all []piece
	inside := func(name string) piece { return piece{named{name, at.line, at.column}, at.depth + 1, true} }
	text := strings.ReplaceAll(strings.ReplaceAll(token, "{{", ""), "}}", "")
	for {
		_, rest, ok := strings.Cut(text, "{")
		if !ok {
			return all
		}
		expression, rest, _ := strings.Cut(rest, "}")
		text = rest
		expression, _, _ = strings.Cut(expression, ":")
		expression, _, _ = strings.Cut(expression, "!")
		all = append(all, inside(","))
		for _, token := range dialect.Tokens(expression) {
			if strings.TrimSpace(token) != "" {
				all = append(all, inside(token))
			}
		}
	}
}

// statement reads one statement, or the head of a compound one.
func (n *names) statement(all []piece) {
	if len(all) == 0 {
		return
	}
	switch first := all[0].name; {
	case first == "import":
		n.imported(all[1:])
	case first == "from":
		n.from(all[1:])
	case first == "global" || first == "nonlocal" || first == "case" && all[len(all)-1].name == ":":
		for _, p := range all[1:] {
			n.bind(p.name)
		}
	case first == "match" && len(all) > 2 && all[len(all)-1].name == ":":
		n.expression(all[1:])
	case len(all) == 2 && all[1].name == ":" && !compounds[first]:
		n.bind(first) // a name with a type
	default:
		n.expression(all)
	}
}

// imported reads: os.path as p, sys
func (n *names) imported(all []piece) {
	for i, p := range all {
		head, _, _ := strings.Cut(p.name, ".")
		switch {
		case i == 0 || all[i-1].name == ",":
			n.imports = append(n.imports, named{head, p.line, p.column})
			n.bind(head)
		case all[i-1].name == "as":
			n.bind(p.name)
		}
	}
}

// from reads: module import a as b, (c)
func (n *names) from(all []piece) {
	if len(all) > 0 && dialect.IsWord(all[0].name) {
		head, _, _ := strings.Cut(all[0].name, ".")
		n.imports = append(n.imports, named{head, all[0].line, all[0].column})
	}
	seen := false
	for _, p := range all {
		if seen = seen || p.name == "import"; seen {
			n.anything = n.anything || p.name == "*"
			n.bind(p.name)
		}
	}
}

func (n *names) bind(name string) {
	if name != "" && dialect.IsWord(name) && !keywords[name] {
		n.bound[name] = true
	}
}

// expression reads any other statement: what it binds, what it needs.
func (n *names) expression(all []piece) {
	first := all[0].name
	if first == "async" && len(all) > 1 {
		first = all[1].name
	}
	assigned := lastAssignment(all)
	stores, lambdas := 0, 0 // open: for TARGETS in, lambda PARAMETERS:
	targets := false        // inside of: as (A, B)
	for i, p := range all {
		before, after := nameAt(all, i-1), nameAt(all, i+1)
		switch p.name {
		case "for":
			stores++
		case "in":
			stores = max(0, stores-1)
		case "lambda":
			lambdas++
		case ":":
			lambdas = max(0, lambdas-1)
		case "(", ")":
			targets = before == "as"
		}
		if !dialect.IsWord(p.name) || keywords[p.name] || before == "." {
			continue
		}
		name, attribute, _ := strings.Cut(p.name, ".")
		if keywords[name] {
			continue // None.x
		}
		plain := attribute == "" && after != "." && after != "[" && after != "("
		parameter := p.depth == 1 && (before == "(" || before == "," || before == "*") && plain
		switch {
		case before == "def", before == "class":
			n.bind(name)
		case first == "def" && parameter, lambdas > 0 && plain && before != "=",
			stores > 0 && plain, i < assigned && plain && !p.index,
			before == "as", targets, first == "except" && before == "," && p.depth == 0, after == ":" && nameAt(all, i+2) == "=" && p.depth > 0:
			n.bind(name)
		case after == "=" && nameAt(all, i+2) != "=" && p.depth > 0:
			// the name of an argument
		default:
			n.anything = n.anything || name == "globals" || name == "exec" || name == "execfile" || name == "NameError"
			n.guarded = n.guarded || name == "ImportError" || name == "ModuleNotFoundError"
			n.loads = append(n.loads, named{name, p.line, p.column})
			if attribute != "" && dialect.Modules[name] != nil {
				n.members = append(n.members, p.named)
			}
		}
	}
}

// lastAssignment is the place of the last = that binds what is before it.
func lastAssignment(all []piece) int {
	last := -1
	for i, p := range all {
		before := nameAt(all, i-1)
		if p.name == "=" && p.depth == 0 && nameAt(all, i+1) != "=" && before != "" && !strings.Contains("=!<>+-*/%&|^", before) {
			last = i
		}
	}
	return last
}

func nameAt(all []piece, i int) string {
	if i < 0 || i >= len(all) {
		return ""
	}
	return all[i].name
}

// pythonNames checks the names and modules of a script for a real Python, 2 or
// 3; each is told at its first place. told are those that were told before.
func (l *linter) pythonNames(file, text string, two bool, told map[string]bool) {
	n := readNames(text)
	for _, m := range n.imports {
		if !told[m.name] && !n.guarded {
			l.module(file, m, two)
		}
		told[m.name] = true
	}
	for _, u := range n.loads {
		if !told[u.name] && !n.anything && !n.bound[u.name] && !pythonNames[u.name] && !strings.HasPrefix(u.name, "__") {
			l.unknownName(file, u, two)
		}
		told[u.name] = true
	}
	for _, m := range n.members {
		l.member(file, n, m)
	}
	l.makers(file, n)
}

func (l *linter) module(file string, m named, two bool) {
	instead, old := python2Modules[m.name]
	switch {
	case slices.Contains(ownModules, m.name):
		l.find(file, m.line, m.column, Error, "%s%s", m.name, ownModuleText)
	case old && !two:
		l.find(file, m.line, m.column, Error, "%s is a module of Python 2 only: use %s", m.name, instead)
	case !old && !pythonModules[m.name] && !pythonNames[m.name]:
		l.find(file, m.line, m.column, Warning, "%s is no module of Python's own: an add-on must have it ([BOOT] ADDONS)", m.name)
	}
}

func (l *linter) unknownName(file string, u named, two bool) {
	instead, old := python2Names[u.name]
	switch {
	case slices.Contains(ownModules, u.name):
		l.find(file, u.line, u.column, Error, "%s%s", u.name, ownModuleText)
	case old && two:
	case old:
		l.find(file, u.line, u.column, Error, "%s is a name of Python 2 only: write %s", u.name, instead)
	case pythonModules[u.name]:
		l.find(file, u.line, u.column, Error, "undefined: %s (write import %s before it)", u.name, u.name)
	default:
		l.find(file, u.line, u.column, Error, "undefined: %s", u.name)
	}
}

// pythonModules are those of Python 3 itself that scripts can use anywhere.
var pythonModules = wordSet(`abc argparse array ast asyncio atexit base64 bdb binascii bisect builtins bz2 calendar cmath cmd code
codecs collections colorsys concurrent configparser contextlib contextvars copy copyreg csv ctypes dataclasses datetime dbm
decimal difflib dis email encodings enum errno faulthandler fcntl filecmp fileinput fnmatch fractions ftplib functools gc getopt
getpass gettext glob graphlib grp gzip hashlib heapq hmac html http imaplib importlib inspect io ipaddress itertools json keyword
linecache locale logging lzma mailbox marshal math mimetypes mmap multiprocessing netrc numbers operator optparse os pathlib
pdb pickle pkgutil platform plistlib poplib posix posixpath pprint profile pty pwd py_compile queue quopri random re readline
reprlib resource runpy sched secrets select selectors shelve shlex shutil signal site smtplib socket socketserver sqlite3 ssl stat
statistics string stringprep struct subprocess symtable sys sysconfig syslog tarfile tempfile termios textwrap threading time
timeit token tokenize trace traceback tracemalloc tty types typing unicodedata unittest urllib uuid venv warnings wave weakref
wsgiref xml xmlrpc zipapp zipfile zipimport zlib zoneinfo __future__`)
