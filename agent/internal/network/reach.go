package network

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"edeploy/server/wire"
)

// Times of the question whether a device leads to the server.
const (
	askTime   = 5 * time.Second // of one request
	askAgain  = time.Second     // between two
	tellAgain = 10 * time.Second
)

// reach asks the server by this device until it answers, or nobody wants to know
// any more.
func (j job) reach(ctx context.Context, device string) {
	for ctx.Err() == nil {
		server, err := j.ask(ctx, device)
		if !j.send(outcome{port: j.port, device: device, server: server, serverErr: j.advise(err)}) || err == nil {
			return
		}
		wait(ctx, j.hurry.of(askAgain))
	}
}

// ask asks for upload.py by the device and no other, and answers the server's
// address. Only upload.py answers with a script (reference section 4.3): whoever
// else takes connections there, such as a router's pages or a proxy in the way of
// all that goes to port 80, is not the server.
func (j job) ask(ctx context.Context, device string) (server netip.Addr, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	dialer := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		if e := raw.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), device) }); e != nil {
			return e
		}
		return os.NewSyscallError("bind to "+device, err)
	}}
	transport := &http.Transport{DisableKeepAlives: true, MaxResponseHeaderBytes: 4096, DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dialer.DialContext(ctx, network, address)
		if err == nil {
			server = conn.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
		}
		return conn, err
	}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, j.upload, nil)
	if err != nil {
		return netip.Addr{}, err
	}
	answer, err := transport.RoundTrip(request)
	if err != nil {
		return netip.Addr{}, withoutAddresses(err)
	}
	answer.Body.Close()
	if kind, _, _ := mime.ParseMediaType(answer.Header.Get("Content-Type")); kind != wire.ScriptType {
		return netip.Addr{}, fmt.Errorf("who answers there is not edeploy's server: for %s it has status %d and %q", j.upload, answer.StatusCode, kind)
	}
	return server, nil
}

// advise says what to do about a server that a static address alone does not lead to.
func (j job) advise(err error) error {
	server, parsed := netip.ParseAddrPort(j.server)
	if err == nil || parsed != nil || j.config.Method != Static || j.config.Gateway.IsValid() || j.config.Address.Contains(server.Addr()) {
		return err
	}
	return fmt.Errorf("%w; %s is in another network: IP= takes a gateway behind a +, such as %s+%s", err,
		server.Addr(), j.config.Address, j.config.Address.Masked().Addr().Next())
}

// withoutAddresses leaves out the addresses: the sentence around it has them.
func withoutAddresses(err error) error {
	if name := (*net.DNSError)(nil); errors.As(err, &name) {
		return name
	}
	if timeout := net.Error(nil); errors.As(err, &timeout) && timeout.Timeout() {
		return fmt.Errorf("no answer within %.0f s", askTime.Seconds())
	}
	op, ok := err.(*net.OpError)
	if !ok {
		return err
	}
	if call, ok := op.Err.(*os.SyscallError); ok {
		return call.Err
	}
	return op.Err
}

func serverAddress(host string, port int) string {
	return net.JoinHostPort(host, strconv.Itoa(cmp.Or(port, 80)))
}

// routeServer makes what is for the server go by the device that led to it: another
// one may have the same network, or an earlier default route.
func routeServer(device string, server netip.Addr) error {
	link, err := netlink.LinkByName(device)
	if err != nil {
		return fmt.Errorf("find network device %s: %w", device, err)
	}
	ip := net.IP(server.AsSlice())
	if now, err := netlink.RouteGet(ip); err == nil && len(now) == 1 && now[0].LinkIndex == link.Attrs().Index {
		return nil
	}
	ways, err := netlink.RouteGetWithOptions(ip, &netlink.RouteGetOptions{Oif: device})
	if err != nil || len(ways) != 1 {
		return fmt.Errorf("route to %s by %s: %w", server, device, err)
	}
	route := &netlink.Route{LinkIndex: link.Attrs().Index, Gw: ways[0].Gw, Dst: &net.IPNet{IP: ip, Mask: net.CIDRMask(server.BitLen(), server.BitLen())}}
	if route.Gw == nil {
		route.Scope = netlink.SCOPE_LINK
	}
	if err := netlink.RouteReplace(route); err != nil {
		return fmt.Errorf("set route to %s by %s: %w", server, device, err)
	}
	return nil
}
