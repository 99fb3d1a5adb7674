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
	defer s.work()()
	q, forget, err := s.readUpload(w, r)
	if err != nil || q == nil {
		return "", err
	}
	defer forget()
	decide := allocation.Allocate
	if q.Failure != "" {
		decide = allocation.Fail
	}
	out, err := s.decide(r.Context(), func(snapshot *allocation.Snapshot) (allocation.Outcome, allocation.Changes, error) {
		return decide(snapshot, *q)
	}, together, q.Sections(s.records.Book())...)
	if err != nil {
		s.config.Log.Warn("upload refused", "name", q.Name, "text", err)
		return "", err
	}
	if q.Failure == "" {
		s.keepExplanation(out, q.Facts.Hardware())
	}
	if out.Refused != nil || out.Configuration == nil {
		return "", out.Refused
	}
	return out.Configuration.Encode(), nil
}

// readUpload reads an upload while it has one of the places for that. A log is
// kept: then there is no request to decide. A request holds memory until it is
// forgotten, and no place: while the decisions of some are written to the
// disk, others are read, and all that wait can be written together.
func (s *Server) readUpload(w http.ResponseWriter, r *http.Request) (q *allocation.Request, forget func(), err error) {
	leave, err := s.uploads.Enter(r.Context(), peerOf(r))
	if err != nil {
		return nil, nil, err
	}
	defer leave()
	form, err := s.readForm(w, r)
	if err != nil {
		return nil, nil, err
	}
	defer form.Discard()
	d, err := s.deploymentOf(form)
	if err != nil {
		return nil, nil, err
	}
	if form.Log != nil {
		return nil, nil, s.keepLog(d, form.Log, r.RemoteAddr)
	}
	if err := s.arrives(peerOf(r), form.Hardware.Identity()); err != nil {
		return nil, nil, err
	}
	q = s.request(d, form)
	ctx, cancel := context.WithTimeout(r.Context(), s.config.Limits.Wait)
	defer cancel()
	bytes := int64(weigh(form.Hardware))
	if err := s.waitingBytes.Acquire(ctx, bytes); err != nil {
		return nil, nil, refusal.New(refusal.Busy, "the server is busy with the decisions about other machines: ask again")
	}
	return q, func() { s.waitingBytes.Release(bytes) }, nil
}

// deploymentOf finds the deployment of an upload.
func (s *Server) deploymentOf(form upload.Form) (*deployment, error) {
	d := s.deployments[form.Section]
	if unnamed := form.Section == upload.DefaultSection && len(s.deployments) > 1 && form.Log == nil; d == nil && !unnamed {
		return nil, refusal.New(refusal.Input, "edeploy.conf has no section %q", form.Section)
	}
	if form.Log != nil {
		return d, nil
	}
	is := form.Hardware.Identity()
	if err := allocation.CheckIdentity("hardware description", is); err != nil || form.Failure != "" && d != nil { // a failure report is about what the machine holds
		return d, err
	}
	of, err := allocation.AdmitSection(s.snapshot(), form.Section, is)
	if err != nil {
		return nil, err
	}
	return s.deployments[of.Name], nil
}

// arrives counts a machine that is not known yet: one peer must not make
// machines known faster than they are looked at.
func (s *Server) arrives(peer string, is wire.Identity) error {
	if _, known, err := s.records.Book().Find(is); known || err != nil {
		return nil // the decision says what is wrong
	}
	if !s.arrivals.Take(peer, s.config.Now()) {
		return refusal.New(refusal.Busy, "%s has made %d machines known within a minute, as many as it may: ask again", peer, s.config.Limits.NewPerPeer)
	}
	return nil
}

// request saves a description and matches it: what needs no turn.
func (s *Server) request(d *deployment, form upload.Form) *allocation.Request {
	q := &allocation.Request{Deployment: d.site, Facts: assign.NewFacts(form.Hardware), Identity: form.Hardware.Identity(), Failure: form.Failure, Came: s.config.Now()}
	q.Name, _ = sysname.Of(form.Hardware)
	q.HardwareFile = s.keepHardware(d, q.Name, form.Hardware)
	if q.Failure == "" {
		allocation.Match(s.snapshot(), *q)
	}
	return q
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
		s.late.Add(d.name, "%v", err)
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

// keepHardware saves the description; that it cannot is a problem for the
// operator and no reason to refuse the machine.
func (s *Server) keepHardware(d *deployment, name string, h wire.Hardware) string {
	if name == "" {
		return "" // nothing to name it by
	}
	file, err := d.hardware.SaveHardware(name, h)
	if err != nil {
		s.late.Add(d.name, "%v", err)
	}
	return file
}
