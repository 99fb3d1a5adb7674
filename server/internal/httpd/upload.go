package httpd

import (
	"context"
	"fmt"
	"net/http"

	"edeploy/server/internal/allocation"
	"edeploy/server/internal/assign"
	"edeploy/server/internal/refusal"
	"edeploy/server/internal/sysname"
	"edeploy/server/internal/transaction"
	"edeploy/server/internal/upload"
	"edeploy/server/wire"
)

// maxWaitingBytes bounds the descriptions that wait for their turn, see
// upload.Weight.
const maxWaitingBytes = 4 * wire.MaxHardwareBytes

// formOverhead is what a form may have around its file.
const formOverhead = 1 << 20

// takeUpload answers upload.py: a hardware description, a failure report or a
// log (reference sections 4.2 to 4.7).
func (h *Handlers) takeUpload(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		answerScript(w, http.StatusMethodNotAllowed, wire.Refusal("upload.py takes POST requests with a multipart form"))
		return
	}
	body, err := h.upload(w, r)
	if err != nil {
		// What is left of the body may be large: the client is told now.
		w.Header().Set("Connection", "close")
		answerScript(w, h.failed(w, err), wire.Refusal(err.Error()))
		return
	}
	answerScript(w, http.StatusOK, body)
}

// upload does the work and answers the body: the configuration, or nothing.
func (h *Handlers) upload(w http.ResponseWriter, r *http.Request) (string, error) {
	defer h.Explanations.Upload()()
	q, forget, err := h.readUpload(w, r)
	if err != nil || q == nil {
		return "", err
	}
	defer forget()
	decide := allocation.Allocate
	if q.Failure != "" {
		decide = allocation.Fail
	}
	out, err := h.Decide(r.Context(), func(snapshot *allocation.Snapshot) (allocation.Outcome, allocation.Changes, error) {
		return decide(snapshot, *q)
	}, transaction.Together, q.Sections(h.Records.Index())...)
	if err != nil {
		h.Log.Warn("upload refused", "name", q.Name, "text", err)
		return "", err
	}
	if q.Failure == "" {
		h.Explanations.Add(out, upload.Weight(q.Facts.Hardware()), h.Now())
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
func (h *Handlers) readUpload(w http.ResponseWriter, r *http.Request) (q *allocation.Request, forget func(), err error) {
	leave, err := h.uploads.Enter(r.Context(), peerOf(r))
	if err != nil {
		return nil, nil, err
	}
	defer leave()
	form, err := h.readForm(w, r)
	if err != nil {
		return nil, nil, err
	}
	defer form.Discard()
	d, err := h.deploymentOf(form)
	if err != nil {
		return nil, nil, err
	}
	if form.Log != nil {
		return nil, nil, h.keepLog(d, form.Log, r.RemoteAddr)
	}
	if err := h.arrives(peerOf(r), form.Hardware.Identity()); err != nil {
		return nil, nil, err
	}
	q = h.request(d, form)
	ctx, cancel := context.WithTimeout(r.Context(), h.Wait)
	defer cancel()
	bytes := int64(upload.Weight(form.Hardware))
	if err := h.waitingBytes.Acquire(ctx, bytes); err != nil {
		return nil, nil, refusal.New(refusal.Busy, "the server is busy with the decisions about other machines: ask again")
	}
	return q, func() { h.waitingBytes.Release(bytes) }, nil
}

// deploymentOf finds the deployment of an upload.
func (h *Handlers) deploymentOf(form upload.Form) (*allocation.Deployment, error) {
	d := h.Site.Deployments[form.Section]
	if unnamed := form.Section == upload.DefaultSection && len(h.Site.Deployments) > 1 && form.Log == nil; d == nil && !unnamed {
		return nil, refusal.New(refusal.Input, "edeploy.conf has no section %q", form.Section)
	}
	if form.Log != nil {
		return d, nil
	}
	is := form.Hardware.Identity()
	if err := allocation.CheckIdentity("hardware description", is); err != nil || form.Failure != "" && d != nil { // a failure report is about what the machine holds
		return d, err
	}
	return allocation.AdmitSection(h.Snapshot(), form.Section, is)
}

// arrives counts a machine that is not known yet: one peer must not make
// machines known faster than they are looked at.
func (h *Handlers) arrives(peer string, is wire.Identity) error {
	if _, known, err := h.Records.Index().Find(is); known || err != nil {
		return nil // the decision says what is wrong
	}
	if !h.arrivals.Take(peer, h.Now()) {
		return refusal.New(refusal.Busy, "%s has made %d machines known within a minute, as many as it may: ask again", peer, h.NewPerPeer)
	}
	return nil
}

// request saves a description and matches it: what needs no turn.
func (h *Handlers) request(d *allocation.Deployment, form upload.Form) *allocation.Request {
	q := &allocation.Request{Deployment: d, Facts: assign.NewFacts(form.Hardware), Identity: form.Hardware.Identity(), Failure: form.Failure, Came: h.Now()}
	q.Name, _ = sysname.Of(form.Hardware)
	q.Model = sysname.Model(form.Hardware)
	q.HardwareFile = h.keepHardware(d, q.Name, form.Hardware)
	if q.Failure == "" {
		allocation.Match(h.Snapshot(), *q)
	}
	return q
}

func (h *Handlers) readForm(w http.ResponseWriter, r *http.Request) (upload.Form, error) {
	parts, err := r.MultipartReader()
	if err != nil {
		return upload.Form{}, fmt.Errorf("%w: %w", upload.ErrForm, err)
	}
	if err := limitReading(w, h.BodyTime); err != nil { // one that trickles must not keep its place
		return upload.Form{}, err
	}
	r.Body = http.MaxBytesReader(w, r.Body, h.LogBytes+formOverhead)
	form, err := upload.Read(parts, h.SpoolDir)
	if err == nil && form.Log != nil && form.Log.Bytes > h.LogBytes {
		form.Discard()
		return upload.Form{}, fmt.Errorf("%w: a log may have %d bytes", upload.ErrTooLarge, h.LogBytes)
	}
	return form, err
}

func (h *Handlers) keepLog(d *allocation.Deployment, log *upload.Log, from string) error {
	name, err := h.Archives[d.Name].Logs.SaveLog(log.Name, log.Path)
	if err != nil {
		h.Late.Add(d.Name, "%v", err)
		return fmt.Errorf("%w: %w", upload.ErrSpool, err)
	}
	h.Log.Info("log saved", "deployment", d.Name, "file", name, "bytes", log.Bytes, "from", from)
	return nil
}

// keepHardware saves the description; that it cannot is a problem for the
// operator and no reason to refuse the machine.
func (h *Handlers) keepHardware(d *allocation.Deployment, name string, hardware wire.Hardware) string {
	if name == "" {
		return "" // nothing to name it by
	}
	file, err := h.Archives[d.Name].Hardware.SaveHardware(name, hardware)
	if err != nil {
		h.Late.Add(d.Name, "%v", err)
	}
	return file
}
