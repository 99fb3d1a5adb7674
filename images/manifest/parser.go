package manifest

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"strconv"
	"strings"
	"time"
)

// parse reads mtree(5) text within the limits and hands on each entry.
func parse(r io.Reader, most limits, found func(Entry)) error {
	limited := &io.LimitedReader{R: r, N: most.text + 1}
	p := parser{size: Size{most: most}, in: bufio.NewReaderSize(limited, 64<<10), dir: ".", set: map[string]string{}, groups: map[string]int{}, found: found}
	for {
		line, err := p.nextLine()
		if err == io.EOF || limited.N == 0 { // a line that is cut says nothing
			break
		}
		if err == nil {
			err = p.take(line)
		}
		if err != nil {
			return fmt.Errorf("line %d: %w", p.line, err)
		}
	}
	if limited.N == 0 {
		return fmt.Errorf("%w: longer than %d bytes", ErrInvalid, most.text)
	}
	return nil
}

// parser holds the state of mtree(5) text between lines.
type parser struct {
	in     *bufio.Reader
	line   int
	dir    string            // current directory of relative names
	set    map[string]string // defaults of /set
	groups map[string]int    // hard-link group by device and inode
	found  func(Entry)
	size   Size // of the entries: /set and relative names make much of little text
}

// Every line is read with all keywords of /set, so these are few and short.
const (
	maxSet      = 64
	maxSetBytes = 1024
)

