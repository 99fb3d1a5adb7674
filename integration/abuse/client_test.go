package abuse_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"edeploy/images/manifest/archive"
	"edeploy/server/wire"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

const (
	loader    = "undionly.kpxe"
	stateText = "[('vm', '*')]\n"
)

// client is a well-behaved machine and its operator.
type client struct {
	*host
	web      http.Client
	dhcp     net.PacketConn
	archive  []byte // of a small image, and its manifest
	manifest []byte
	pushed   atomic.Int64
	uploads  atomic.Int64
	dir      string
}

// service is one thing that must go on working, and how long it may take.
type service struct {
	name string
	most time.Duration
	use  func(context.Context) error
}

func (c *client) services() []service {
	const short = 2 * time.Second
	return []service{
		{"DHCP", short, c.getAddress},
		{"TFTP", short, c.getLoader},
		{"boot script", short, c.getScript},
		{"upload", short, c.upload},
		{"push", 10 * time.Second, c.push},
		{"rsync", short, c.copyTree},
		{"API", short, c.askVersion},
	}
}

// round uses every service once.
func (c *client) round(ctx context.Context) error {
	for _, s := range c.services() {
		if err := s.use(ctx); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

func newClient(t *testing.T, h *host) *client {
	t.Helper()
	c := &client{host: h, dir: t.TempDir()}
	// A machine writes to a disk of its own, not to that of the daemon.
	must(t, unix.Mount("copies", c.dir, "tmpfs", 0, ""))
	t.Cleanup(func() { unix.Unmount(c.dir, 0) })
	c.web = http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DialContext: h.dial, DisableKeepAlives: true}}
	var err error
	c.dhcp, err = h.udp(t.Context(), "0.0.0.0:68")
	must(t, err)
	t.Cleanup(func() { c.dhcp.Close() })
	c.archive, c.manifest = smallImage(t, t.TempDir())
	return c
}

// smallImage packs a tree of one file.
func smallImage(t *testing.T, root string) (archived, text []byte) {
	t.Helper()
	must(t, os.WriteFile(filepath.Join(root, "file"), []byte("content\n"), 0o644))
	var packed, described bytes.Buffer
	z, err := zstd.NewWriter(&packed)
	must(t, err)
	m, err := archive.Pack(t.Context(), z, root)
	must(t, err)
	must(t, z.Close())
	_, err = m.WriteTo(&described)
	must(t, err)
	return packed.Bytes(), described.Bytes()
}

// getAddress takes DISCOVER to ACK.
func (c *client) getAddress(ctx context.Context) error {
	discover, err := dhcpv4.NewDiscovery(net.HardwareAddr{2, 0, 0, 0, 0, 9}, dhcpv4.WithBroadcast(true),
		dhcpv4.WithOption(dhcpv4.OptClassIdentifier("PXEClient:Arch:00000:UNDI:002001")))
	if err != nil {
		return err
	}
	offer, err := c.ask(ctx, discover, dhcpv4.MessageTypeOffer)
	if err != nil {
		return err
	}
	request, err := dhcpv4.NewRequestFromOffer(offer, dhcpv4.WithBroadcast(true))
	if err != nil {
		return err
	}
	_, err = c.ask(ctx, request, dhcpv4.MessageTypeAck)
	return err
}

