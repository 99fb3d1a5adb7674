package configure

import (
	"errors"
	"fmt"

	"go.starlark.net/starlark"

	"edeploy/agent/internal/drive"
)

// disks(count, id, serial, wwn, path, model, transport, rotational, removable,
// size_min, size_max, order) are the device names of the disks that fit.
func (e *helperEnv) disks(args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	wish, err := readWish(args, kwargs)
	if err != nil {
		return nil, err
	}
	if e.watch.guard == nil {
		return nil, errors.New("disks: nobody has looked which disks there are")
	}
	if err := e.watch.guard.Refresh(); err != nil {
		return nil, fmt.Errorf("disks: %w", err)
	}
	chosen, err := wish.Choose(e.watch.guard.Drives)
	if err != nil {
		return nil, fmt.Errorf("disks: %w", err)
	}
	var names []starlark.Value
	for _, d := range chosen {
		names = append(names, starlark.String(d.Device()))
	}
	return starlark.NewList(names), e.watch.use(chosen, "disks(...) chose it")
}

// readWish reads the arguments of disks.
func readWish(args starlark.Tuple, kwargs []starlark.Tuple) (drive.Wish, error) {
	var w drive.Wish
	var count int
	var ids, serials, wwns, places, models, transports texts
	var rotational, removable flag
	var least, most size
	var order string
	err := starlark.UnpackArgs("disks", args, kwargs, "count??", &count, "id??", &ids, "serial??", &serials, "wwn??", &wwns, "path??", &places,
		"model??", &models, "transport??", &transports, "rotational??", &rotational, "removable?", &removable,
		"size_min??", &least, "size_max??", &most, "order??", &order)
	w = drive.Wish{Count: count, IDs: ids, Serials: serials, WWNs: wwns, Places: places, Models: models, Transports: transports,
		Rotational: rotational.value, Removable: removable.value, SizeMin: int64(least), SizeMax: int64(most), Order: drive.Order(order)}
	// A stick is meant only by those who say so.
	named := len(ids)+len(serials)+len(wwns)+len(places) > 0
	for _, t := range transports {
		named = named || t == "usb"
	}
	if !removable.given && !named {
		w.Removable = new(bool)
	}
	return w, err
}

// texts is one text or a list of them.
type texts []string

// Unpack is part of starlark.Unpacker.
func (t *texts) Unpack(v starlark.Value) error {
	if s, ok := starlark.AsString(v); ok {
		*t = texts{s}
		return nil
	}
	list, ok := v.(starlark.Iterable)
	if !ok {
		return fmt.Errorf("want a string or a list of them, not a %s", v.Type())
	}
	for item := range starlark.Elements(list) {
		s, ok := starlark.AsString(item)
		if !ok {
			return fmt.Errorf("want strings, not a %s", item.Type())
		}
		*t = append(*t, s)
	}
	if len(*t) == 0 {
		return errors.New("want at least one string")
	}
	return nil
}

// flag is True, False, or None for either; facts have 1 and 0.
type flag struct {
	given bool
	value *bool
}

// Unpack is part of starlark.Unpacker.
func (f *flag) Unpack(v starlark.Value) error {
	f.given = true
	switch v.(type) {
	case starlark.NoneType:
		return nil
	case starlark.Bool, starlark.Int:
		is := bool(v.Truth())
		f.value = &is
		return nil
	}
	return fmt.Errorf("want True, False or None, not a %s", v.Type())
}

// size is a number of bytes, or a text such as "100G".
type size int64

// Unpack is part of starlark.Unpacker.
func (s *size) Unpack(v starlark.Value) error {
	if text, ok := starlark.AsString(v); ok {
		n, err := drive.ParseSize(text)
		*s = size(n)
		return err
	}
	var n int64
	err := starlark.AsInt(v, &n)
	*s = size(n)
	return err
}

// wipe(policy) says what becomes of data that is no installation's of this machine.
func (e *helperEnv) wipe(args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var policy string
	if err := starlark.UnpackArgs("wipe", args, kwargs, "policy", &policy); err != nil {
		return nil, err
	}
	policy, err := checkPolicy(policy)
	if err == nil && e.watch.begun {
		err = errors.New("wipe: call it before the script's first command")
	}
	e.watch.policy = policy
	return starlark.None, err
}
