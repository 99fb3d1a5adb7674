package wire

import (
	"encoding/json"
	"fmt"
	"io"
)

// ReportPath is the URL path that takes Reports (POST, JSON).
const ReportPath = "/api/v1/reports"

// KeysPath, with the name of a deployment behind it, is the URL path of who may
// log in to its machines while they run the agent: OpenSSH's authorized_keys.
// 404 is nobody.
const KeysPath = "/api/v1/authorized_keys/"

// MaxReportBytes bounds one report on the wire.
const MaxReportBytes = 64 << 10

// Step is one step of a machine's journey, as its console and the server's
// history name it.
type Step string

// The steps, in their order.
const (
	StepDevices    Step = "devices"    // drivers loaded, devices there
	StepNetwork    Step = "network"    // links up, addresses known
	StepDetect     Step = "detect"     // hardware described
	StepUpload     Step = "upload"     // description sent, answer received
	StepConfigure  Step = "configure"  // configuration script ran, disks are ready
	StepTransfer   Step = "transfer"   // tree copied
	StepVerify     Step = "verify"     // manifest applied, tree proven equal to it
	StepOverlay    Step = "overlay"    // queued files, fstab and conf laid over it
	StepBootloader Step = "bootloader" // boot loader installed
	StepReboot     Step = "reboot"     // on the way into the installed system
)

// What an installed machine does later. When it is done, Image is what the
// machine has become; when it failed, the machine is what it was.
const (
	StepUpgrade  Step = "upgrade"
	StepRollback Step = "rollback"
)

// StepWipe is the erasing of a machine's disks. When it is done or has failed,
// Wiped is what became of each.
const StepWipe Step = "wipe"

// Later tells whether only installed machines take the step.
func (s Step) Later() bool { return s == StepUpgrade || s == StepRollback }

// Status is how a step is doing.
type Status string

// The statuses.
const (
	StatusStarted   Status = "started"
	StatusProgress  Status = "progress"  // Bytes of TotalBytes, or a Message
	StatusNote      Status = "note"      // Message is for the machine's history; the step goes on
	StatusDone      Status = "done"      // the step is over; Seconds says how long it took
	StatusFailed    Status = "failed"    // the installation is over; Message says why
	StatusInstalled Status = "installed" // the whole machine is good: it boots its own disk from now on
)

// Report is what the agent says after every step, and during long ones.
type Report struct {
	Protocol   int           `json:"protocol"`
	Machine    Identity      `json:"machine"`
	Profile    string        `json:"profile,omitempty"`   // known after the upload
	Image      ImageRef      `json:"image,omitzero"`      // known after the configuration; of an upgrade, what it leads to
	BootDisk   DiskID        `json:"boot_disk,omitempty"` // that carries the boot loader; known when the machine is installed
	Disks      []DiskID      `json:"disks,omitempty"`     // that the installation has written; known after the configuration script, or its failure
	Foreign    []ForeignDisk `json:"foreign,omitempty"`   // because of which the configuration failed: the operator is asked
	Wiped      []WipedDisk   `json:"wiped,omitempty"`     // known at the end of StepWipe
	Step       Step          `json:"step"`
	Status     Status        `json:"status"`
	Message    string        `json:"message,omitempty"`     // one sentence
	Seconds    float64       `json:"seconds,omitempty"`     // since the step started
	Bytes      int64         `json:"bytes,omitempty"`       // so far
	TotalBytes int64         `json:"total_bytes,omitempty"` // of the whole step
}

// EncodeReport writes the report with this build's protocol version.
func EncodeReport(w io.Writer, r Report) error {
	r.Protocol = Protocol
	return json.NewEncoder(w).Encode(r)
}

// DecodeReport reads one report and checks its version.
func DecodeReport(r io.Reader) (Report, error) {
	var rep Report
	if err := json.NewDecoder(io.LimitReader(r, MaxReportBytes)).Decode(&rep); err != nil {
		return rep, fmt.Errorf("decode report: %w", err)
	}
	if rep.Protocol != Protocol {
		return rep, fmt.Errorf("report speaks protocol %d, this server speaks %d: boot the machine with this appliance's initrd", rep.Protocol, Protocol)
	}
	for i, mac := range rep.Machine.MACs {
		rep.Machine.MACs[i] = NormalMAC(mac)
	}
	return rep, nil
}