// nextLine joins lines that end with a backslash. Comments are not continued.
func (p *parser) nextLine() (string, error) {
	var whole []byte
	for {
		line, err := p.physicalLine(MaxLineBytes - len(whole))
		if err != nil && (err != io.EOF || len(whole) == 0) {
			return "", err
		}
		head, continued := bytes.CutSuffix(line, []byte(`\`))
		whole = append(whole, head...)
		comment := whole[:min(len(whole), 100)]
		if !continued || err == io.EOF || bytes.HasPrefix(bytes.TrimLeft(comment, " \t"), []byte("#")) {
			return string(whole), nil
		}
	}
}

// physicalLine reads up to the next line feed; io.EOF means that there is no line.
func (p *parser) physicalLine(most int) ([]byte, error) {
	var line []byte
	p.line++
	for {
		part, err := p.in.ReadSlice('\n')
		if line = append(line, part...); len(line) > most {
			return nil, fmt.Errorf("%w: longer than %d bytes", ErrInvalid, MaxLineBytes)
		}
		if err == bufio.ErrBufferFull {
			continue
		}
		if err == io.EOF && len(line) > 0 {
			err = nil
		}
		return bytes.TrimRight(line, "\r\n"), err
	}
}

// take handles one line.
func (p *parser) take(line string) error {
	words := strings.Fields(line)
	switch {
	case len(words) == 0:
		return nil
	case strings.HasPrefix(words[0], "#"):
		return nil
	case words[0] == "/set":
		for _, word := range words[1:] {
			name, value, _ := strings.Cut(word, "=")
			if len(word) > maxSetBytes {
				return fmt.Errorf("%w: /set %.40s... is longer than %d bytes", ErrInvalid, name, maxSetBytes)
			}
			p.set[name] = value
		}
		if len(p.set) > maxSet {
			return fmt.Errorf("%w: /set of more than %d keywords", ErrInvalid, maxSet)
		}
		return nil
	case words[0] == "/unset":
		for _, name := range words[1:] {
			if delete(p.set, name); name == "all" {
				clear(p.set)
			}
		}
		return nil
	case words[0] == "..":
		p.dir = path.Dir(p.dir)
		return nil
	case words[0][0] == '/':
		return fmt.Errorf("%w: %s is absolute", ErrInvalid, words[0])
	}
	if err := p.takeEntry(words[0], words[1:]); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrInvalid, words[0], err)
	}
	return nil
}

func (p *parser) takeEntry(word string, keywords []string) error {
	name, err := Unescape(word)
	if err != nil {
		return err
	}
	relative := !strings.Contains(word, "/")
	name = strings.Clone(strings.TrimPrefix(name, "./"))
	if relative && p.dir != "." && name != "." {
		name = p.dir + "/" + name
	}
	values := maps.Clone(p.set)
	for _, keyword := range keywords {
		name, value, _ := strings.Cut(keyword, "=")
		values[name] = value
	}
	e, err := p.entry(name, values)
	if err == nil {
		err = e.Check()
	}
	if err != nil {
		return err
	}
	if err := p.size.Add(&e); err != nil {
		return err
	}
	if relative && e.Type == Dir {
		p.dir = name
	}
	p.found(e)
	return nil
}

// entry makes an Entry of the keywords of one line.
func (p *parser) entry(path string, values map[string]string) (Entry, error) {
	e := Entry{Path: path, Type: Type(strings.Clone(values["type"]))}
	if e.Type == "" {
		return e, errors.New("it has no type")
	}
	var faults []error
	must := func(name string, set func(value string) error) {
		value, ok := values[name]
		if !ok {
			faults = append(faults, fmt.Errorf("it has no %s", name))
		} else if err := set(value); err != nil {
			faults = append(faults, fmt.Errorf("%s=%.100s: %w", name, value, err))
		}
	}
	must("uid", number(&e.UID, 10))
	must("gid", number(&e.GID, 10))
	must("time", func(v string) (err error) { e.ModTime, err = parseTime(v); return err })
	if _, ok := values["mode"]; ok || e.Type != Symlink {
		must("mode", number(&e.Mode, 8))
	}
	switch e.Type {
	case File:
		must("size", func(v string) (err error) { e.Size, err = strconv.ParseInt(v, 10, 64); return plain(err) })
		digest := "sha256digest"
		if _, ok := values[digest]; !ok && values["sha256"] != "" {
			digest = "sha256"
		}
		must(digest, func(v string) error { return parseDigest(&e.SHA256, v) })
	case Symlink:
		must("link", func(v string) (err error) { e.Link, err = Unescape(strings.Clone(v)); return err })
	case Block, Char:
		must("device", e.parseDevice)
	}
	for name, value := range values {
		switch {
		case name == "inode" && e.Type != Dir:
			e.Group = p.group(values["resdevice"] + "/" + value)
		case strings.HasPrefix(name, "xattr."):
			faults = append(faults, e.parseXattr(name[len("xattr."):], value))
		}
	}
	return e, errors.Join(faults...)
}

// group numbers (device, inode) pairs.
func (p *parser) group(key string) int {
	if p.groups[key] == 0 {
		p.size.memory += int64(mapBytes + len(key))
		p.groups[strings.Clone(key)] = len(p.groups) + 1
	}
	return p.groups[key]
}

func number(to *uint32, base int) func(string) error {
	return func(v string) error {
		n, err := strconv.ParseUint(v, base, 32)
		*to = uint32(n)
		return plain(err)
	}
}

// plain leaves out strconv's function name and the value, which the caller adds.
func plain(err error) error {
	var bad *strconv.NumError
	if errors.As(err, &bad) {
		return bad.Err
	}
	return err
}

// parseTime reads SECONDS.NANOSECONDS. The part after the point is a number of
// nanoseconds, not a fraction: libarchive writes it without leading zeros.
func parseTime(v string) (time.Time, error) {
	whole, nano, _ := strings.Cut(v, ".")
	seconds, err := strconv.ParseInt(whole, 10, 64)
	if err != nil {
		return time.Time{}, plain(err)
	}
	if seconds < -1<<40 || seconds > 1<<40 {
		return time.Time{}, strconv.ErrRange
	}
	n := uint64(0)
	if nano != "" {
		if n, err = strconv.ParseUint(nano, 10, 64); err != nil {
			return time.Time{}, plain(err)
		}
	}
	if n > 999_999_999 {
		return time.Time{}, strconv.ErrRange
	}
	return time.Unix(seconds, int64(n)).UTC(), nil
}

func parseDigest(to *[32]byte, v string) error {
	if len(v) != 2*len(to) {
		return fmt.Errorf("want %d hexadecimal digits", 2*len(to))
	}
	_, err := hex.Decode(to[:], []byte(v))
	return err
}

func (e *Entry) parseDevice(v string) error {
	parts := strings.Split(v, ",")
	if len(parts) != 3 || parts[0] != "native" && parts[0] != "linux" {
		return errors.New("want native,MAJOR,MINOR")
	}
	if err := number(&e.Major, 10)(parts[1]); err != nil {
		return err
	}
	return number(&e.Minor, 10)(parts[2])
}

func (e *Entry) parseXattr(word, value string) error {
	name, err := Unescape(word)
	if err != nil {
		return err
	}
	bytes, err := base64.StdEncoding.DecodeString(value)
	if err != nil {
		return fmt.Errorf("xattr.%s: %w", word, err)
	}
	if e.Xattrs == nil {
		e.Xattrs = map[string][]byte{}
	}
	e.Xattrs[strings.Clone(name)] = bytes
	return nil
}
