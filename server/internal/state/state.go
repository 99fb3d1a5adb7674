// Package state reads and writes the state file: the ordered list of profiles
// with the number of machines each still wants (reference section 6).
//
//	[('db', 2), ('web', '12'), ('spare', '*')]
package state

import (
	"math"
	"strconv"
	"strings"

	"edeploy/server/internal/literal"
)

// Pair is one profile and its count.
type Pair struct {
	Profile   string
	Unlimited bool  // the count is '*'
	Count     int64 // how many more machines may take the profile; 0 and below: none
}

// Available tells whether one more machine may take the profile.
func (p Pair) Available() bool { return p.Unlimited || p.Count > 0 }

// State is a parsed state file. It is never changed: Decrement and GiveBack
// make a new one.
type State struct {
	pairs []Pair
	first map[string]int // profile -> index of its first pair
	raw   literal.List   // the pairs as they stand in the file
	text  string
	doc   *literal.Document // the file as read
}

// Parse reads the text of a state file. The error is a *literal.Error.
func Parse(file, text string) (*State, error) {
	doc, err := literal.Parse(file, text)
	if err != nil {
		return nil, err
	}
	list, ok := doc.Node.Value.(literal.List)
	if !ok {
		return nil, doc.ErrorAt(doc.Node.Start, "want a list of pairs (profile, count)")
	}
	if len(list) > MaxPairs {
		return nil, doc.ErrorAt(doc.Node.Items[MaxPairs].Start, "the list has %d profiles, %d are taken", len(list), MaxPairs)
	}
	s := &State{raw: list, text: text, doc: doc, first: map[string]int{}}
	for i, node := range doc.Node.Items {
		pair, err := parsePair(doc, node)
		if err != nil {
			return nil, err
		}
		s.pairs = append(s.pairs, pair)
		if _, ok := s.first[pair.Profile]; !ok {
			s.first[pair.Profile] = i
		}
	}
	return s, nil
}

// MaxPairs bounds a state file. Each profile is tried until one fits.
const MaxPairs = 10000

func parsePair(doc *literal.Document, node literal.Node) (Pair, error) {
	switch node.Value.(type) {
	case literal.List, literal.Tuple:
	default:
		return Pair{}, doc.ErrorAt(node.Start, "want a pair (profile, count), got %s", literal.Repr(node.Value))
	}
	if len(node.Items) != 2 {
		return Pair{}, doc.ErrorAt(node.Start, "want a pair (profile, count), got %d values", len(node.Items))
	}
	name, ok := node.Items[0].Value.(string)
	if !ok {
		return Pair{}, doc.ErrorAt(node.Items[0].Start, "want the name of a profile, got %s", literal.Repr(node.Items[0].Value))
	}
	pair := Pair{Profile: name}
	switch count := node.Items[1].Value.(type) {
	case int64:
		pair.Count = count
		return pair, nil
	case string:
		if count == "*" {
			pair.Unlimited = true
			return pair, nil
		}
		n, err := strconv.ParseInt(strings.TrimSpace(count), 10, 64)
		if err == nil {
			pair.Count = n
			return pair, nil
		}
	}
	return Pair{}, doc.ErrorAt(node.Items[1].Start, "count of %s is %s: want a number or '*'", name, literal.Repr(node.Items[1].Value))
}

// Pairs are the profiles in their order; do not change them.
func (s *State) Pairs() []Pair { return s.pairs }

// Find is the index of the first pair of a profile, or -1.
func (s *State) Find(profile string) int {
	if i, ok := s.first[profile]; ok {
		return i
	}
	return -1
}

// Text is the file's text: as it was read, or as it is to be written.
func (s *State) Text() string { return s.text }

// Decrement takes one from the pair at the index; an unlimited one stays.
func (s *State) Decrement(index int) *State {
	if s.pairs[index].Unlimited {
		return s
	}
	return s.with(index, s.pairs[index].Count-1)
}

// GiveBack adds one to the first pair of that profile (reference section
// 6.3); it changes nothing, and says so, when there is none or its count is
// '*'.
func (s *State) GiveBack(profile string) (*State, bool) {
	i := s.Find(profile)
	if i < 0 || s.pairs[i].Unlimited || s.pairs[i].Count == math.MaxInt64 {
		return s, false
	}
	return s.with(i, s.pairs[i].Count+1), true
}

// with is the state with one count replaced. A file with comments keeps its
// text around the count; any other is written as Python's pprint does.
func (s *State) with(index int, count int64) *State {
	raw := append(literal.List(nil), s.raw...)
	raw[index] = literal.Tuple{s.pairs[index].Profile, count}
	if !s.doc.Comments {
		return mustParse(s.doc.File, literal.Format(raw))
	}
	place := s.doc.Node.Items[index].Items[1]
	return mustParse(s.doc.File, s.text[:place.Start]+strconv.FormatInt(count, 10)+s.text[place.End:])
}

func mustParse(file, text string) *State {
	s, err := Parse(file, text)
	if err != nil {
		panic("state: own text is unreadable: " + err.Error())
	}
	return s
}
