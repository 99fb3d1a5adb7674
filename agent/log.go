package agent

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"edeploy/server/wire"
)

// maxLog bounds what is uploaded of one part of the log: its end counts.
const maxLog = 16 << 20

// logTime is how long the machine waits for a server to take its log.
const logTime = time.Minute

// uploadLog sends the log; a failure is only said.
func (j *journey) uploadLog(ctx context.Context) {
	if !j.args.UploadLog {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, logTime)
	defer cancel()
	if err := j.client.UploadLog(ctx, logName(j.hardware), j.zipLog()); err != nil {
		j.console.say("the log was not uploaded: %v", err)
	}
}

// zipLog collects the log of reference section 2.7.
func (j *journey) zipLog() []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	part := func(title string, text []byte, err error) {
		if err != nil {
			text = fmt.Appendf(nil, "%v\n", err)
		}
		// Writing to memory cannot fail.
		_, _ = fmt.Fprintf(z, "\n##### %s\n", title)
		_, _ = z.Write(text[max(0, len(text)-maxLog):])
	}
	text, err := os.ReadFile(j.logFile.Name())
	part("install log", text, err)
	part("kernel command line", []byte(j.env.Cmdline+"\n"), nil)
	text, err = j.read("/configure")
	part("/configure", text, err)
	text, err = j.env.Dmesg()
	part("dmesg", text, err)
	_ = z.Close()
	return b.Bytes()
}

// logName is VENDOR-PRODUCT-SERIAL.log.gz (reference section 2.1 step 3).
func logName(hw wire.Hardware) string {
	value := func(field string) string {
		v, _ := hw.Find("system", "product", field)
		return plain(v)
	}
	serial := value("serial")
	if serial == "" || serial == "0123456789" || serial == "0000000000" {
		serial = value("uuid")
	}
	if id := hw.Identity(); serial == "" && len(id.MACs) > 0 {
		serial = strings.ReplaceAll(id.MACs[0], ":", "_") // nothing else tells machines apart
	}
	return value("vendor") + "-" + value("name") + "-" + serial + ".log.gz"
}

// plain replaces runs of characters outside [A-Za-z0-9.] by one "_", and
// removes it at both ends.
func plain(s string) string {
	words := strings.FieldsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.')
	})
	return strings.Join(words, "_")
}

// kernelMessages reads the kernel's ring buffer, syslog(2).
func kernelMessages() ([]byte, error) {
	size, err := unix.Klogctl(unix.SYSLOG_ACTION_SIZE_BUFFER, nil)
	if err != nil {
		return nil, fmt.Errorf("size of the kernel log: %w", err)
	}
	buf := make([]byte, size)
	n, err := unix.Klogctl(unix.SYSLOG_ACTION_READ_ALL, buf)
	if err != nil {
		return nil, fmt.Errorf("read the kernel log: %w", err)
	}
	return buf[:n], nil
}
