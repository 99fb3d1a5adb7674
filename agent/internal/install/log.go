package install

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"edeploy/server/wire"
)

// maxLog bounds what is uploaded of one part of the log: its end counts.
const maxLog = 16 << 20

// logTime is how long the machine waits for a server to take its log.
const logTime = time.Minute

func (in *installation) uploadLog(ctx context.Context) {
	if !in.args.UploadLog {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, logTime)
	defer cancel()
	if err := in.client.UploadLog(ctx, wire.LogName(in.hardware), in.zipLog()); err != nil {
		in.console.printf("the log was not uploaded: %v", err)
	}
}

// zipLog collects the log of reference section 2.7.
func (in *installation) zipLog() []byte {
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
	text, err := os.ReadFile(in.logFile.Name())
	part("install log", text, err)
	part("kernel command line", []byte(in.env.Cmdline+"\n"), nil)
	text, err = in.read("/configure")
	part("/configure", text, err)
	text, err = in.env.Dmesg()
	part("dmesg", text, err)
	_ = z.Close()
	return b.Bytes()
}

// KernelMessages reads the kernel's ring buffer, syslog(2).
func KernelMessages() ([]byte, error) {
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
