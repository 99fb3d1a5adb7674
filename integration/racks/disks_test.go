package racks

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"edeploy/integration/lab"
	"edeploy/integration/lab/labtest"
	"edeploy/integration/needs"
	"edeploy/server"
	"edeploy/server/api"
	"edeploy/server/wire"
)

// layouts is how many random machines TestDisks makes with EDEPLOY_LONG=1.
const layouts = 50

// part is a disk of a layout; all but the last two are lab.Disks.
type part struct {
	lab.Disk
	size int64
	hash string
}

// layout is a machine with five disks: one that is meant, another blank one, one
// with somebody's data, a stick, a read-only CD.
type layout struct {
	name    string
	rule    string // the script's choice
	refused string // what the agent says instead
	parts   []*part
}

const (
	meant = iota
	spare
	foreign
	stick
	disc
)

// newLayout draws a machine, and the rule that its script chooses by.
func newLayout(name string, random *rand.Rand) *layout {
	buses := []lab.Bus{lab.Virtio, lab.IDE, lab.SCSI, lab.NVMe, lab.MegaSAS}
	l := &layout{name: name}
	for i, size := range []int64{300e6, 300e6, 300e6, 64 << 20, 8 << 20} {
		p := &part{size: size}
		p.Bus, p.Serial = buses[random.IntN(len(buses))], fmt.Sprintf("%c%d", 'A'+i, 1000+random.IntN(9000))
		l.parts = append(l.parts, p)
	}
	l.draw(random)
	return l
}

// transports are what Linux calls the buses.
var transports = map[lab.Bus]string{lab.Virtio: "virtio", lab.IDE: "sata", lab.SCSI: "scsi", lab.NVMe: "nvme", lab.MegaSAS: "scsi"}

func (l *layout) draw(random *rand.Rand) {
	a, b, c := l.parts[meant], l.parts[spare], l.parts[foreign]
	switch random.IntN(6) {
	case 0:
		l.rule = fmt.Sprintf("disks(serial='%s')", a.Serial)
	case 1: // the smallest
		b.size, c.size = 400e6, 500e6
		l.rule = "disks(count=1, order='size')"
	case 2: // the largest, though the data is on one that is as large as the spare
		a.size = 600e6
		l.rule = "disks(count=1, order='-size', removable=False)"
	case 3: // one of two equal ones
		c.size = 500e6
		l.rule, l.refused = "disks(count=1, order='size')", "nothing says which of these 2 is one of them: "
	case 4: // twins
		b.Serial = a.Serial
		l.rule, l.refused = fmt.Sprintf("disks(serial='%s')", a.Serial), "two disks have the serial number "+a.Serial+": "
		if a.Bus == lab.NVMe && b.Bus == lab.NVMe { // the kernel takes one of them
			l.refused = "may be another one: the kernel rejected a second NVMe disk that says it is the same "
		}
	case 5:
		same := transports[b.Bus] == transports[a.Bus] || transports[c.Bus] == transports[a.Bus]
		l.rule = fmt.Sprintf("disks(count=1, transport='%s')", transports[a.Bus])
		if same {
			l.refused = "1 disks are wanted, and "
		}
	}
}

// vandal writes to every disk that the kernel lets it write to, by names that it
// makes up.
const vandal = `
run('''for l in a b c d e f; do for k in s v; do d=/dev/${k}d$l; [ ! -b $d ] || dd if=/dev/zero of=$d bs=1M count=4; done; done
for n in 0 1 2 3 4; do d=/dev/nvme${n}n1; [ ! -b $d ] || dd if=/dev/zero of=$d bs=1M count=4; done; true''')
`

// script chooses a disk, lets the vandal loose, and ends behind mkfs.
func (l *layout) script() string {
	return "disk = " + l.rule + "[0]\n" + vandal + "run('mkfs.ext4 -q -F %s' % disk)\nrun('echo that is all; false')\nset_role(disk, disk, disk)\n"
}

