package server_test

import (
	"bytes"
	"strings"
	"testing"

	"edeploy/server"
)

// FuzzUpload: whatever is posted, the answer is a configuration, nothing, or a
// refusal with a sentence; never a defect, never a file outside.
func FuzzUpload(f *testing.F) {
	for _, fields := range [][]string{
		{"section", "SERVER", "file/hw.json", encode(vm(1))},
		{"file/hw.json", encode(tiny(2)), "failure", "vm"},
		{"file/x.log.gz", "log"},
		{"section", "../../x", "file/hw.json", "[]"},
		{"file/hw.py", "[('network', 'eth0', 'serial', '../../../x')]"},
		{"file/hw.json", `[["network","eth0","serial","02:00:00:00:00:03"],["system","product","name",1e300],["disk","vda","size",null]]`},
	} {
		kind, body := form(fields...)
		_, boundary, _ := strings.Cut(kind, "boundary=")
		f.Add(bytes.ReplaceAll(body.Bytes(), []byte(boundary), []byte("B")))
	}
	l := newLab(f, seedFiles())
	l.quiet = true // millions of lines otherwise
	l.limits = server.Limits{Machines: 50, ArchiveBytes: 1 << 20}
	l.start()
	f.Fuzz(func(t *testing.T, body []byte) {
		a := l.do("POST", "/upload.py", "multipart/form-data; boundary=B", bytes.NewReader(body))
		checkAnswer(t, a)
		l.checkDirectories(t)
	})
}
