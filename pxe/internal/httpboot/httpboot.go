// Package httpboot is the HTTP side of booting: the script of a machine, for
// iPXE and for GRUB, and the files of the boot directory.
//
//	GET /boot/ipxe?mac=MAC&uuid=UUID   the script that carries out the machine's boot action
//	GET /boot/grub?mac=MAC&uuid=UUID   the same for GRUB
//	GET /grub/grub.cfg                 what GRUB asks for first: it sends every machine to its script
//	GET /boot/file/NAME                kernel, initrd, loader; with ranges
//	GET /boot/disk?mac=MAC&uuid=UUID&platform=efi   the program that starts the machine's installed disk
package httpboot

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"edeploy/pxe/internal/bootdisk"
	"edeploy/pxe/internal/grub"
	"edeploy/pxe/internal/ipxe"
	"edeploy/server/wire"
)

// URL paths.
const (
	scriptPath = "/boot/ipxe"
	filePath   = "/boot/file/"
	diskPath   = "/boot/disk"
)

// Names of the files of the boot directory that the agent is made of.
const (
	Kernel = "vmlinuz"
	Initrd = "initrd.pxe"
)

// Handler answers /boot/... .
type Handler struct {
	BaseURL string // of this server as machines reach it: http://192.168.122.1
	Root    *os.Root
	// Args is the kernel's command line for a machine that boots the agent.
	Args func(mac, uuid string) string
	// Action says what a machine boots, and why when it is not what others would
	// boot. It is asked once for every script.
	Action func(mac, uuid string, client netip.Addr) (action wire.BootAction, why string)
	// Disks are those that the machine was installed on, first the one to start;
	// none when they are not known.
	Disks func(mac, uuid string) []wire.DiskID
	// Reached is told that a machine has its script, and, with done, all that it
	// wants here: its script when that starts no agent, else the agent. nil: nobody
	// wants to know.
	Reached func(mac, uuid string, done bool)
	// Notify is called for what belongs into a machine's history; must not block.
	Notify func(mac, uuid string, ip netip.Addr, sentence string)
	Log    *slog.Logger
}

// ScriptURL is where a machine gets its script.
func (h *Handler) ScriptURL(mac, uuid string) string {
	return h.BaseURL + scriptPath + "?" + names(mac, uuid)
}

// FileURL is where a file of the boot directory is found.
func (h *Handler) FileURL(name string) string { return h.BaseURL + filePath + name }

// names says who asks. The colons of a MAC address stay as they are, so that
// a person can read the URL on a console.
func names(mac, uuid string) string {
	query := "mac=" + mac
	if uuid != "" {
		query += "&uuid=" + uuid
	}
	return query
}

// ServeHTTP answers a request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name, isFile := strings.CutPrefix(r.URL.Path, filePath)
	name = strings.TrimLeft(name, "/") // shim asks for /boot/file//grubx64.efi
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "only GET and HEAD are understood here", http.StatusMethodNotAllowed)
	case r.URL.Path == scriptPath:
		h.script(w, r, h.write)
	case r.URL.Path == grubPath:
		h.script(w, r, h.writeGRUB)
	case slices.Contains(grub.Names, strings.TrimPrefix(r.URL.Path, "/")):
		h.grubFirst(w)
	case r.URL.Path == diskPath:
		h.disk(w, r)
	case isFile && name != "":
		h.file(w, r, name)
	default:
		http.NotFound(w, r)
	}
}

// writer writes a machine's script.
type writer func(mac, uuid string, action wire.BootAction, why string) (string, error)

