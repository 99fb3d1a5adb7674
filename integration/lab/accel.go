package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Accelerator says how QEMU runs guests.
type Accelerator string

// The accelerators.
const (
	KVM Accelerator = "kvm" // the processor runs the guest
	TCG Accelerator = "tcg" // QEMU translates it
)

// Environment variables of the harness.
const (
	accelEnv    = "EDEPLOY_ACCEL"    // kvm or tcg: no probe
	patienceEnv = "EDEPLOY_PATIENCE" // a factor for every deadline, such as 2.5
)

func (a Accelerator) args() []string {
	if a == KVM {
		return []string{"-accel", "kvm", "-cpu", "host"}
	}
	// Without CMPXCHG16B: kernels since 6.8 use it in their allocator, and die of
	// a double fault after it in the emulation of QEMU 7.2. Without AVX2: there
	// SHA-256, which proves every tree, runs a quarter faster.
	return []string{"-accel", "tcg,thread=multi", "-cpu", "max,-cx16,-avx2"}
}

// KernelArgs are parameters for Linux guests of this accelerator. The emulation
// of QEMU 7.2 translates a program's code once for every address it is loaded at:
// at the same address each time, a program starts three times as quick.
func (a Accelerator) KernelArgs() string {
	if a == TCG {
		return "norandmaps"
	}
	return ""
}

// Accel is the accelerator that works here. It is found once per process:
// EDEPLOY_ACCEL decides, else a guest is started with KVM; if that does not
// come to its end, it is TCG.
var Accel = sync.OnceValues(func() (Accelerator, error) {
	return chooseAccel(os.Getenv(accelEnv), probeKVM)
})

func chooseAccel(forced string, probe func() error) (Accelerator, error) {
	switch a := Accelerator(forced); a {
	case KVM, TCG:
		return a, nil
	case "":
	default:
		return "", fmt.Errorf("%s=%s: want kvm or tcg", accelEnv, forced)
	}
	if probe() != nil {
		return TCG, nil
	}
	return KVM, nil
}

func accelName() string {
	a, err := Accel()
	if err != nil {
		return "unknown"
	}
	return string(a)
}

// probeSector is a boot sector that does what useless kinds of KVM fail at. It
// leaves real mode, runs a VEX-coded instruction if the processor has BMI2
// (KVM that emulates the guest's kernel mode stops there with "emulation
// failure": so does Linux in its decompressor, after a firmware that seemed to
// work), counts to 200 million (which takes such KVM minutes), and leaves
// through the port of isa-debug-exit.
var probeSector = []byte{
	0xfa,       // cli
	0x31, 0xc0, // xor %ax,%ax
	0x8e, 0xd8, // mov %ax,%ds
	0x66, 0x0f, 0x01, 0x16, 0x63, 0x7c, // lgdtl 0x7c63
	0x0f, 0x20, 0xc0, // mov %cr0,%eax
	0x0c, 0x01, // or $1,%al: protected mode
	0x0f, 0x22, 0xc0, // mov %eax,%cr0
	0xea, 0x18, 0x7c, 0x08, 0x00, // ljmp $8,$0x7c18
	0x66, 0xb8, 0x10, 0x00, // 7c18: mov $16,%ax
	0x8e, 0xd8, // mov %ax,%ds
	0x8e, 0xd0, // mov %ax,%ss
	0x31, 0xc0, // xor %eax,%eax
	0x0f, 0xa2, // cpuid: highest leaf
	0x83, 0xf8, 0x07, // cmp $7,%eax
	0x72, 0x13, // jb 7c3c
	0xb8, 0x07, 0x00, 0x00, 0x00, // mov $7,%eax
	0x31, 0xc9, // xor %ecx,%ecx
	0x0f, 0xa2, // cpuid: extended features
	0xf6, 0xc7, 0x01, // test $1,%bh: BMI2
	0x74, 0x05, // jz 7c3c
	0xc4, 0xe2, 0x79, 0xf7, 0xd3, // shlx %eax,%ebx,%edx
	0xb9, 0x00, 0xc2, 0xeb, 0x0b, // 7c3c: mov $200000000,%ecx
	0x49,       // 7c41: dec %ecx
	0x75, 0xfd, // jnz 7c41
	0xb0, 0x10, // mov $0x10,%al
	0xe6, 0xf4, // out %al,$0xf4
	0xf4,       // 7c48: hlt
	0xeb, 0xfd, // jmp 7c48
	0, 0, 0, 0, 0, 0, 0, 0, // 7c4b: the descriptors: none,
	0xff, 0xff, 0, 0, 0, 0x9a, 0xcf, 0, // code,
	0xff, 0xff, 0, 0, 0, 0x92, 0xcf, 0, // data
	0x17, 0x00, 0x4b, 0x7c, 0x00, 0x00, // 7c63: their size and place
}

