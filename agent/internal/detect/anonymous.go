package detect

import (
	"bytes"
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"net/netip"
	"path"
	"slices"
	"strings"
)

// Anonymous is the recording with other serial numbers, UUIDs, asset tags, and
// MAC, IP and World Wide addresses. The same is replaced by the same wherever
// and however it is written, texts keep their length, and vendors' parts of
// addresses stay, so that it describes the same kind of machine. The key
// decides what they are replaced by; who has it can say whether a serial number
// is that of the recording. Names in the kernel's command line and the comment
// stay.
func (rec Recording) Anonymous(key []byte) Recording {
	a := anonymizer{key: key, words: map[string]string{}, written: map[string]string{}, raw: map[string]string{}, addresses: map[netip.Addr]netip.Addr{}}
	a.collect(rec)
	a.index()
	return a.apply(rec)
}

// anonymizer knows what is replaced.
type anonymizer struct {
	key       []byte
	words     map[string]string   // by letters and digits in lower case; both of the same length
	written   map[string]string   // how a short word was written: it is looked for in no other form
	beginning map[string][]string // words by their first letters, long ones first
	raw       map[string]string   // the bytes of names that are written in hexadecimal
	addresses map[netip.Addr]netip.Addr
}

// shortest is the number of letters and digits that a secret has at least: a
// serial number of three digits tells nobody anything.
const shortest = 4

// hide has a text replaced, but its first characters.
func (a *anonymizer) hide(text string, keep int) {
	p := plain([]byte(text))
	word := string(p.word)
	if len(word) < shortest || len(word) > 200 || !strings.ContainsAny(word, "0123456789") || strings.Trim(word, word[:1]) == "" || a.words[word] != "" {
		return // too little to tell anything, or a text such as "Not Specified"
	}
	a.words[word] = a.replacement(word, keep)
	a.written[word] = text[p.at[0] : p.at[len(p.at)-1]+1]
	// Names of NVMe disks hold the serial number's bytes in hexadecimal.
	trimmed := strings.TrimSpace(text)
	one := anonymizer{words: map[string]string{word: a.words[word]}, written: a.written}
	one.index()
	a.words[hex.EncodeToString([]byte(trimmed))] = hex.EncodeToString(one.replaced([]byte(trimmed)))
	if binary, err := hex.DecodeString(word); err == nil && len(binary) >= 6 {
		other, _ := hex.DecodeString(a.words[word])
		a.raw[string(binary)] = string(other)
		if len(binary) == 16 { // a UUID as SMBIOS has it: its first three numbers in little endian
			a.raw[string(mixed(binary))] = string(mixed(other))
		}
	}
}

func mixed(uuid []byte) []byte {
	m := slices.Clone(uuid)
	slices.Reverse(m[0:4])
	slices.Reverse(m[4:6])
	slices.Reverse(m[6:8])
	return m
}

// replacement is another word of the same form: digits for digits, letters for
// letters, and hexadecimal digits where there are no others.
func (a *anonymizer) replacement(word string, keep int) string {
	letters := byte(26)
	if strings.Trim(word, "0123456789abcdef") == "" {
		letters = 6
	}
	out := []byte(word)
	for i := keep; i < len(out); i++ {
		block := hmac.New(sha256.New, a.key)
		block.Write([]byte(word))
		block.Write([]byte{byte(i)})
		random := block.Sum(nil)[0]
		if isDigit(out[i]) {
			out[i] = '0' + random%10
		} else {
			out[i] = 'a' + random%letters
		}
	}
	return string(out)
}

// index prepares the search for all words at once.
func (a *anonymizer) index() {
	a.beginning = map[string][]string{}
	for word := range a.words {
		a.beginning[word[:shortest]] = append(a.beginning[word[:shortest]], word)
	}
	for _, words := range a.beginning {
		slices.SortFunc(words, func(x, y string) int { return cmp.Or(len(y)-len(x), strings.Compare(x, y)) })
	}
}

// plainText are the letters and digits of a text, in lower case, and where they
// stand.
type plainText struct {
	word []byte
	at   []int
}

func plain(text []byte) plainText {
	var p plainText
	for i, c := range text {
		switch {
		case 'A' <= c && c <= 'Z':
			c += 'a' - 'A'
		case 'a' <= c && c <= 'z', isDigit(c):
		default:
			continue
		}
		p.word, p.at = append(p.word, c), append(p.at, i)
	}
	return p
}

