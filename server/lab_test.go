package server_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"edeploy/server"
	"edeploy/server/api"
	"edeploy/server/internal/allocation"
	"edeploy/server/internal/literal"
	"edeploy/server/internal/store"
	"edeploy/server/wire"
)

// vmSpecs and vmConfigure are the seed's profile, as it is.
const (
	vmSpecs = `[
    ('disk', '$disk', 'size', 'gt(4)'),
    ('network', '$eth', 'ipv4', 'network(192.168.122.0/24)'),
    ('network', '$eth', 'serial', '$mac'),
]
`
	vmConfigure = `disk1 = '/dev/' + var['disk']

for disk, path in ((disk1, '/chroot'), ):
    run('parted -s %s mklabel msdos' % disk)

set_role('mysql', 'D7-F.1.0.0', disk1)
`
	vmCMDB = `generate({'gateway': '192.168.122.1', 'hostname': 'host03-07', 'ip': '192.168.122.3-7', 'netmask': '255.255.255.0'})
`
)

// seedFiles is the seed's configuration directory.
func seedFiles() map[string]string {
	return map[string]string{"state": "[('hp', 4), ('vm', '*')]\n", "hp.specs": "[('disk', '1I:1:1', 'size', '$size')]\n", "hp.configure": "set_role('hp', '1', 'x')\n",
		"vm.specs": vmSpecs, "vm.configure": vmConfigure, "vm.cmdb": vmCMDB}
}

// lab is a server with its directories.
type lab struct {
	t      testing.TB
	config string
	state  string
	memory *store.Memory // where its documents are; nil: in its directories
	named  string        // section of its configuration directory
	clock  *clock
	server *server.Server
	limits server.Limits
	step   func(string) error // of the documents' file system
	meta   string             // METADATAURL
	images func() ([]wire.ImageRef, error)
	quiet  bool // no log: it is being measured
}

// clock goes one second further whenever it is read.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(time.Second)
	return c.now
}

// newLab makes a lab whose configuration directory holds the files. It is not
// started.
func newLab(t testing.TB, files map[string]string) *lab {
	t.Helper()
	l := &lab{t: t, config: t.TempDir(), state: t.TempDir(), named: "SERVER",
		clock: &clock{now: time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)}}
	for name, text := range files {
		l.write(name, text)
	}
	if inMemory { // they move there when the server starts
		l.memory = store.NewMemory(store.Etcd)
	}
	return l
}

// startLab makes a lab and starts its server.
func startLab(t testing.TB, files map[string]string) *lab {
	t.Helper()
	l := newLab(t, files)
	l.start()
	return l
}

func (l *lab) settings() server.Config {
	settings := server.Config{
		Deployments: map[string]server.Deployment{"SERVER": {ConfigDir: l.config, MetadataURL: l.meta}},
		StateDir:    l.state, Limits: l.limits, Images: l.images, Version: "test", Now: l.clock.Now,
		Log: slog.New(slog.NewTextHandler(l.t.Output(), nil)),
	}
	if l.quiet {
		settings.Log = nil
	}
	return settings
}

func (l *lab) start() { l.startWith(l.settings()) }

// startWith starts the server with these settings.
func (l *lab) startWith(settings server.Config) {
	l.t.Helper()
	s, err := l.open(settings)
	if err != nil {
		l.t.Fatal(err)
	}
	l.server = s
	l.t.Cleanup(l.stop)
}

func (l *lab) open(settings server.Config) (*server.Server, error) {
	step := l.step
	if step == nil {
		step = func(string) error { return nil }
	}
	if l.memory != nil {
		return server.NewInMemory(settings, l.memory, step)
	}
	return server.NewSteps(settings, step)
}

// stop ends the server, if it runs.
func (l *lab) stop() {
	if l.server == nil {
		return
	}
	if err := l.server.Close(); err != nil {
		l.t.Error(err)
	}
	l.server = nil
}

func (l *lab) restart() {
	l.t.Helper()
	l.stop()
	l.start()
}

// document is where a file of the configuration directory is in the memory.
func (l *lab) document(name string) string { return allocation.Collection(l.named) + "/" + name }

// write writes a file of the configuration directory, as an operator does.
func (l *lab) write(name, text string) {
	l.t.Helper()
	path := filepath.Join(l.config, name)
	_, err := os.Stat(path)
	if l.memory == nil || err == nil { // it has not moved yet
		err = os.WriteFile(path, []byte(text), 0o644)
	} else {
		var was store.Version
		if was, err = l.memory.Version(l.document(name)); err == nil {
			err = l.memory.Commit(store.Change{Name: l.document(name), Was: was, Text: []byte(text)})
		}
	}
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) read(name string) string {
	l.t.Helper()
	text, err := l.lookUp(name)
	if err != nil {
		l.t.Fatal(err)
	}
	return text
}

// lookUp reads a file of the configuration directory; what machines have sent is
// there, too, wherever the documents are.
func (l *lab) lookUp(name string) (string, error) {
	if l.memory != nil {
		doc, err := l.memory.Get(l.document(name))
		if !errors.Is(err, store.ErrNotExist) {
			return string(doc.Text), err
		}
	}
	text, err := os.ReadFile(filepath.Join(l.config, name))
	return string(text), err
}

// answer is what a machine or an operator gets.
type answer struct {
	status int
	kind   string // content type
	body   string
}

func (l *lab) do(method, path, contentType string, body io.Reader) answer {
	r := httptest.NewRequest(method, path, body)
	r.Header.Set("Content-Type", contentType)
	w := httptest.NewRecorder()
	l.server.Handler().ServeHTTP(w, r)
	return answer{w.Code, w.Header().Get("Content-Type"), w.Body.String()}
}