// script answers with the machine's script.
func (h *Handler) script(w http.ResponseWriter, r *http.Request, write writer) {
	mac, uuid := machine(r.URL.Query())
	if mac == "" {
		http.Error(w, "parameter mac is missing or is not an Ethernet address", http.StatusBadRequest)
		return
	}
	action, why := h.Action(mac, uuid, client(r))
	text, err := write(mac, uuid, action, why)
	if err != nil {
		h.Log.Error("boot script", "mac", mac, "err", err)
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	h.Log.Info("boot script", "path", r.URL.Path, "mac", mac, "uuid", uuid, "client", client(r), "action", action)
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if sentence := history(wire.BootAction(r.URL.Query().Get("again")), action); sentence != "" && r.Method == http.MethodGet {
		if why != "" {
			sentence += ": " + why
		}
		h.Notify(mac, uuid, client(r), sentence)
	}
	if r.Method == http.MethodGet {
		h.reached(mac, uuid, !action.Agent())
	}
	// A client that is gone asks again.
	_, _ = io.WriteString(w, text)
}

func (h *Handler) reached(mac, uuid string, done bool) {
	if h.Reached != nil {
		h.Reached(mac, uuid, done)
	}
}

// history is what a script means for the machine's history; last is the action
// of the script that sent the machine here, "" when it comes from DHCP.
func history(last, action wire.BootAction) string {
	switch {
	case last.Agent():
		return "could not start the agent; boots: " + string(action)
	case last == action: // still on hold: it asks every few seconds
		return ""
	}
	return "boots: " + string(action)
}

// write writes a machine's script for iPXE.
func (h *Handler) write(mac, uuid string, action wire.BootAction, why string) (string, error) {
	who := "?" + names(mac, uuid)
	args, programs := "", []string(nil)
	switch {
	case action.Agent():
		args = h.Args(mac, uuid)
	case action == wire.BootLocal:
		programs = h.diskURLs(mac, uuid)
	}
	return ipxe.Write(ipxe.Script{
		Machine: mac,
		Action:  action,
		Why:     why,
		Again:   h.ScriptURL(mac, uuid) + "&again=" + string(action),
		Kernel:  h.FileURL(Kernel) + who,
		Initrd:  h.FileURL(Initrd) + who,
		Args:    args,
		Disks:   programs,
	})
}

// maxDisks bounds the disks that a machine tries to start, one after another.
const maxDisks = 8

// diskURLs are where the programs are that start the machine's disks; a disk
// without a partition table starts nothing.
func (h *Handler) diskURLs(mac, uuid string) []string {
	var urls []string
	for _, id := range h.Disks(mac, uuid) {
		if _, _, _, err := id.Where(); err == nil && len(urls) < maxDisks {
			urls = append(urls, h.BaseURL+diskPath+"?"+names(mac, uuid)+"&disk="+string(id))
		}
	}
	return urls
}

// disk sends the program that starts a disk that the machine was installed on.
func (h *Handler) disk(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	mac, _ := machine(query)
	program, err := bootdisk.Program(wire.DiskID(query.Get("disk")), query.Get("platform"))
	if err != nil {
		h.Log.Warn("boot disk", "mac", mac, "client", client(r), "err", err)
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Cache-Control", "no-store")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(program))
}

var uuidForm = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

// machine is who asks; values of another form become "", because they are
// written into scripts, and so does a UUID that says "not set" (SMBIOS section
// 7.2.1): GRUB reads what the board has, and two boards may have that.
func machine(query url.Values) (mac, uuid string) {
	mac = wire.NormalMAC(query.Get("mac"))
	uuid = strings.ToLower(query.Get("uuid"))
	if !uuidForm.MatchString(uuid) || strings.Trim(uuid, "0-") == "" || strings.Trim(uuid, "f-") == "" {
		uuid = ""
	}
	return mac, uuid
}

// client is the address the request came from.
func client(r *http.Request) netip.Addr {
	a, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return a.Addr().Unmap()
}

// file sends a file of the boot directory.
func (h *Handler) file(w http.ResponseWriter, r *http.Request, name string) {
	f, info, err := h.open(name)
	if err != nil {
		h.Log.Warn("boot file refused", "client", client(r), "file", name, "err", err)
		if mac, uuid := machine(r.URL.Query()); mac != "" {
			h.Notify(mac, uuid, client(r), "cannot be served: "+err.Error())
		}
		http.Error(w, err.Error(), status(err))
		return
	}
	defer f.Close()
	// Known in advance, so that nobody guesses a type from a kernel's first bytes.
	w.Header().Set("Content-Type", "application/octet-stream")
	count := &counter{ResponseWriter: w}
	began := time.Now()
	http.ServeContent(count, r, "", info.ModTime(), f)
	h.fileSent(r, name, count, info.Size(), time.Since(began))
}

// fileSent tells about a file that went out, or did not quite.
func (h *Handler) fileSent(r *http.Request, name string, sent *counter, size int64, took time.Duration) {
	mac, uuid := machine(r.URL.Query())
	log := h.Log.With("mac", mac, "client", client(r), "file", name, "bytes", sent.bytes, "seconds", took.Seconds())
	sentence := ""
	switch {
	case r.Method == http.MethodHead || sent.status != http.StatusOK: // a part, or "not modified"
		log.Debug("boot file", "status", sent.status)
	case sent.bytes < size:
		log.Warn("boot file broken off", "of_bytes", size)
		sentence = fmt.Sprintf("broke off %s after %d of %d bytes", name, sent.bytes, size)
	default:
		log.Info("boot file")
		sentence = fmt.Sprintf("fetched %s, %d bytes in %.1f s", name, size, took.Seconds())
	}
	if sentence != "" && mac != "" {
		h.Notify(mac, uuid, client(r), sentence)
	}
	if whole := r.Method == http.MethodGet && sent.status == http.StatusOK && sent.bytes == size; whole && name == Initrd && mac != "" {
		h.reached(mac, uuid, true)
	}
}

// errNotFile: the name is there and cannot be sent.
var errNotFile = errors.New("not a file")

func (h *Handler) open(name string) (*os.File, fs.FileInfo, error) {
	f, err := h.Root.Open(name)
	if err != nil {
		return nil, nil, fmt.Errorf("boot directory: %s: %w", name, cause(err))
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errNotFile
	}
	if err != nil {
		f.Close()
		return nil, nil, fmt.Errorf("boot directory: %s: %w", name, cause(err))
	}
	return f, info, nil
}

// cause is a file error without the operation and the path.
func cause(err error) error {
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		return pathErr.Err
	}
	return err
}

// status is 404 for whatever is not there for the client, also for names that
// lead out of the directory.
func status(err error) int {
	if errors.Is(err, fs.ErrPermission) {
		return http.StatusForbidden
	}
	return http.StatusNotFound
}

// counter notes an answer's status and the bytes of its body. It keeps io.ReaderFrom, so
// that the kernel copies the file to the socket (sendfile).
type counter struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (c *counter) WriteHeader(status int) {
	c.status = status
	c.ResponseWriter.WriteHeader(status)
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.ResponseWriter.Write(b)
	c.bytes += int64(n)
	return n, err
}

// ReadFrom implements io.ReaderFrom.
func (c *counter) ReadFrom(r io.Reader) (int64, error) {
	n, err := io.Copy(c.ResponseWriter, r)
	c.bytes += n
	return n, err
}

// Unwrap is for http.ResponseController.
func (c *counter) Unwrap() http.ResponseWriter { return c.ResponseWriter }