// probeExit is what QEMU exits with when the guest writes 0x10 to
// isa-debug-exit: twice the value plus one.
const probeExit = 0x10<<1 | 1

// probeTimeout is many times what the probe takes with KVM (well under a
// second) and less than what it takes with KVM in name only.
const probeTimeout = 10 * time.Second

func probeKVM() error {
	kvm, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("probe KVM: %w", err)
	}
	kvm.Close()
	ctx, cancel := context.WithTimeout(context.Background(), probeTimeout)
	defer cancel()
	return runProbe(ctx, KVM)
}

// runProbe runs the probe's boot sector to its end.
func runProbe(ctx context.Context, a Accelerator) error {
	qemu, err := findTool("qemu-system-x86_64")
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "probe")
	if err != nil {
		return fmt.Errorf("probe %s: %w", a, err)
	}
	defer os.RemoveAll(dir)
	disk := filepath.Join(dir, "disk")
	if err := os.WriteFile(disk, bootSector(probeSector), 0o600); err != nil {
		return fmt.Errorf("probe %s: %w", a, err)
	}
	cmd := exec.CommandContext(ctx, qemu, append(a.args(),
		"-machine", "q35", "-m", "32", "-nodefaults", "-no-user-config", "-display", "none",
		"-drive", "file="+disk+",format=raw,if=none,id=d", "-device", "ide-hd,drive=d",
		"-device", "isa-debug-exit,iobase=0xf4,iosize=4")...)
	complaints := &stopOn{text: "KVM internal error", stop: func() { cmd.Process.Kill() }}
	cmd.Stderr = complaints
	cmd.WaitDelay = time.Second
	err = cmd.Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() == probeExit {
		return nil
	}
	return fmt.Errorf("probe %s: the guest did not come to its end: %v: %s", a, err, firstLine(complaints.String()))
}

// stopOn keeps what is written and stops its writer at a text: QEMU pauses a
// guest that has an internal error, it does not exit.
type stopOn struct {
	bytes.Buffer
	text string
	stop func()
}

func (s *stopOn) Write(b []byte) (int, error) {
	n, err := s.Buffer.Write(b)
	if strings.Contains(s.String(), s.text) {
		s.stop()
	}
	return n, err
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line
}

// bootSector is the code as the first sector of a disk of 1 MiB: SeaBIOS does
// not boot a disk without a whole cylinder.
func bootSector(code []byte) []byte {
	disk := make([]byte, 1<<20)
	copy(disk[:510], code)
	disk[510], disk[511] = 0x55, 0xaa
	return disk
}

// tcgFactor is how much more patience emulation needs.
const tcgFactor = 4

// Patience is how long to wait for something that takes up to d on a machine
// with KVM: four times as long under TCG, and EDEPLOY_PATIENCE times that.
func Patience(d time.Duration) time.Duration {
	a, _ := Accel()
	return scale(d, a, os.Getenv(patienceEnv))
}

func scale(d time.Duration, a Accelerator, factor string) time.Duration {
	if a != KVM {
		d *= tcgFactor
	}
	if f, err := strconv.ParseFloat(factor, 64); err == nil && f > 0 && f <= 100 {
		d = time.Duration(float64(d) * f)
	}
	return d
}

// Deadline is a context that ends after Patience(d).
func Deadline(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	d = Patience(d)
	return context.WithTimeoutCause(ctx, d, fmt.Errorf("%v have passed: %w", d, context.DeadlineExceeded))
}
