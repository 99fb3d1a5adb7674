package httpd

import (
	"bufio"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"slices"

	"edeploy/server/api"
	"edeploy/server/internal/archive"
	"edeploy/server/internal/machine"
	"edeploy/server/internal/refusal"
	"edeploy/server/internal/upload"
	"edeploy/server/wire"
)

// hardwareOf reads the last description of a machine.
func (h *Handlers) hardwareOf(r machine.Record) (wire.Hardware, error) {
	kept := h.Archives[r.Section].Hardware
	if kept == nil || r.HardwareFile == "" {
		return nil, refusal.New(refusal.NoFile, "machine %s has not sent its description yet", r.ID)
	}
	f, err := kept.Open(r.HardwareFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, refusal.New(refusal.NoFile, "the description of machine %s, %s/%s, is gone: the machine sends it when it asks again", r.ID, kept.Dir, r.HardwareFile)
	}
	if err != nil {
		return nil, refusal.New(refusal.Broken, "description of machine %s: %v", r.ID, err)
	}
	defer f.Close()
	var hardware wire.Hardware
	text, err := io.ReadAll(io.LimitReader(f, wire.MaxHardwareBytes+1))
	if err == nil {
		hardware, err = upload.ParseHardware(text)
	}
	if err != nil {
		return nil, refusal.New(refusal.Broken, "description of machine %s, %s/%s: %v", r.ID, kept.Dir, r.HardwareFile, err)
	}
	return hardware, nil
}

// showHardware answers the description as an agent uploads it, in JSON.
func (h *Handlers) showHardware(w http.ResponseWriter, r *http.Request) {
	h.answerLong(w, r, "application/json", func(out *bufio.Writer) error {
		rec, err := h.named(r)
		if err != nil {
			return err
		}
		hardware, err := h.hardwareOf(rec)
		if err != nil {
			return err
		}
		return wire.EncodeHardware(out, hardware)
	})
}

// logsOf lists the logs of the machine that a request is about: those under the
// name that its agent gives them. Machines with the same vendor, product and
// serial share it.
func (h *Handlers) logsOf(r *http.Request) (machine.Record, []archive.Kept, error) {
	rec, err := h.named(r)
	if err != nil {
		return rec, nil, err
	}
	hardware, err := h.hardwareOf(rec)
	if err != nil {
		return rec, nil, err
	}
	kept, err := h.Archives[rec.Section].Logs.Of(wire.LogName(hardware))
	if err != nil {
		return rec, nil, refusal.New(refusal.Broken, "logs of machine %s: %v", rec.ID, err)
	}
	return rec, kept, nil
}

func (h *Handlers) listLogs(r *http.Request) (any, error) {
	_, kept, err := h.logsOf(r)
	all := []api.Log{}
	for _, k := range kept {
		all = append(all, api.Log(k))
	}
	return all, err
}

// showLog answers one log, compressed as it is kept.
func (h *Handlers) showLog(w http.ResponseWriter, r *http.Request) {
	h.answerLong(w, r, "application/gzip", func(out *bufio.Writer) error {
		rec, kept, err := h.logsOf(r)
		if err != nil {
			return err
		}
		name := r.PathValue("name")
		if !slices.ContainsFunc(kept, func(k archive.Kept) bool { return k.Name == name }) {
			return refusal.New(refusal.NoFile, "machine %s has no log %s", rec.ID, refusal.Clip(name, 200))
		}
		f, err := h.Archives[rec.Section].Logs.Open(name)
		if err != nil {
			return refusal.New(refusal.NoFile, "open log %s: %v", name, err)
		}
		defer f.Close()
		_, err = io.Copy(out, f)
		return err
	})
}