// ask repeats a packet until it is answered, as often as firmware does.
func (c *client) ask(ctx context.Context, packet *dhcpv4.DHCPv4, want dhcpv4.MessageType) (*dhcpv4.DHCPv4, error) {
	buf := make([]byte, 4096)
	for range 4 {
		if _, err := c.dhcp.WriteTo(packet.ToBytes(), &net.UDPAddr{IP: net.IPv4bcast, Port: 67}); err != nil {
			return nil, err
		}
		c.dhcp.SetReadDeadline(time.Now().Add(time.Second))
		for {
			n, _, err := c.dhcp.ReadFrom(buf)
			if err != nil {
				break
			}
			answer, err := dhcpv4.FromBytes(buf[:n])
			if err == nil && answer.TransactionID == packet.TransactionID && answer.MessageType() == want {
				return answer, nil
			}
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	return nil, fmt.Errorf("no %v", want)
}

// getLoader fetches the loader in blocks of 1432 bytes.
func (c *client) getLoader(ctx context.Context) error {
	conn, err := c.udp(ctx, "0.0.0.0:0")
	if err != nil {
		return err
	}
	defer conn.Close()
	const blksize = 1432
	out := []byte("\x00\x01" + loader + "\x00octet\x00blksize\x001432\x00")
	var to net.Addr = &net.UDPAddr{IP: net.ParseIP(address), Port: 69}
	buf, got := make([]byte, 4096), 0
	for block, tries := 0, 0; ; {
		if _, err := conn.WriteTo(out, to); err != nil {
			return err
		}
		conn.SetReadDeadline(time.Now().Add(time.Second))
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			if tries++; tries == 4 || ctx.Err() != nil {
				return errors.New("no answer")
			}
			continue
		}
		tries = 0
		switch op, number := binary.BigEndian.Uint16(buf), binary.BigEndian.Uint16(buf[2:]); {
		case op == 6 && block == 0: // OACK
			number = 0
			out, to = []byte{0, 4, 0, 0}, from
		case op == 3 && int(number) == block+1:
			block++
			got += n - 4
			out = binary.BigEndian.AppendUint16([]byte{0, 4}, number)
			if n-4 < blksize {
				conn.WriteTo(out, to)
				if got != 60_000 {
					return fmt.Errorf("got %d bytes", got)
				}
				return nil
			}
		case op == 5:
			return fmt.Errorf("%.100q", buf[4:n])
		}
	}
}

// do sends a request and wants a status of success.
func (c *client) do(ctx context.Context, method, path string, body io.Reader, header ...string) (string, error) {
	r, err := http.NewRequestWithContext(ctx, method, "http://"+web+path, body)
	if err != nil {
		return "", err
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	res, err := c.web.Do(r)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode >= 300 {
		err = fmt.Errorf("%s %s: %s: %.300s", method, path, res.Status, text)
	}
	return string(text), err
}

func (c *client) getScript(ctx context.Context) error {
	text, err := c.do(ctx, "GET", "/boot/ipxe?mac=02:00:00:00:00:09", nil)
	if err == nil && !strings.HasPrefix(text, "#!ipxe") {
		err = fmt.Errorf("no script: %.100q", text)
	}
	return err
}

// machines is how many machines the client is.
const machines = 20

// upload describes one of the client's machines; it gets its configuration.
func (c *client) upload(ctx context.Context) error {
	facts := fmt.Sprintf(`[["network", "eth0", "serial", "02:00:00:00:01:%02x"], ["system", "product", "serial", "S%d"]]`,
		c.uploads.Load()%machines, c.uploads.Add(1)%machines)
	kind, body := form(facts)
	text, err := c.do(ctx, "POST", "/cgi-bin/upload.py", body, "Content-Type", kind)
	if err == nil && !strings.Contains(text, "run('true')") {
		err = fmt.Errorf("no configuration: %.300q", text)
	}
	return err
}

// form is what an agent posts.
func form(facts string) (contentType string, body *bytes.Buffer) {
	body = new(bytes.Buffer)
	w := multipart.NewWriter(body)
	part, _ := w.CreateFormFile("file", "hw.json") // a buffer does not fail
	io.WriteString(part, facts)
	w.Close()
	return w.FormDataContentType(), body
}

// push brings a small image and takes it away.
func (c *client) push(ctx context.Context) error {
	path := fmt.Sprintf("/api/v1/images/P%d/small", c.pushed.Add(1))
	for _, part := range []struct {
		name    string
		content []byte
	}{{"manifest", c.manifest}, {"archive", c.archive}} {
		sum := sha256.Sum256(part.content)
		if _, err := c.do(ctx, "PATCH", path+"/"+part.name, bytes.NewReader(part.content), "Upload-Offset", "0",
			"Upload-Length", fmt.Sprint(len(part.content)), "Upload-Sha256", hex.EncodeToString(sum[:])); err != nil {
			return err
		}
	}
	text, err := c.do(ctx, "POST", path+"/publish", nil)
	if err == nil && !strings.Contains(text, `"done"`) {
		err = fmt.Errorf("publish: %.300s", text)
	}
	if err != nil {
		return err
	}
	_, err = c.do(ctx, "DELETE", path, nil)
	return err
}

// copyTree gets a small part of a tree with the stock client.
func (c *client) copyTree(ctx context.Context) error {
	to, err := os.MkdirTemp(c.dir, "copy")
	if err != nil {
		return err
	}
	defer os.RemoveAll(to)
	out, err := c.command(ctx, "rsync", "-a", "--timeout=20", "rsync://"+rsyncd+"/install/V1/base/etc/", to).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	_, err = os.Stat(filepath.Join(to, "motd"))
	return err
}

func (c *client) askVersion(ctx context.Context) error {
	text, err := c.do(ctx, "GET", "/api/v1/version", nil)
	if want := fmt.Sprintf(`"protocol": %d`, wire.Protocol); err == nil && !strings.Contains(text, want) {
		err = fmt.Errorf("version: %.100s", text)
	}
	return err
}