// whole is the number of letters and digits from which on a secret is also
// found within a word, and with separators between.
const whole = 8

// fits tells whether the secret at a place is that secret, and not part of
// something else; written is the form of a short one.
func (p plainText) fits(text []byte, start, length int, written string) bool {
	end := start + length
	if length < whole {
		joined := strings.EqualFold(string(text[p.at[start]:p.at[end-1]+1]), written)
		free := (start == 0 || p.at[start-1] < p.at[start]-1) && (end == len(p.at) || p.at[end] > p.at[end-1]+1)
		return joined && free
	}
	for i := start + 1; i < end; i++ {
		gap := text[p.at[i-1]+1 : p.at[i]]
		if len(gap) > 1 || len(gap) == 1 && !bytes.ContainsAny(gap, ":-_. ") {
			return false
		}
	}
	return true
}

// replaced is a text with the words replaced, those that begin first and are
// longest.
func (a *anonymizer) replaced(text []byte) []byte {
	p := plain(text)
	out := slices.Clone(text)
	for start := 0; start+shortest <= len(p.word); start++ {
		for _, word := range a.beginning[string(p.word[start:start+shortest])] {
			if bytes.HasPrefix(p.word[start:], []byte(word)) && p.fits(text, start, len(word), a.written[word]) {
				put(out, p.at[start:start+len(word)], a.words[word])
				start += len(word) - 1
				break
			}
		}
	}
	return out
}

// put writes a word, and keeps capitals.
func put(out []byte, at []int, word string) {
	for i, place := range at {
		c := word[i]
		if old := out[place]; 'A' <= old && old <= 'Z' {
			c -= 'a' - 'A'
		}
		out[place] = c
	}
}

// text replaces in texts, where an IP address may become shorter or longer.
func (a *anonymizer) text(text string) string {
	text = ipv4.ReplaceAllStringFunc(text, func(old string) string {
		if address, err := netip.ParseAddr(old); err == nil && a.addresses[address].IsValid() {
			return a.addresses[address].String()
		}
		return old
	})
	text = ipv6.ReplaceAllStringFunc(text, func(old string) string {
		if address, err := netip.ParseAddr(old); err == nil && a.addresses[address].IsValid() {
			return a.addresses[address].String()
		}
		return old
	})
	return string(a.replaced([]byte(text)))
}

// binary replaces bytes by as many.
func (a *anonymizer) binary(data []byte) []byte {
	data = a.replaced(data)
	for _, old := range slices.Sorted(maps.Keys(a.raw)) {
		data = bytes.ReplaceAll(data, []byte(old), []byte(a.raw[old]))
	}
	return data
}

func (a *anonymizer) apply(rec Recording) Recording {
	out := Recording{Comment: rec.Comment, Files: map[string]string{}, Binary: map[string][]byte{}, Links: map[string]string{},
		Programs: map[string]Program{}, Addresses: map[string][]netip.Prefix{}, Ethtool: rec.Ethtool, NVMe: map[string]NVMe{}, LLDP: map[string]string{}}
	for name, text := range rec.Files {
		if strings.HasPrefix(path.Base(name), "vpd_") {
			out.Files[a.text(name)] = string(a.binary([]byte(text)))
			continue
		}
		out.Files[a.text(name)] = a.text(text)
	}
	for name, data := range rec.Binary {
		if strings.HasPrefix(name, efivars) { // certificates of vendors, which would be none any more
			out.Binary[name] = data
			continue
		}
		out.Binary[a.text(name)] = a.binary(data)
	}
	for name, target := range rec.Links {
		out.Links[a.text(name)] = a.text(target)
	}
	for _, name := range rec.Names {
		out.Names = append(out.Names, a.text(name))
	}
	for command, p := range rec.Programs {
		p.Text, p.Error = a.text(p.Text), a.text(p.Error)
		out.Programs[a.text(command)] = p
	}
	for device, text := range rec.LLDP {
		out.LLDP[device] = a.text(text)
	}
	for device, list := range rec.Addresses {
		for _, prefix := range list {
			out.Addresses[device] = append(out.Addresses[device], netip.PrefixFrom(a.address(prefix.Addr()), prefix.Bits()))
		}
	}
	for disk, answers := range rec.NVMe {
		out.NVMe[disk] = NVMe{Identify: a.binary(answers.Identify), Health: answers.Health}
	}
	return out
}

func (a *anonymizer) address(old netip.Addr) netip.Addr {
	if other := a.addresses[old]; other.IsValid() {
		return other
	}
	return old
}
