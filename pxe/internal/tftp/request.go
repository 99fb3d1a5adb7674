package tftp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Operation codes, RFC 1350 section 5 and RFC 2347.
const (
	opRead, opWrite, opData, opAck, opError, opOptions = 1, 2, 3, 4, 5, 6
)

// Error numbers, RFC 1350.
const (
	errOther    = 0
	errNotFound = 1
	errAccess   = 2
	errIllegal  = 4
)

// Block sizes: without the option, and the bound of RFC 2348. The library
// accepts none below the default.
const (
	defaultBlock = 512
	maxBlock     = 65464
)

// maxRequest bounds a request, RFC 2347.
const maxRequest = 512

// request is a read request.
type request struct {
	name    string
	mode    string   // netascii: text with CR LF line ends; octet: the bytes as they are
	options []option // in the client's order
}

// option of RFC 2347, its name in small letters.
type option struct{ name, value string }

// refusal is an error that the client is told.
type refusal struct {
	code uint16
	text string
}

func (r refusal) Error() string { return r.text }

// errIgnore: no answer is due. An error must never answer an error.
var errIgnore = errors.New("not a request")

// parseRequest reads a packet that came to the server's port. Errors are
// errIgnore and refusals.
func parseRequest(packet []byte) (request, error) {
	if len(packet) < 2 {
		return request{}, errIgnore
	}
	switch binary.BigEndian.Uint16(packet) {
	case opRead:
	case opWrite:
		return request{}, refusal{errAccess, "this server is read-only"}
	default:
		return request{}, errIgnore
	}
	if len(packet) > maxRequest {
		return request{}, refusal{errIllegal, fmt.Sprintf("a request has at most %d bytes", maxRequest)}
	}
	words := bytes.Split(packet[2:], []byte{0})
	words = words[:len(words)-1] // what follows the last zero byte
	if len(words) < 2 || len(words[0]) == 0 {
		return request{}, refusal{errIllegal, "malformed request"}
	}
	r := request{name: string(words[0]), mode: strings.ToLower(string(words[1]))}
	if r.mode != "octet" && r.mode != "netascii" {
		return request{}, refusal{errIllegal, fmt.Sprintf("mode %q: want octet or netascii", r.mode)}
	}
	for rest := words[2:]; len(rest) >= 2; rest = rest[2:] {
		r.options = append(r.options, option{strings.ToLower(string(rest[0])), string(rest[1])})
	}
	return r, nil
}

// packet is the request as the library reads it: it knows mode and options in
// small letters only, and takes the last of two options of one name.
func (r request) packet() []byte {
	words := []string{r.name, r.mode}
	seen := map[string]bool{}
	for _, o := range r.options {
		if !seen[o.name] {
			words = append(words, o.name, o.value)
		}
		seen[o.name] = true
	}
	packet := binary.BigEndian.AppendUint16(nil, opRead)
	for _, word := range words {
		packet = append(append(packet, word...), 0)
	}
	return packet
}

// block is the size of a block that is used at the most.
func (r request) block(largest int) int {
	for _, o := range r.options {
		if n, err := strconv.Atoi(o.value); err == nil && o.name == "blksize" && n >= defaultBlock {
			return min(n, largest)
		}
	}
	return defaultBlock
}

func errorPacket(r refusal) []byte {
	packet := binary.BigEndian.AppendUint16(nil, opError)
	packet = binary.BigEndian.AppendUint16(packet, r.code)
	return append(append(packet, r.text...), 0)
}

// cleanName makes a path of the directory of what ROMs send: a leading slash,
// backslashes, or the byte 0xff (the end mark of the DHCP options, which some
// Intel ROMs take for the last letter of the name).
func cleanName(name string) string {
	for len(name) > 0 && name[len(name)-1] == 0xff {
		name = name[:len(name)-1]
	}
	name = strings.ReplaceAll(name, `\`, "/")
	return strings.TrimLeft(name, "/")
}
