package httpboot

import (
	"io"
	"net/http"

	"edeploy/pxe/internal/grub"
	"edeploy/server/wire"
)

// grubPath is the URL path of GRUB's scripts.
const grubPath = "/boot/grub"

// GRUBFirst is what GRUB runs first on every machine; the files of grub.Names
// hold it.
func (h *Handler) GRUBFirst() (string, error) { return grub.First(h.BaseURL + grubPath) }

// grubFirst answers with it.
func (h *Handler) grubFirst(w http.ResponseWriter) {
	text, err := h.GRUBFirst()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	// A client that is gone asks again.
	_, _ = io.WriteString(w, text)
}

// writeGRUB writes a machine's script for GRUB.
func (h *Handler) writeGRUB(mac, uuid string, action wire.BootAction, why string) (string, error) {
	who, args := "?"+names(mac, uuid), ""
	if action.Agent() {
		args = h.Args(mac, uuid)
	}
	var disk wire.DiskID
	if disks := h.Disks(mac, uuid); len(disks) > 0 {
		disk = disks[0]
	}
	return grub.Write(grub.Script{
		Machine: mac,
		Action:  action,
		Why:     why,
		Kernel:  h.FileURL(Kernel) + who,
		Initrd:  h.FileURL(Initrd) + who,
		Args:    args,
		Disk:    disk,
	})
}