// form is a multipart form; a field "file/NAME" is a file.
func form(fields ...string) (contentType string, body *bytes.Buffer) {
	body = new(bytes.Buffer)
	w := multipart.NewWriter(body)
	for i := 0; i < len(fields); i += 2 {
		name, file, isFile := strings.Cut(fields[i], "/")
		create := w.CreateFormField
		if isFile {
			create = func(name string) (io.Writer, error) { return w.CreateFormFile(name, file) }
		}
		part, err := create(name)
		if err == nil {
			_, err = io.WriteString(part, fields[i+1])
		}
		if err != nil {
			panic(err) // a buffer does not fail
		}
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return w.FormDataContentType(), body
}

func (l *lab) post(fields ...string) answer {
	kind, body := form(fields...)
	return l.do("POST", "/cgi-bin/upload.py", kind, body)
}

// upload posts a description as the agent does.
func (l *lab) upload(h wire.Hardware) answer {
	return l.post("section", "SERVER", "file/hw.json", encode(h))
}

// fail posts a failure report.
func (l *lab) fail(profile string, h wire.Hardware) answer {
	return l.post("section", "SERVER", "failure", profile, "file/hw.json", encode(h))
}

func encode(h wire.Hardware) string {
	var b bytes.Buffer
	if err := wire.EncodeHardware(&b, h); err != nil {
		panic(err) // a buffer does not fail
	}
	return b.String()
}

// mustGet uploads and answers the configuration.
func (l *lab) mustGet(h wire.Hardware) wire.Configuration {
	l.t.Helper()
	a := l.upload(h)
	if a.status != http.StatusOK {
		l.t.Fatalf("status %d: %s", a.status, wire.ParseRefusal(a.body))
	}
	c, err := wire.ParseConfiguration(a.body)
	if err != nil {
		l.t.Fatal(err)
	}
	return c
}

// variables reads the dictionary of a configuration.
func variables(t testing.TB, c wire.Configuration) map[string]any {
	t.Helper()
	doc, err := literal.Parse("var", c.Var)
	if err != nil {
		t.Fatal(err)
	}
	dict, ok := doc.Node.Value.(*literal.Dict)
	if !ok {
		t.Fatalf("var is no dictionary: %s", c.Var)
	}
	all := map[string]any{}
	for k, v := range dict.All() {
		all[fmt.Sprint(k)] = v
	}
	return all
}

// report posts a report and expects the status.
func (l *lab) report(rep wire.Report, want int) {
	l.t.Helper()
	var b bytes.Buffer
	if err := wire.EncodeReport(&b, rep); err != nil {
		l.t.Fatal(err)
	}
	if a := l.do("POST", wire.ReportPath, "application/json", &b); a.status != want {
		l.t.Fatalf("report %s %s: status %d, want %d: %s", rep.Step, rep.Status, a.status, want, a.body)
	}
}

// installed reports that a machine is good.
func (l *lab) installed(h wire.Hardware) {
	l.t.Helper()
	l.report(wire.Report{Machine: h.Identity(), Step: wire.StepReboot, Status: wire.StatusInstalled, Image: wire.ImageRef{Role: "mysql", Version: "D7-F.1.0.0"}}, http.StatusOK)
}

func (l *lab) get(path string, into any) {
	l.t.Helper()
	a := l.do("GET", path, "", nil)
	if a.status != http.StatusOK || a.kind != "application/json" {
		l.t.Fatalf("GET %s: %d %s %s", path, a.status, a.kind, a.body)
	}
	if err := json.Unmarshal([]byte(a.body), into); err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) machine(id string) api.Machine {
	l.t.Helper()
	var m api.Machine
	l.get("/api/v1/machines/"+id, &m)
	return m
}

func (l *lab) machines() []api.Machine {
	l.t.Helper()
	var all []api.Machine
	l.get("/api/v1/machines", &all)
	return all
}

func (l *lab) boot(id, action string, want int) answer {
	l.t.Helper()
	a := l.do("PUT", "/api/v1/machines/"+id+"/boot", "application/json", strings.NewReader(`{"action": "`+action+`"}`))
	if a.status != want {
		l.t.Fatalf("boot %s: status %d, want %d: %s", action, a.status, want, a.body)
	}
	return a
}

// mac is the address of the n-th machine.
func mac(n int) string { return fmt.Sprintf("02:00:00:00:%02x:%02x", n>>8, n&255) }

// idOf is the id of the n-th machine.
func idOf(n int) string { return strings.ReplaceAll(mac(n), ":", "-") }

func fact(category, id, field string, value any) wire.Fact {
	return wire.Fact{Category: category, ID: id, Field: field, Value: value}
}

// vm describes the n-th virtual machine, which fits the seed's profile vm.
func vm(n int) wire.Hardware {
	return wire.Hardware{
		fact("disk", "vda", "size", "40"),
		fact("system", "product", "name", "Rack Node (R7)"),
		fact("system", "product", "serial", "To be filled by O.E.M."),
		fact("system", "product", "uuid", "03000200-0400-0500-0006-000700080009"),
		fact("network", "eth0", "ipv4", fmt.Sprintf("192.168.122.%d", 100+n%100)),
		fact("network", "eth0", "serial", mac(n)),
	}
}

// tiny describes a machine whose disk is too small for vm.
func tiny(n int) wire.Hardware {
	h := vm(n)
	h[0].Value = "2"
	return h
}

func unmarshal(text string, into any) error { return json.Unmarshal([]byte(text), into) }
