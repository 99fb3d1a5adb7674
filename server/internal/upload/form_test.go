package upload_test

import (
	"bytes"
	"errors"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"edeploy/server/internal/upload"
	"edeploy/server/wire"

	"github.com/google/go-cmp/cmp"
)

const (
	boundary = "BOUNDARY"
	hwJSON   = `[["disk","vda","size","40"],["network","eth0","serial","02:00:00:00:00:01"]]`
)

var hardware = wire.Hardware{
	{Category: "disk", ID: "vda", Field: "size", Value: "40"},
	{Category: "network", ID: "eth0", Field: "serial", Value: "02:00:00:00:00:01"},
}

// part is one part of a form; with a file name when name holds a slash.
func part(name, content string) string {
	name, file, _ := strings.Cut(name, "/")
	head := `Content-Disposition: form-data; name="` + name + `"`
	if file != "" {
		head += `; filename="` + file + `"`
	}
	return "--" + boundary + "\r\n" + head + "\r\n\r\n" + content + "\r\n"
}

func form(parts ...string) string { return strings.Join(parts, "") + "--" + boundary + "--\r\n" }

func read(body string, limit int64, spool string) (upload.Form, error) {
	limited := http.MaxBytesReader(httptest.NewRecorder(), io.NopCloser(strings.NewReader(body)), limit)
	return upload.Read(multipart.NewReader(limited, boundary), spool)
}

func TestRead(t *testing.T) {
	for _, tt := range []struct {
		name string
		body string
		want upload.Form
		err  error
		says string
	}{
		{name: "the seed's form", body: form(part("file/hw.json", hwJSON)), want: upload.Form{Section: "SERVER", Hardware: hardware}},
		{name: "all fields", body: form(part("section", "LAB"), part("failure", "vm"), part("file/hw.json", hwJSON)), want: upload.Form{Section: "LAB", Failure: "vm", Hardware: hardware}},
		{name: "section behind the file", body: form(part("file/hw.json", hwJSON), part("section", "LAB\n")), want: upload.Form{Section: "LAB", Hardware: hardware}},
		{name: "without a file name", body: form(part("file", hwJSON)), want: upload.Form{Section: "SERVER", Hardware: hardware}},
		{name: "unknown fields", body: form(part("x", "y"), part("file/hw.json", hwJSON)), want: upload.Form{Section: "SERVER", Hardware: hardware}},
		{name: "empty list", body: form(part("file/hw.json", "[]")), want: upload.Form{Section: "SERVER", Hardware: wire.Hardware{}}},
		{name: "a Python literal of 2013", body: form(part("file/hw.py", "[('disk', 'vda', 'size', '40'),\n ('network', 'eth0', 'serial', '02:00:00:00:00:01')]\n")), want: upload.Form{Section: "SERVER", Hardware: hardware}},

		{name: "nothing", body: form(), err: upload.ErrNoFile},
		{name: "no file", body: form(part("section", "LAB")), err: upload.ErrNoFile},
		{name: "two files", body: form(part("file/hw.json", hwJSON), part("file/hw.json", hwJSON)), err: upload.ErrForm, says: "two files"},
		{name: "cut off in the file", body: form(part("file/hw.json", hwJSON))[:120], err: upload.ErrForm, says: "unexpected EOF"},
		{name: "cut off behind a part", body: part("section", "LAB"), err: upload.ErrForm},
		{name: "broken JSON", body: form(part("file/hw.json", hwJSON[:30])), err: upload.ErrHardware, says: "item 2"},
		{name: "no list", body: form(part("file/hw.json", `{"a": 1}`)), err: upload.ErrHardware, says: "want a JSON array"},
		{name: "an expression", body: form(part("file/hw.py", "[('a', 'b', 'c', __import__('os').system('id'))]")), err: upload.ErrHardware, says: "hardware description:1"},
		{name: "three values", body: form(part("file/hw.py", "[('a', 'b', 'c')]")), err: upload.ErrHardware, says: "item 1: want a tuple of four"},
		{name: "nested values", body: form(part("file/hw.py", "[('a', 'b', 'c', [])]")), err: upload.ErrHardware, says: "strings and numbers only"},
		{name: "long field", body: form(part("section", strings.Repeat("x", 2000))), err: upload.ErrTooLarge, says: "field section"},
		{name: "many parts", body: form(strings.Repeat(part("x", "y"), 20)), err: upload.ErrForm, says: "more than 16 parts"},
		{name: "hardware too large", body: form(part("file/hw.json", strings.Repeat(" ", wire.MaxHardwareBytes+1))), err: upload.ErrTooLarge, says: "8388608"},
		{name: "body too large", body: form(part("x", strings.Repeat(" ", 10<<20))), err: upload.ErrTooLarge, says: "9437184"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := read(tt.body, 9<<20, t.TempDir())
			if !errors.Is(err, tt.err) {
				t.Fatalf("error: got %v, want %v", err, tt.err)
			}
			if tt.err != nil && !strings.Contains(err.Error(), tt.says) {
				t.Errorf("error %q does not say %q", err, tt.says)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestReadLog(t *testing.T) {
	spool := t.TempDir()
	got, err := read(form(part("section", "LAB"), part("file/../../Acme-R7-1.log.gz", "log text")), 1<<20, spool)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(got.Log.Path)
	if err != nil {
		t.Fatal(err)
	}
	if got.Log.Name != "Acme-R7-1.log.gz" || string(text) != "log text" || got.Log.Bytes != 8 || got.Section != "LAB" {
		t.Errorf("got %+v, %+v with %q", got, got.Log, text)
	}
	got.Discard()
	empty(t, spool)
}

// TestNothingIsLeft: a log that does not come to its end leaves no file.
func TestNothingIsLeft(t *testing.T) {
	spool := t.TempDir()
	log := part("file/a.log.gz", strings.Repeat("x", 100_000))
	for name, body := range map[string]string{
		"cut off":          log[:50_000],
		"too large":        form(log, part("x", strings.Repeat("x", 1<<20))),
		"broken behind it": form(log, part("section", strings.Repeat("x", 2000))),
		"two":              form(log, log),
	} {
		if _, err := read(body, 500_000, spool); err == nil {
			t.Errorf("%s: no error", name)
		}
		empty(t, spool)
	}
}

func empty(t *testing.T, dir string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(left) != 0 {
		t.Errorf("%d files are left in the spool directory", len(left))
	}
}

// FuzzRead: whatever is posted, there is an answer, and a form that is
// accepted has exactly one file.
func FuzzRead(f *testing.F) {
	f.Add([]byte(form(part("section", "LAB"), part("failure", "vm"), part("file/hw.json", hwJSON))))
	f.Add([]byte(form(part("file/hw.py", "[('a', 'b', 'c', 1), ['a', 'b', 'c', None]]"))))
	f.Add([]byte(form(part("file/x.log.gz", "x"))))
	f.Add([]byte(part("file/x.log.gz", "x")))
	f.Add([]byte("--BOUNDARY\r\n\r\n--BOUNDARY--"))
	f.Fuzz(func(t *testing.T, body []byte) {
		spool := t.TempDir()
		limited := http.MaxBytesReader(httptest.NewRecorder(), io.NopCloser(bytes.NewReader(body)), 1<<20)
		got, err := upload.Read(multipart.NewReader(limited, boundary), spool)
		if err != nil {
			empty(t, spool)
			return
		}
		if (got.Hardware == nil) == (got.Log == nil) {
			t.Fatalf("form has not exactly one file: %+v", got)
		}
		got.Discard()
		empty(t, spool)
	})
}
