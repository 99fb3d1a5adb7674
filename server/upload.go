package server

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"

	"edeploy/server/internal/allocation"
	"edeploy/server/internal/assign"
	"edeploy/server/internal/refusal"
	"edeploy/server/internal/sysname"
	"edeploy/server/internal/upload"
	"edeploy/server/wire"
)

// formOverhead is what a form may have around its file.
const formOverhead = 1 << 20

// takeUpload answers upload.py: a hardware description, a failure report or a
// log (reference sections 4.2 to 4.7).
func (s *Server) takeUpload(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		answerRefusal(w, http.StatusMethodNotAllowed, "upload.py takes POST requests with a multipart form")
		return
	}
	body, err := s.upload(w, r)
	if err != nil {
		// What is left of the body may be large: the client is told now.
		w.Header().Set("Connection", "close")
		answerRefusal(w, s.failed(w, err), err.Error())
		return
	}
	answerScript(w, http.StatusOK, body)
}

// upload does the work and answers the body: the configuration, or nothing.
func (s *Server) upload(w http.ResponseWriter, r *http.Request) (string, error) {
	leave, err := s.enter(r.Context(), peerOf(r))
	if err != nil {
		return "", err
	}
	defer leave()
	defer s.work()()
	form, err := s.readForm(w, r)
	if err != nil {
		return "", err
	}
	defer form.Discard()
	d := s.deployments[form.Section]
	if unnamed := form.Section == upload.DefaultSection && len(s.deployments) > 1 && form.Log == nil; d == nil && !unnamed {
		return "", refusal.New(refusal.Input, "edeploy.conf has no section %q", form.Section)
	}
	if form.Log != nil {
		return "", s.keepLog(d, form.Log, r.RemoteAddr)
	}
	if err := allocation.CheckIdentity("hardware description", form.Hardware.Identity()); err != nil {
		return "", err
	}
	if form.Failure == "" { // a failure report is about what the machine holds
		of, err := allocation.AdmitSection(s.snapshot(), form.Section, form.Hardware.Identity())
		if err != nil {
			return "", err
		}
		d = s.deployments[of.Name]
	}
	if err := s.arrives(peerOf(r), form.Hardware.Identity()); err != nil {
		return "", err
	}
	return s.takeHardware(r.Context(), d, form, leave)
}

// enter waits for one of the places for uploads.
func (s *Server) enter(ctx context.Context, peer string) (leave func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, s.config.Limits.Wait)
	defer cancel()
	leave, ok := s.places.enter(ctx, peer)
	if !ok {
		return nil, s.places.refusal(peer, "uploads")
	}
	return leave, nil
}

// sit waits for room among the uploads that are read and wait for their turn.
// Theirs are no places: while the decisions of some are written to the disk,
// others are read, and all that wait can be written together.
func (s *Server) sit(ctx context.Context, bytes int) (stand func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, s.config.Limits.Wait)
	defer cancel()
	if err := s.seats.Acquire(ctx, int64(bytes)); err != nil {
		return nil, refusal.New(refusal.Busy, "the server is busy with the decisions about other machines: ask again")
	}
	return func() { s.seats.Release(int64(bytes)) }, nil
}

func (s *Server) readForm(w http.ResponseWriter, r *http.Request) (upload.Form, error) {
	parts, err := r.MultipartReader()
	if err != nil {
		return upload.Form{}, fmt.Errorf("%w: %w", upload.ErrForm, err)
	}
	if err := limitReading(w, s.config.Limits.BodyTime); err != nil { // one that trickles must not keep its place
		return upload.Form{}, err
	}
	r.Body = http.MaxBytesReader(w, r.Body, s.config.Limits.LogBytes+formOverhead)
	form, err := upload.Read(parts, filepath.Join(s.config.StateDir, "spool"))
	if err == nil && form.Log != nil && form.Log.Bytes > s.config.Limits.LogBytes {
		form.Discard()
		return upload.Form{}, fmt.Errorf("%w: a log may have %d bytes", upload.ErrTooLarge, s.config.Limits.LogBytes)
	}
	return form, err
}

func (s *Server) keepLog(d *deployment, log *upload.Log, from string) error {
	name, err := d.logs.SaveLog(log.Name, log.Path)
	if err != nil {
		s.problem(d.name, "%v", err)
		return fmt.Errorf("%w: %w", upload.ErrSpool, err)
	}
	s.config.Log.Info("log saved", "deployment", d.name, "file", name, "bytes", log.Bytes, "from", from)
	return nil
}

// work counts an upload; when the last one is over, it is calm.
func (s *Server) work() (over func()) {
	s.inWork.Add(1)
	return func() {
		if s.inWork.Add(-1) == 0 {
			signal(s.explanations.calm)
		}
	}
}

// takeHardware saves the description, leaves its place and decides.
func (s *Server) takeHardware(ctx context.Context, d *deployment, form upload.Form, leave func()) (string, error) {
	q := allocation.Request{Deployment: d.site, Facts: assign.NewFacts(form.Hardware), Identity: form.Hardware.Identity(), Failure: form.Failure, Came: s.config.Now()}
	q.Name, _ = sysname.Of(form.Hardware)
	q.HardwareFile = s.keepHardware(d, q.Name, form.Hardware)
	decide := allocation.Allocate
	if q.Failure != "" {
		decide = allocation.Fail
	} else {
		allocation.Match(s.snapshot(), q)
	}
	stand, err := s.sit(ctx, weigh(form.Hardware))
	if err != nil {
		return "", err
	}
	defer stand()
	leave()
	out, err := s.decide(ctx, func(snapshot *allocation.Snapshot) (allocation.Outcome, allocation.Changes, error) {
		return decide(snapshot, q)
	}, q.Sections(s.records.Book())...)
	if err != nil {
		s.config.Log.Warn("upload refused", "name", q.Name, "text", err)
		return "", err
	}
	if q.Failure == "" {
		s.keepExplanation(out, form.Hardware)
	}
	if out.Refused != nil || out.Configuration == nil {
		return "", out.Refused
	}
	return out.Configuration.Encode(), nil
}

// keepHardware saves the description; that it cannot is a problem for the
// operator and no reason to refuse the machine.
func (s *Server) keepHardware(d *deployment, name string, h wire.Hardware) string {
	if name == "" {
		return "" // nothing to name it by
	}
	file, err := d.hardware.SaveHardware(name, h)
	if err != nil {
		s.problem(d.name, "%v", err)
	}
	return file
}
