package main

import (
	"errors"
	"fmt"

	"edeploy/server/internal/assign"
	"edeploy/server/internal/match"
	"edeploy/server/wire"
)

// refusal says why a machine gets nothing, in the words of the files. A
// machine may well fit a profile and get nothing: there is no entry for it, or
// the count is 0.
func (p *plan) refusal(err error, hw wire.Hardware) string {
	var is *assign.Error
	if !errors.As(err, &is) {
		return err.Error()
	}
	switch {
	case errors.Is(err, assign.ErrCMDBNoEntry):
		return fmt.Sprintf("%s fits, but %s", is.Profile, p.noEntry(is.Profile, hw))
	case errors.Is(err, assign.ErrCMDBExhausted):
		return fmt.Sprintf("%s fits, but %s", is.Profile, p.exhausted(is.Profile))
	case errors.Is(err, assign.ErrBadCMDB):
		return fmt.Sprintf("%s fits, but %v", is.Profile, err)
	case errors.Is(err, assign.ErrStateExhausted), errors.Is(err, assign.ErrNoMatch):
		if len(is.Full) > 0 {
			return fmt.Sprintf("%s fits, but its count is 0: edeployctl state set %s N", is.Full[0], is.Full[0])
		}
	}
	if errors.Is(err, assign.ErrStateExhausted) {
		return "all counts of state are 0, and none of these profiles fits"
	}
	return err.Error()
}

// noEntry says which values no entry has, or that all that have them are taken.
func (p *plan) noEntry(profile string, hw wire.Hardware) string {
	specs, err := p.Specs(profile)
	if specs == nil {
		return err.Error()
	}
	strict := match.Match(hw, specs).Strict
	f, err := p.CMDB(profile)
	if f == nil {
		return fmt.Sprint(err)
	}
	if i := f.With(strict.Dict()); i >= 0 {
		return fmt.Sprintf("entry %d of %s.cmdb, which has %s, is another machine's", i+1, profile, strict.Equations())
	}
	return fmt.Sprintf("no entry of %s.cmdb has %s", profile, strict.Equations())
}

func (p *plan) exhausted(profile string) string {
	f, err := p.CMDB(profile)
	if f == nil {
		return fmt.Sprint(err)
	}
	if f.Len() == 1 {
		return fmt.Sprintf("the only entry of %s.cmdb is used", profile)
	}
	return fmt.Sprintf("all %d entries of %s.cmdb are used", f.Len(), profile)
}
