package abuse_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"edeploy/server/wire"

	"golang.org/x/sync/errgroup"
)

// attacks are played in this order: what the later ones leave would make the
// earlier ones others.
var attacks = []attack{
	{"nothing", nil, func(ctx context.Context, p *peer) error { p.ready(); <-ctx.Done(); return nil }},
	{"4,200 idle connections, then rsync", nil, idleConnections},
	{"64 silent rsync connections", nil, func(ctx context.Context, p *peer) error { return p.silent(ctx, 64, rsyncd) }},
	{"64 trickling uploads", nil, func(ctx context.Context, p *peer) error {
		return p.trickle(ctx, 64, "POST", "//cgi-bin//upload.py", "Content-Type: multipart/form-data; boundary=x\r\n")
	}},
	{"8 trickling image PATCHes", nil, func(ctx context.Context, p *peer) error {
		return p.trickle(ctx, 8, "PATCH", "/api/v1/images/T%d/role/archive",
			"Upload-Offset: 0\r\nUpload-Length: 100000\r\nUpload-Sha256: "+strings.Repeat("0", 64)+"\r\n")
	}},
	{"4 slow configuration PUTs", nil, func(ctx context.Context, p *peer) error {
		return p.trickle(ctx, 4, "PUT", "/api/v1/config/SERVER/slow%d.specs", "")
	}},
	{"256 TFTP requests without ACK", nil, silentTFTP},
	{"200 readers that do not read", nil, func(ctx context.Context, p *peer) error { return p.unread(ctx, 200, "/install/V1/base/big") }},
	{"DNS rebinding", nil, rebinding},
	{"metadata PUT, path of 500,000 levels", nil, func(ctx context.Context, p *peer) error { return p.once(ctx, "PUT", metadata, deepTar()) }},
	{"metadata PUT, 330 KB for 10 GB", nil, func(ctx context.Context, p *peer) error { return p.once(ctx, "PUT", metadata, zeros(10<<30)) }},
	{"GNU sparse, 10 KB for 5 GB", nil, func(ctx context.Context, p *peer) error { return p.once(ctx, "PUT", metadata, sparseTar(5<<30)) }},
	{"zstd windows of 128 MB, 8 times", nil, wideWindows},
	{"sizes of 2^62", nil, hugeSizes},
	{"manifest too long to be read back", func(*testing.T, *daemon) { longArchive() }, longManifest},
	{"three manifests of 127 MB, parsed for 1-byte PATCHes", nil, manyManifests},
	{"rsync checksum heads", nil, checksumHeads},
	{"8,000 unfinished uploads", nil, unfinishedUploads},
	{"49,990 MACs in one description", nil, manyAddresses},
	{"5,000 small reports", nil, manyReports},
	{"150 unread lists of 4,500 machines", knowMachines, func(ctx context.Context, p *peer) error { return p.unread(ctx, 150, "/api/v1/machines") }},
	{"state with 60,000 profiles", forgetMachines, longState},
}

// metadata is the path of an upgrade's metadata.
const metadata = "/api/v1/images/V1/base/metadata/V2"

// hold keeps connections until ctx ends.
func keep(ctx context.Context, p *peer, all []net.Conn) error {
	p.ready()
	<-ctx.Done()
	for _, c := range all {
		c.Close()
	}
	return nil
}

// silent opens connections and says nothing.
func (p *peer) silent(ctx context.Context, n int, addr string) error {
	var all []net.Conn
	for range n {
		c, err := p.dial(ctx, "tcp", addr)
		if err != nil {
			break
		}
		all = append(all, c)
	}
	return keep(ctx, p, all)
}

func idleConnections(ctx context.Context, p *peer) error {
	var group errgroup.Group
	group.SetLimit(16)
	conns := make([]net.Conn, 4200)
	for i := range conns {
		group.Go(func() error {
			conns[i], _ = p.dial(ctx, "tcp", web) // refused ones are no failure of the attack
			return nil
		})
	}
	_ = group.Wait()
	last, err := p.dial(ctx, "tcp", rsyncd)
	if err != nil {
		return err
	}
	conns = append(conns, last)
	var open []net.Conn
	for _, c := range conns {
		if c != nil {
			open = append(open, c)
		}
	}
	return keep(ctx, p, open)
}

// trickle begins requests and sends a byte of their bodies now and then. Those
// that are refused are begun again. A %d in the path counts.
func (p *peer) trickle(ctx context.Context, n int, method, path, header string) error {
	var group errgroup.Group
	var begun atomic.Int64
	for i := range n {
		target := path
		if strings.Contains(path, "%d") {
			target = fmt.Sprintf(path, i)
		}
		head := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: x\r\n%sContent-Length: 100000\r\n\r\n-", method, target, header)
		group.Go(func() error {
			for ctx.Err() == nil {
				c, err := p.dial(ctx, "tcp", web)
				if err != nil {
					return nil
				}
				io.WriteString(c, head)
				if begun.Add(1) == int64(n) {
					p.ready()
				}
				for err == nil && ctx.Err() == nil {
					time.Sleep(200 * time.Millisecond)
					_, err = c.Write([]byte("-"))
				}
				c.Close()
			}
			return nil
		})
	}
	return group.Wait()
}

