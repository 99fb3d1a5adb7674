package server

import (
	"bufio"
	"errors"
	"fmt"
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
func (s *Server) hardwareOf(r machine.Record) (wire.Hardware, error) {
	d := s.deployments[r.Section]
	if d == nil || r.HardwareFile == "" {
		return nil, refusal.New(refusal.NoFile, "machine %s has not sent its description yet", r.ID)
	}
	f, err := d.hardware.Open(r.HardwareFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, refusal.New(refusal.NoFile, "the description of machine %s, %s/%s, is gone: the machine sends it when it asks again", r.ID, d.HWDir, r.HardwareFile)
	}
	if err != nil {
		return nil, refusal.New(refusal.Broken, "description of machine %s: %v", r.ID, err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, wire.MaxHardwareBytes+1))
	if err == nil {
		var h wire.Hardware
		if h, err = upload.ParseHardware(text); err == nil {
			return h, nil
		}
	}
	return nil, refusal.New(refusal.Broken, "description of machine %s, %s/%s: %v", r.ID, d.HWDir, r.HardwareFile, err)
}

// showHardware answers the description as an agent uploads it, in JSON.
func (s *Server) showHardware(w http.ResponseWriter, r *http.Request) {
	s.answerLong(w, r, "application/json", func(out *bufio.Writer) error {
		rec, err := s.named(r.PathValue("id"))
		if err != nil {
			return err
		}
		h, err := s.hardwareOf(rec)
		if err != nil {
			return err
		}
		return wire.EncodeHardware(out, h)
	})
}

// logsOf lists the logs of a machine: those under the name that its agent
// gives them. Machines with the same vendor, product and serial share it.
func (s *Server) logsOf(r machine.Record) ([]archive.Kept, error) {
	h, err := s.hardwareOf(r)
	if err != nil {
		return nil, err
	}
	kept, err := s.deployments[r.Section].logs.Of(wire.LogName(h))
	if err != nil {
		return nil, refusal.New(refusal.Broken, "logs of machine %s: %v", r.ID, err)
	}
	return kept, nil
}

func (s *Server) listLogs(w http.ResponseWriter, r *http.Request) {
	rec, err := s.named(r.PathValue("id"))
	var kept []archive.Kept
	if err == nil {
		kept, err = s.logsOf(rec)
	}
	if err != nil {
		s.answerError(w, err)
		return
	}
	all := []api.Log{}
	for _, k := range kept {
		all = append(all, api.Log(k))
	}
	answerJSON(w, http.StatusOK, all)
}

// showLog answers one log, compressed as it is kept.
func (s *Server) showLog(w http.ResponseWriter, r *http.Request) {
	s.answerLong(w, r, "application/gzip", func(out *bufio.Writer) error {
		f, err := s.openLog(r.PathValue("id"), r.PathValue("name"))
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(out, f)
		return err
	})
}

func (s *Server) openLog(id, name string) (io.ReadCloser, error) {
	rec, err := s.named(id)
	if err != nil {
		return nil, err
	}
	kept, err := s.logsOf(rec)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(kept, func(k archive.Kept) bool { return k.Name == name }) {
		return nil, refusal.New(refusal.NoFile, "machine %s has no log %s", rec.ID, refusal.Clip(name, 200))
	}
	f, err := s.deployments[rec.Section].logs.Open(name)
	if err != nil {
		return nil, refusal.New(refusal.NoFile, "%v", fmt.Errorf("open log %s: %w", name, err))
	}
	return f, nil
}

// plainAnswer is the head of a file that a machine has sent: it is never a web
// page, whatever it holds.
func plainAnswer(w http.ResponseWriter, contentType string) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
}
