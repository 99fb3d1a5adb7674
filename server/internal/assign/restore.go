package assign

import (
	"edeploy/server/internal/literal"
)

// Restore takes again what a machine has given back with Release: one count,
// if it had taken one, and its CMDB entry. It answers the files to replace.
// The error is an *Error; nothing is taken then.
func Restore(src Source, holding Holding, others Others) ([]File, error) {
	f := finder{src: src}
	st, err := f.state()
	if err != nil {
		return nil, err
	}
	i := st.Find(holding.Profile)
	if i < 0 {
		return nil, f.fail(ErrGone, holding.Profile, "profile "+holding.Profile+" is no longer in "+src.Path()+"/state", nil)
	}
	var files []File
	if holding.After != "" {
		if files, err = f.restoreEntry(holding, others); err != nil {
			return nil, err
		}
	}
	if !holding.Counted || st.Pairs()[i].Unlimited {
		return files, nil
	}
	if !st.Pairs()[i].Available() {
		return nil, f.fail(ErrStateExhausted, holding.Profile, "the count of profile "+holding.Profile+" is 0: edeployctl state set "+holding.Profile+" 1", nil)
	}
	return append(files, File{Name: "state", State: st.Decrement(i)}), nil
}

func (f *finder) restoreEntry(holding Holding, others Others) ([]File, error) {
	before, after, err := holding.entries()
	if err != nil {
		return nil, f.fail(ErrBadCMDB, holding.Profile, err.Error(), err)
	}
	file, err := f.cmdb(holding.Profile)
	if err != nil {
		return nil, err
	}
	if file == nil {
		return nil, nil // the profile has no CMDB any more: there is nothing to keep others from
	}
	now, ok := file.Restore(before, after, func(entry *literal.Dict) bool {
		return others != nil && others(holding.Profile, literal.Repr(entry))
	})
	if !ok {
		return nil, f.fail(ErrCMDBNoEntry, holding.Profile, "its CMDB entry "+holding.Before+" is no longer free: edeployctl cmdb list "+holding.Profile+" says who has it", nil)
	}
	return changed(nil, holding.Profile, file, now), nil
}