// unread asks for something and does not read it.
func (p *peer) unread(ctx context.Context, n int, path string) error {
	var all []net.Conn
	for range n {
		c, err := p.dial(ctx, "tcp", web)
		if err != nil {
			break
		}
		if tcp, ok := c.(*net.TCPConn); ok {
			tcp.SetReadBuffer(4 << 10)
		}
		fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path)
		all = append(all, c)
	}
	return keep(ctx, p, all)
}

// send sends a request and answers the status.
func (p *peer) send(ctx context.Context, method, path string, body io.Reader, header ...string) (status int, err error) {
	r, err := http.NewRequestWithContext(ctx, method, "http://"+web+path, body)
	if err != nil {
		return 0, err
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	client := http.Client{Transport: &http.Transport{DialContext: p.dial, DisableKeepAlives: true}}
	res, err := client.Do(r)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, res.Body)
	return res.StatusCode, nil
}

// once sends one request, which must not succeed.
func (p *peer) once(ctx context.Context, method, path string, body []byte) error {
	status, err := p.send(ctx, method, path, bytes.NewReader(body))
	p.ready()
	if err == nil && status < 400 {
		return fmt.Errorf("%s %s of %d bytes is taken: status %d", method, path, len(body), status)
	}
	return nil
}

// silentTFTP asks for files and acknowledges nothing.
func silentTFTP(ctx context.Context, p *peer) error {
	var all []net.PacketConn
	defer func() {
		for _, c := range all {
			c.Close()
		}
	}()
	for range 256 {
		c, err := p.udp(ctx, "0.0.0.0:0")
		if err != nil {
			return err
		}
		all = append(all, c)
		request := []byte("\x00\x01" + loader + "\x00octet\x00")
		if _, err := c.WriteTo(request, &net.UDPAddr{IP: net.ParseIP(address), Port: 69}); err != nil {
			return err
		}
	}
	p.ready()
	<-ctx.Done()
	return nil
}

func rebinding(ctx context.Context, p *peer) error {
	for _, target := range []struct{ method, path string }{
		{"PUT", "/api/v1/config/SERVER/evil.specs"}, {"GET", "/api/v1/machines"}, {"DELETE", "/api/v1/images/V1/base"}, {"PUT", metadata},
	} {
		c, err := p.dial(ctx, "tcp", web)
		if err != nil {
			return err
		}
		fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: evil.example\r\nOrigin: http://evil.example\r\nConnection: close\r\nContent-Length: 2\r\n\r\n[]", target.method, target.path)
		answer, err := io.ReadAll(c)
		c.Close()
		if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 403 ") {
			return fmt.Errorf("%s %s from another site: %.100q, %w", target.method, target.path, answer, err)
		}
	}
	p.ready()
	<-ctx.Done()
	return nil
}

// upload describes a machine.
func (p *peer) upload(ctx context.Context, facts string) (status int, err error) {
	kind, body := form(facts)
	return p.send(ctx, "POST", "/cgi-bin/upload.py", body, "Content-Type", kind)
}

func manyAddresses(ctx context.Context, p *peer) error {
	var facts strings.Builder
	facts.WriteString("[")
	for i := range 49_990 {
		fmt.Fprintf(&facts, `["network", "eth%d", "serial", "06:00:00:00:%02x:%02x"],`, i, i>>8, i&0xff)
	}
	facts.WriteString(`["system", "product", "serial", "many"]]`)
	for ctx.Err() == nil {
		_, _ = p.upload(ctx, facts.String()) // refused or not: the others must not notice
		p.ready()
	}
	return nil
}

func manyReports(ctx context.Context, p *peer) error {
	var group errgroup.Group
	group.SetLimit(16)
	for i := range 5000 {
		group.Go(func() error {
			if ctx.Err() != nil {
				return nil
			}
			var text bytes.Buffer
			mac := fmt.Sprintf("0a:00:00:00:%02x:%02x", i>>8, i&0xff)
			if err := wire.EncodeReport(&text, wire.Report{Machine: wire.Identity{MACs: []string{mac}}, Step: wire.StepDetect, Status: wire.StatusStarted}); err != nil {
				return err
			}
			_, _ = p.send(ctx, "POST", wire.ReportPath, &text, "Content-Type", "application/json") // may be refused
			return nil
		})
	}
	err := group.Wait()
	p.ready()
	<-ctx.Done()
	return err
}

// knowMachines makes machines that are known and installed.
func knowMachines(t *testing.T, d *daemon) {
	for i := range 4500 {
		id := fmt.Sprintf("0e000000%02x%02x", i>>8, i&0xff)
		mac := fmt.Sprintf("0e:00:00:00:%02x:%02x", i>>8, i&0xff)
		text := fmt.Sprintf(`{"id": %q, "macs": [%q], "name": "Example-S%d-%s", "section": "SERVER", "state": "installed", "since": "2026-01-01T00:00:00Z", "boot": "auto"}`+"\n", id, mac, i, mac)
		must(t, os.WriteFile(filepath.Join(d.dir, "server/machines", id+".json"), []byte(text), 0o644))
	}
}

