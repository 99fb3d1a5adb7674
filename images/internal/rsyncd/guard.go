package rsyncd

import (
	"encoding/binary"
	"fmt"
	"io"
	"strings"
)

// Limits on what a client may send.
const (
	maxLine   = 4096    // one line of the greeting, one argument
	maxArgs   = 100     // arguments
	maxFilter = 4096    // bytes of one filter rule
	maxRules  = 16      // filter rules
	maxBlocks = 1 << 18 // checksums of one file: blocks of about sqrt(size) reach 64 GiB
	maxBlock  = 1 << 20 // bytes of one block
)

// guard reads what the client sends and hands on only what the library can
// take: with fewer checks a client makes it panic (a wildcard filter), end the
// whole process (--help among the arguments), reserve any amount of memory
// (counts and lengths are used as they come), or send wrong files.
//
// The stream of a receiving client in protocol 27 is: greeting line, module
// line, argument lines and an empty one, filter rules (length, text) up to
// length 0, then per wanted file its index, a sum head of four numbers and the
// sums; index -1 ends a phase.
type guard struct {
	wire    *wire
	next    func() error // reads and checks one unit, puts it into out
	out     []byte       // checked, not yet delivered
	passing int64        // bytes after out that need no check
	files   *account     // on the list that the client gets
	sums    *account     // that the client sent for the file under way

	module  string
	paths   []string
	dryRun  bool
	flat    bool  // the client lists one directory, without what is below its entries
	refusal error // why the connection was ended by us
}

func newGuard(w *wire, files, sums *account) *guard {
	g := &guard{wire: w, files: files, sums: sums}
	g.next = g.greeting
	return g
}

// hello reads what comes before the arguments.
func (g *guard) hello() error {
	if err := g.greeting(); err != nil {
		return err
	}
	line := g.out
	if err := g.moduleName(); err != nil {
		return err
	}
	g.out = append(line, g.out...)
	return nil
}

func (g *guard) close() {
	g.files.close()
	g.sums.close()
}

// Read delivers checked bytes.
func (g *guard) Read(p []byte) (int, error) {
	for len(g.out) == 0 && g.passing == 0 {
		if err := g.next(); err != nil {
			return 0, err
		}
	}
	if len(g.out) > 0 {
		n := copy(p, g.out)
		g.out = g.out[n:]
		return n, nil
	}
	n, err := g.wire.in.Read(p[:min(int64(len(p)), g.passing)])
	g.passing -= int64(n)
	return n, err
}

// protocol is the version that the library speaks with every client, and
// greeting the line that it begins with.
const (
	protocol = 27
	greeting = "@RSYNCD: 27\n"
)

func (g *guard) greeting() error {
	line, err := g.line()
	if err != nil {
		return err
	}
	var major int
	if _, err := fmt.Sscanf(string(line), "@RSYNCD: %d", &major); err != nil || major < protocol {
		err := fmt.Errorf("this server speaks rsync protocol %d and later, the client says %.80q", protocol, line)
		fmt.Fprintf(g.wire, "@ERROR: %v\n", err)
		return g.fail(err)
	}
	g.out = append(line, '\n')
	g.next = g.moduleName
	return nil
}

func (g *guard) moduleName() error {
	line, err := g.line()
	if err != nil {
		return err
	}
	g.module = strings.TrimSpace(string(line))
	g.out = append(line, '\n')
	g.next = g.arguments
	return nil
}

func (g *guard) arguments() error {
	var args []string
	for {
		line, err := g.line()
		if err != nil {
			return err
		}
		if len(line) == 0 {
			break
		}
		if len(args) == maxArgs {
			return g.refuse(fmt.Errorf("more than %d arguments", maxArgs))
		}
		args = append(args, string(line))
	}
	r, err := parseRequest(args)
	if err != nil {
		return g.refuse(err)
	}
	g.paths, g.dryRun, g.flat = r.paths, r.dryRun, r.flat
	g.out = []byte(strings.Join(r.args, "\n") + "\n\n")
	g.next = g.filters
	return nil
}

// listDirectory is the rule that a client adds to list one directory only
// (rsync, exclude.c, send_filter_list). The view does what it means.
const listDirectory = "/*/*"

func (g *guard) filters() error {
	for rules := 0; ; rules++ {
		length, err := g.number()
		if err != nil {
			return err
		}
		if length == 0 {
			break
		}
		if length < 0 || length > maxFilter || rules == maxRules {
			return g.fail(fmt.Errorf("filter rule of %d bytes, after %d others", length, rules))
		}
		rule := make([]byte, length)
		if _, err := io.ReadFull(g.wire.in, rule); err != nil {
			return err
		}
		if strings.TrimPrefix(string(rule), "- ") != listDirectory {
			return g.fail(fmt.Errorf("this server takes no --exclude, --include or --filter (%q): copy whole directories or files", rule))
		}
		g.flat = true
	}
	g.out = make([]byte, 4)
	g.next = g.wanted
	return nil
}

func (g *guard) wanted() error {
	index, err := g.number()
	if err != nil {
		return err
	}
	g.out = binary.LittleEndian.AppendUint32(nil, uint32(index))
	if index < 0 || g.dryRun {
		return nil
	}
	var head [4]int32 // blocks, bytes of a block, bytes of a sum, bytes of the last block
	for i := range head {
		if head[i], err = g.number(); err != nil {
			return err
		}
		g.out = binary.LittleEndian.AppendUint32(g.out, uint32(head[i]))
	}
	blocks, block, sum, last := head[0], head[1], head[2], head[3]
	if blocks < 0 || blocks > maxBlocks || sum < 0 || sum > 16 ||
		blocks > 0 && (block < 1 || block > maxBlock || last < 0 || last > block) {
		return g.fail(fmt.Errorf("checksums out of bounds: %d blocks of %d bytes, sums of %d bytes, last block of %d bytes", blocks, block, sum, last))
	}
	g.sums.close() // those of the file before
	if err := g.sums.take(int64(blocks)); err != nil {
		return g.refuse(err)
	}
	g.passing = int64(blocks) * (4 + int64(sum))
	return nil
}

// listed counts files that the library puts on the client's list. It passes over
// errors of directories, so that the connection is ended here.
func (g *guard) listed(n int) error {
	err := g.files.take(int64(n))
	if err == nil {
		return nil
	}
	err = g.refuse(err)
	g.wire.Flush()
	g.wire.ended = err
	return err
}

// fail ends the transfer; the library tells the client.
func (g *guard) fail(err error) error {
	g.refusal = err
	return err
}

// refuse ends the conversation before the transfer. The client now expects
// the checksum seed and then messages; error messages have tag 7+1.
func (g *guard) refuse(err error) error {
	text := "edeploy: " + err.Error() + "\n"
	message := make([]byte, 4, 8+len(text))
	message = binary.LittleEndian.AppendUint32(message, 8<<24|uint32(len(text)))
	g.wire.Write(append(message, text...))
	return g.fail(err)
}

// line reads one line without its end.
func (g *guard) line() ([]byte, error) {
	var line []byte
	for {
		c, err := g.wire.in.ReadByte()
		if err != nil {
			return nil, err
		}
		if c == '\n' {
			return line, nil
		}
		if len(line) == maxLine-1 {
			return nil, g.fail(fmt.Errorf("line longer than %d bytes", maxLine))
		}
		line = append(line, c)
	}
}

func (g *guard) number() (int32, error) {
	var b [4]byte
	if _, err := io.ReadFull(g.wire.in, b[:]); err != nil {
		return 0, err
	}
	return int32(binary.LittleEndian.Uint32(b[:])), nil
}
