package assign

import (
	"fmt"
	"strings"

	"edeploy/server/api"
	"edeploy/server/internal/expectation"
)

// expected compares the machine with the bill of materials that the specs of a
// profile name. What differs is an *Error with Differs, unless the operator has
// let it pass: then it is answered.
func (f *finder) expected(profile string) (passed *api.Differing, err error) {
	specs, _ := f.src.Specs(profile) // they have fitted
	if specs == nil || specs.Bill == "" {
		return nil, nil
	}
	bill, err := f.src.Bill(specs.Bill)
	if bill == nil {
		return nil, f.fail(ErrBadBill, profile, fmt.Sprintf("profile %s expects the hardware of %s.bill, which cannot be had: %v", profile, specs.Bill, err), err)
	}
	f.complain(err)
	is := f.facts.differing(profile, specs.Bill, bill)
	if is == nil || is.Mark == f.facts.Anyway {
		return is, nil
	}
	failure := f.fail(ErrDiffers, profile, differs(is), nil)
	failure.Differs = is
	return nil, failure
}

// maxTold bounds the differences that a machine's console shows.
const maxTold = 20

// differs is the sentence about a machine that differs, with the differences a
// line each.
func differs(is *api.Differing) string {
	var list strings.Builder
	fmt.Fprintf(&list, "it fits profile %s, but it %s, so nothing is installed:", is.Profile, is)
	told := is.Differences[:min(len(is.Differences), maxTold)]
	for _, d := range told {
		list.WriteString("\n  " + d.String())
	}
	if more := is.Count() - len(told); more > 0 {
		fmt.Fprintf(&list, "\n  ... and %d more", more)
	}
	return list.String()
}

// compared is the outcome of a comparison.
type compared struct {
	bill *expectation.Bill
	is   *api.Differing
}

// differing compares with a bill, once.
func (facts *Facts) differing(profile, name string, bill *expectation.Bill) *api.Differing {
	if is, ok := facts.compared[profile]; ok && is.bill == bill {
		return is.is
	}
	if facts.machine == nil {
		machine := expectation.Of(facts.hardware)
		facts.machine = &machine
	}
	is := expectation.Differing(profile, name, bill.Compare(*facts.machine))
	facts.compared[profile] = compared{bill, is}
	return is
}