func forgetMachines(t *testing.T, d *daemon) {
	files, err := filepath.Glob(filepath.Join(d.dir, "server/machines/0e*.json"))
	must(t, err)
	for _, f := range files {
		must(t, os.Remove(f))
	}
}

// longState replaces the state file, then uploads.
func longState(ctx context.Context, p *peer) error {
	var text strings.Builder
	text.WriteString("[")
	for i := range 60_000 {
		fmt.Fprintf(&text, "('p%d','*'),", i)
	}
	text.WriteString("('vm', '*')]\n")
	if _, err := p.send(ctx, "PUT", "/api/v1/config/SERVER/state", strings.NewReader(text.String())); err != nil {
		return err
	}
	p.ready()
	for i := 0; ctx.Err() == nil; i++ {
		_, _ = p.upload(ctx, fmt.Sprintf(`[["network", "eth0", "serial", "06:00:00:01:00:%02x"]]`, i%256))
	}
	_, err := p.send(context.Background(), "PUT", "/api/v1/config/SERVER/state", strings.NewReader(stateText))
	return err
}

// patch sends bytes of a part that has a length and a sum.
func (p *peer) patch(ctx context.Context, path string, offset, length int64, sum string, body io.Reader) (int, error) {
	return p.send(ctx, "PATCH", path, body, "Upload-Offset", fmt.Sprint(offset), "Upload-Length", fmt.Sprint(length), "Upload-Sha256", sum)
}

// noSum is a sum that nothing has.
var noSum = strings.Repeat("0", 64)

func unfinishedUploads(ctx context.Context, p *peer) error {
	begun := p.readyAfter(200) // many more than one peer may have
	var group errgroup.Group
	group.SetLimit(16)
	for i := range 8000 {
		group.Go(func() error {
			if ctx.Err() == nil {
				_, _ = p.patch(ctx, fmt.Sprintf("/api/v1/images/U%d/role/archive", i), 0, 1000, noSum, strings.NewReader("-"))
				begun()
			}
			return nil
		})
	}
	return group.Wait()
}

func hugeSizes(ctx context.Context, p *peer) error {
	for _, length := range []int64{1 << 62, 1<<63 - 1, 1 << 40} { // the last: more than any disk here has
		status, err := p.patch(ctx, "/api/v1/images/H1/role/archive", 0, length, noSum, strings.NewReader("-"))
		if err == nil && status < 400 {
			return fmt.Errorf("an upload of %d bytes is taken: status %d", length, status)
		}
	}
	text := fmt.Sprintf("#mtree\n. type=dir mode=0755 uid=0 gid=0 time=0.0\n./a type=file mode=0644 uid=0 gid=0 size=%d time=0.0 sha256digest=%s\n"+
		"./b type=file mode=0644 uid=0 gid=0 size=%d time=0.0 sha256digest=%s\n", int64(1)<<62, noSum, int64(1)<<62, noSum)
	described, err := p.bring(ctx, "/api/v1/images/H2/role/manifest", []byte(text))
	if err != nil {
		return err
	}
	taken, err := p.patch(ctx, "/api/v1/images/H2/role/archive", 0, 1<<40, noSum, strings.NewReader("-"))
	p.ready()
	if err == nil && described < 400 && taken < 400 {
		return fmt.Errorf("an archive of 1 TB with files of 2^62 bytes is taken: status %d of its manifest, %d of its archive", described, taken)
	}
	return nil
}

// checksumHeads asks for a file as a client that says that it has a part of it
// already: millions of block sums, which the daemon would keep.
func checksumHeads(ctx context.Context, p *peer) error {
	sent := p.readyAfter(8 * 200) // blocks: what all that have a place send in a second
	var group errgroup.Group
	for range 32 {
		group.Go(func() error {
			c, err := p.dial(ctx, "tcp", rsyncd)
			if err != nil {
				return nil
			}
			defer c.Close()
			stop := context.AfterFunc(ctx, func() { c.Close() })
			defer stop()
			io.WriteString(c, "@RSYNCD: 27\ninstall\n--server\n--sender\n-logDtpr\n.\ninstall/V1/base/big\n\n")
			go io.Copy(io.Discard, c)
			sums := binary.LittleEndian.AppendUint32(nil, 0)     // no filters
			for _, n := range []uint32{0, 4 << 20, 700, 16, 0} { // file 0: so many blocks, of so many bytes, sums of 16 bytes, no shorter last one
				sums = binary.LittleEndian.AppendUint32(sums, n)
			}
			if _, err := c.Write(sums); err != nil {
				return nil
			}
			block := make([]byte, 20<<10)
			for range 600 { // 12 MB; not faster than others can be heard beside it
				if _, err := c.Write(block); err != nil {
					return nil
				}
				sent()
				time.Sleep(3 * time.Millisecond)
			}
			<-ctx.Done()
			return nil
		})
	}
	return group.Wait()
}
