package appliance

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path"
	"strings"
	"time"

	"edeploy/appliance/internal/admission"
	"edeploy/server/share"
	"edeploy/server/wire"
)

// front is what every HTTP request passes before it comes to a room: its path
// is cleaned, a browser's origin is looked at, and it takes a place of its
// class, at the pace that all must keep.
type front struct {
	names  map[string]bool // hosts that a browser may ask for, besides the address it has reached
	origin *http.CrossOriginProtection
	bounds [classes]*admission.Bound
	pace   admission.Pace
	room   func(path string) http.Handler // of a clean path
}

// patience is how long a request waits for a place: an agent's or a command's
// own time limit is longer, and a neighbour's short request is over by then.
const patience = 10 * time.Second

// class is a kind of requests that share their places.
type class int

const (
	uploads class = iota // descriptions, failures and logs of machines
	pushes               // parts of images, their publication, metadata
	edits                // configuration files
	lists                // answers that grow with all that the appliance knows
	calls                // the rest of the API, reports of machines
	files                // everything else: scripts, boot files, images, metadata
	classes
)

// bounds are the places of the classes, and how many of them one peer may have.
// The rooms bound what the requests do there; of their smaller numbers of places
// a peer gets a quarter, too.
var bounds = [classes]struct {
	name          string
	places, share int
}{
	uploads: {"uploads", 512, 16},
	pushes:  {"image uploads", 8, 2},
	edits:   {"configuration changes", 4, 1},
	lists:   {"lists", 16, 4},
	calls:   {"API requests", 512, 16},
	files:   {"file transfers", 512, 128},
}

func newFront(own netip.Addr, names []string, room func(string) http.Handler, warn func(string, ...any)) *front {
	f := &front{names: map[string]bool{"localhost": true, own.String(): true}, origin: http.NewCrossOriginProtection(),
		pace: admission.DefaultPace, room: room}
	for _, name := range names {
		f.names[strings.ToLower(name)] = true
	}
	for i, b := range bounds {
		f.bounds[i] = admission.NewBound(b.name, b.places, b.share, warn)
	}
	return f
}

func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e := admission.NewExchange(w, r, f.pace)
	defer e.End()
	r = cleaned(r)
	if err := f.checkOrigin(r); err != nil {
		refuse(e, r, http.StatusForbidden, err)
		return
	}
	if e.HasBody() {
		// In a copy: the server looks at its own one to see whether a client that
		// waits to be asked for its body has been asked.
		paced := *r
		paced.Body = e
		r = &paced
		// Who says so sends a body only when it is asked for.
		if r.Header.Get("Expect") == "" {
			if err := e.Begin(); err != nil {
				refuse(e, r, http.StatusRequestTimeout, err)
				return
			}
		}
	}
	leave, err := f.bounds[classOf(r)].Take(r.Context(), share.Peer(r.RemoteAddr), patience)
	if err != nil {
		e.Header().Set("Retry-After", "10")
		refuse(e, r, http.StatusServiceUnavailable, err)
		return
	}
	defer leave()
	f.room(r.URL.Path).ServeHTTP(e, r)
}

// cleaned is the request with doubled slashes and dots taken out of its path.
// There is no redirect: the original's agents ask for "//cgi-bin//upload.py"
// and follow none.
func cleaned(r *http.Request) *http.Request {
	clean := path.Clean("/" + r.URL.Path)
	if clean == r.URL.Path && r.URL.RawPath == "" {
		return r
	}
	direct, url := *r, *r.URL
	url.Path, url.RawPath = clean, ""
	direct.URL = &url
	return &direct
}

// classOf looks at a request with a clean path.
func classOf(r *http.Request) class {
	if strings.HasSuffix(r.URL.Path, "/upload.py") {
		return uploads
	}
	api, ok := strings.CutPrefix(r.URL.Path, "/api/v1/")
	if !ok {
		return files
	}
	reads := r.Method == http.MethodGet || r.Method == http.MethodHead
	room, rest, _ := strings.Cut(api, "/")
	switch {
	case reads && rest == "" && room != "version":
		return lists
	case reads:
		return calls
	case room == "images":
		return pushes
	case room == "config":
		return edits
	}
	return calls
}

// checkOrigin refuses what a web page from elsewhere makes an operator's
// browser send, also when that page's name has been made to point here (DNS
// rebinding). Agents and commands are no browsers: they may call the appliance
// by any name.
func (f *front) checkOrigin(r *http.Request) error {
	if !fromBrowser(r) {
		return nil
	}
	host := strings.ToLower(hostname(r.Host))
	if !f.names[host] && host != reached(r) {
		return fmt.Errorf("a browser may not use this appliance as %q: use its address, or add the name to [HTTP] NAMES in edeploy.conf", clip(host))
	}
	if err := f.origin.Check(r); err != nil {
		return fmt.Errorf("a web page of another site may not do this: %w", err)
	}
	return nil
}

// fromBrowser tells what browsers send. Origin comes with whatever changes
// something; fetch metadata (https://www.w3.org/TR/fetch-metadata/) never comes
// over plain HTTP to a name, so a page that only reads is known by the name
// that all browsers give themselves.
func fromBrowser(r *http.Request) bool {
	if r.Header.Get("Origin") != "" || strings.HasPrefix(r.UserAgent(), "Mozilla/") {
		return true
	}
	for name := range r.Header {
		if strings.HasPrefix(name, "Sec-Fetch-") {
			return true
		}
	}
	return false
}

// hostname is a host without its port.
func hostname(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		return name
	}
	return strings.Trim(host, "[]")
}

// reached is the address that a connection has come to.
func reached(r *http.Request) string {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	if !ok {
		return ""
	}
	return local.AddrPort().Addr().Unmap().String()
}

func clip(text string) string { return text[:min(len(text), 100)] }

// refuse answers as the API of all rooms does, and a machine as its console
// shows it.
func refuse(w http.ResponseWriter, r *http.Request, status int, err error) {
	kind, text := "text/x-python", wire.Refusal(err.Error())
	if classOf(r) != uploads {
		answer, _ := json.Marshal(map[string]string{"error": err.Error()}) // a string is always JSON
		kind, text = "application/json", string(answer)+"\n"
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Connection", "close") // what is left of the body may be large
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text) // a client that is gone needs no reason
}
