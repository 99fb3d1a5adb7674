package httpd

import (
	"bufio"
	"errors"
	"net/http"
	"time"
)

// Long answers are written as they are made: nobody keeps thousands of machines
// in memory for a client that does not read.
const (
	maxLong   = 16               // that are written at once; one peer may have a quarter
	longWait  = 10 * time.Second // for one of these places
	longPause = 20 * time.Second // longest time that a client may read nothing
	longBlock = 32 << 10         // bytes that are written at once
)

// answerLong makes a long answer when there is a place for it. What write
// refuses before it has written anything is answered as an error.
func (h *Handlers) answerLong(w http.ResponseWriter, r *http.Request, contentType string, write func(*bufio.Writer) error) {
	peer := peerOf(r)
	leave, err := h.longAnswers.Enter(r.Context(), peer)
	if err != nil {
		h.answerError(w, err)
		return
	}
	defer leave()
	to := &patient{w: w, conn: http.NewResponseController(w), contentType: contentType}
	out := bufio.NewWriterSize(to, longBlock)
	err = write(out)
	if err != nil && !to.started {
		h.answerError(w, err)
		return
	}
	if err = errors.Join(err, out.Flush(), to.flush()); err != nil {
		h.Log.Debug("answer not read", "peer", peer, "path", r.URL.Path, "error", err)
		panic(http.ErrAbortHandler) // half an answer must not look like a whole one
	}
}

// patient gives every block of an answer its own time.
type patient struct {
	w           http.ResponseWriter
	conn        *http.ResponseController
	contentType string
	started     bool
}

func (p *patient) Write(block []byte) (int, error) {
	if !p.started {
		p.started = true
		head(p.w, p.contentType)
		p.w.Header().Set("Connection", "close") // the deadline stays with it
	}
	if err := supported(p.conn.SetWriteDeadline(time.Now().Add(longPause))); err != nil {
		return 0, err
	}
	return p.w.Write(block)
}

func (p *patient) flush() error { return supported(p.conn.Flush()) }

// supported lets pass that a test's recorder has no deadlines.
func supported(err error) error {
	if errors.Is(err, http.ErrNotSupported) {
		return nil
	}
	return err
}