// make writes the disks: the data, the stick and the CD have something on them.
func (l *layout) make(t *testing.T, machines *lab.Lab) {
	for i, p := range l.parts {
		p.Path = machines.Path(fmt.Sprintf("%s-%d.img", l.name, i))
		if err := lab.BlankDisk(p.Path, p.size); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.Remove(p.Path) })
	}
	for i, table := range map[int]string{foreign: "label: gpt\n,100M\n,\n", stick: "label: dos\n,\n"} {
		sfdisk := exec.Command("sfdisk", "-q", l.parts[i].Path)
		sfdisk.Stdin = strings.NewReader(table)
		if out, err := sfdisk.CombinedOutput(); err != nil {
			t.Fatalf("sfdisk: %v: %s", err, out)
		}
	}
	data := t.TempDir()
	if err := os.WriteFile(data+"/accounts", make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := lab.Populate(context.Background(), l.parts[foreign].Path, 1, "accounts", data); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mke2fs", "-q", "-F", "-L", "cd", l.parts[disc].Path).CombinedOutput(); err != nil {
		t.Fatalf("mke2fs: %v: %s", err, out)
	}
	for _, p := range l.parts {
		p.hash = hash(t, p.Path)
	}
}

// hash is that of a disk's content; its holes are read, too.
func hash(t *testing.T, path string) string {
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

// machine starts the agent as a loader would, without one.
func (l *layout) machine(t *testing.T, s *upload) lab.Machine {
	m := lab.Machine{Name: l.name, NICs: []lab.NIC{{User: &lab.UserNet{}}}, Kernel: s.agent(t)}
	for _, p := range l.parts[:stick] {
		m.Disks = append(m.Disks, p.Disk)
	}
	m.Extra = []string{"-device", "qemu-xhci",
		"-drive", "if=none,id=stick,format=raw,file=" + l.parts[stick].Path, "-device", "usb-storage,drive=stick,removable=on,serial=" + l.parts[stick].Serial,
		"-drive", "if=none,id=disc,format=raw,media=cdrom,readonly=on,file=" + l.parts[disc].Path, "-device", "ide-cd,bus=ide.5,drive=disc"}
	return m
}

// built is a file that make initrd has built; EDEPLOY_OUT is another place for it.
func built(t *testing.T, name string) string {
	file := filepath.Join(cmp.Or(os.Getenv("EDEPLOY_OUT"), "../../out"), name)
	_, err := os.Stat(file)
	needs.That(t, err == nil, "%s: run make initrd", file)
	return file
}

// upload is a server in this process; machines reach it through QEMU's user-mode network.
type upload struct {
	dir, port string
	client    *api.Client
}

func startUpload(t *testing.T) *upload {
	s := &upload{dir: t.TempDir()}
	is, err := server.New(server.Config{Deployments: map[string]server.Deployment{"SERVER": {ConfigDir: s.dir}}, StateDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(is.Handler())
	t.Cleanup(func() { web.Close(); is.Close() })
	s.client = &api.Client{Address: web.URL}
	_, s.port, _ = strings.Cut(strings.TrimPrefix(web.URL, "http://"), ":")
	return s
}

// agent is the kernel of a machine that finds this server by QEMU's user-mode
// network.
func (s *upload) agent(t *testing.T) lab.Kernel {
	return agentKernel(t, "SERV=10.0.2.2 HTTP_PORT="+s.port)
}

// agentKernel starts the agent as a loader would.
func agentKernel(t *testing.T, parameters string) lab.Kernel {
	return lab.Kernel{Image: built(t, "vmlinuz"), Initrd: built(t, "initrd.pxe"), Args: "console=ttyS0 panic=-1 " + parameters}
}

// configure makes one profile for every machine.
func (s *upload) configure(t *testing.T, script string) {
	for name, text := range map[string]string{"state": "[('vm', '*')]\n", "vm.specs": "[('network', '$eth', 'serial', '$mac')]\n", "vm.configure": script} {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// failed waits until the machine has failed.
func (s *upload) failed(t *testing.T, vm *lab.VM) *api.Machine {
	ctx, cancel := lab.Deadline(t.Context(), 4*time.Minute)
	defer cancel()
	for {
		all, err := s.client.Machines(ctx)
		for _, m := range all {
			if slices.Contains(m.MACs, vm.MAC(0)) && m.State == "failed" {
				m, err = s.client.Machine(ctx, m.ID)
				if err == nil {
					return &m
				}
			}
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			t.Fatalf("the machine has not failed: %v; its console:\n%s", err, strings.Join(vm.LastLines(30), "\n"))
		}
	}
}

// TestDisks: in random layouts no disk changes that the script does not name,
// though it tries, and rules that could mean two disks are refused before anything
// is written.
func TestDisks(t *testing.T) {
	labtest.NeedVM(t)
	needs.Programs(t, "sfdisk", "mke2fs")
	seed, number := needs.Seed(t), 1
	if os.Getenv("EDEPLOY_LONG") == "1" {
		number = layouts
	}
	s := startUpload(t)
	for i := range number {
		l := newLayout(fmt.Sprint("layout", i), rand.New(rand.NewPCG(seed, uint64(i))))
		t.Run(l.name, func(t *testing.T) { l.try(t, s) })
	}
}

func (l *layout) try(t *testing.T, s *upload) {
	t.Logf("%s: %s", l.rule, cmp.Or(l.refused, "granted"))
	machines := labtest.New(t)
	l.make(t, machines)
	s.configure(t, l.script())
	vm := labtest.Start(t, machines, l.machine(t, s))
	m := s.failed(t, vm)
	if err := vm.Kill(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(m.LastError, cmp.Or(l.refused, "that is all")) || l.refused != "" && !strings.Contains(m.LastError, l.parts[meant].Serial) {
		t.Errorf("the server says %q, want %q and the disk %s", m.LastError, cmp.Or(l.refused, "that is all"), l.parts[meant].Serial)
	}
	if l.refused == "" {
		l.planned(t, m)
	}
	for i, p := range l.parts {
		if changed, want := hash(t, p.Path) != p.hash, i == meant && l.refused == ""; changed != want {
			t.Errorf("disk %d (%s, serial %s): changed %v, want %v", i, p.Bus, p.Serial, changed, want)
		}
	}
}

// planned checks the history: which disk the script may write to.
func (l *layout) planned(t *testing.T, m *api.Machine) {
	var plan []string
	for _, line := range m.History {
		if line.Status == string(wire.StatusNote) && strings.HasPrefix(line.Message, "disk ") {
			plan = append(plan, line.Message)
		}
	}
	text := strings.Join(plan, "\n")
	for i, what := range map[int]string{meant: "empty; the script may write to it", spare: "empty; read-only: no line of the script names it",
		foreign: `ext4 "accounts".*; read-only: no line of the script names it`, stick: "usb, removable.* dos; read-only: no line of the script names it"} {
		if !regexp.MustCompile(`(?m)^disk .*serial ` + l.parts[i].Serial + `,.*` + what + `$`).MatchString(text) {
			t.Errorf("the plan in the history says nothing like %q of the disk %s:\n%s", what, l.parts[i].Serial, text)
		}
	}
}

// TestFailingDisk: a disk that fails while it is formatted ends the installation
// with the disk and what the kernel says of it.
func TestFailingDisk(t *testing.T) {
	labtest.NeedVM(t)
	s, machines := startUpload(t), labtest.New(t)
	path, faults := machines.Path("failing.img"), machines.Path("failing.conf")
	if err := lab.BlankDisk(path, 300e6); err != nil {
		t.Fatal(err)
	}
	// Where the file system keeps its second superblock: block 32768 of 4096 bytes.
	if err := os.WriteFile(faults, []byte("[inject-error]\nevent = \"write_aio\"\nerrno = \"5\"\nsector = \"262144\"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	s.configure(t, "disk = disks(serial='FAILING')[0]\nrun('mkfs.ext4 -q -F -b 4096 %s' % disk)\nset_role(disk, disk, disk)\n")
	vm := labtest.Start(t, machines, lab.Machine{Name: "failing", NICs: []lab.NIC{{User: &lab.UserNet{}}}, Kernel: s.agent(t), Extra: []string{
		"-drive", "if=none,id=failing,format=raw,werror=report,file=blkdebug:" + faults + ":" + path, "-device", "virtio-blk-pci,drive=failing,serial=FAILING"}})
	if m := s.failed(t, vm); !regexp.MustCompile(`vm\.configure:2: .*the disk /dev/vda .*fails: I/O error, dev vda, sector `).MatchString(m.LastError) {
		t.Errorf("the server says %q", m.LastError)
	}
}
