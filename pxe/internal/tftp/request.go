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

// Block sizes: without the option, and the bounds of RFC 2348.
const (
	defaultBlock = 512
	minBlock     = 8
	maxBlock     = 65464
)

// request is a read request.
type request struct {
	name     string
	netascii bool     // text with CR LF line ends; else the bytes as they are
	options  []option // in the client's order
}

// option of RFC 2347. The name is as the client spells it; case does not count.
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
	words := bytes.Split(packet[2:], []byte{0})
	words = words[:len(words)-1] // what follows the last zero byte
	if len(words) < 2 || len(words[0]) == 0 {
		return request{}, refusal{errIllegal, "malformed request"}
	}
	r := request{name: string(words[0])}
	switch mode := strings.ToLower(string(words[1])); mode {
	case "octet":
	case "netascii":
		r.netascii = true
	default:
		return request{}, refusal{errIllegal, fmt.Sprintf("mode %q: want octet or netascii", mode)}
	}
	for rest := words[2:]; len(rest) >= 2; rest = rest[2:] {
		r.options = append(r.options, option{string(rest[0]), string(rest[1])})
	}
	return r, nil
}

// negotiate answers the options that are understood, each once, and the size
// of a block. No accepted option: the first data packet is the answer.
func (r request) negotiate(size int64, largest int) (accepted []option, block int) {
	block = defaultBlock
	seen := map[string]bool{}
	for _, o := range r.options {
		name := strings.ToLower(o.name)
		if seen[name] {
			continue
		}
		seen[name] = true
		switch name {
		case "blksize":
			n, err := strconv.Atoi(o.value)
			if err != nil || n < minBlock {
				continue
			}
			block = min(n, largest)
			accepted = append(accepted, option{o.name, strconv.Itoa(block)})
		case "tsize":
			if !r.netascii { // its size is known when it has been sent
				accepted = append(accepted, option{o.name, strconv.FormatInt(size, 10)})
			}
		}
	}
	return accepted, block
}

func optionsPacket(accepted []option) []byte {
	packet := binary.BigEndian.AppendUint16(nil, opOptions)
	for _, o := range accepted {
		packet = append(append(packet, o.name...), 0)
		packet = append(append(packet, o.value...), 0)
	}
	return packet
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
