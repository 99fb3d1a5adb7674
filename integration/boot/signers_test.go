package boot

import (
	"bytes"
	"crypto/x509"
	"debug/pe"
	"encoding/binary"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"
	"unicode/utf16"

	"edeploy/integration/lab"
	"edeploy/integration/lab/labtest"
	"edeploy/integration/needs"
	"edeploy/pxe"
)

// TestSecureBoot2023: Microsoft signs shim by a certificate of 2011, which has
// expired, and by one of 2023. A machine that trusts the second one alone comes into
// the agent, and describes itself so; it refuses a shim with the first signature only.
func TestSecureBoot2023(t *testing.T) {
	labtest.NeedVM(t)
	long(t)
	if !needs.Namespace(t, append(own.programs, "openssl")...) {
		return
	}
	const shim = "../../out/boot/shimx64.efi"
	ca := issuer(t, shim, "Microsoft UEFI CA 2023")
	power := func(t *testing.T) *lab.VM {
		l, m := labtest.New(t), machine(lab.SecureBoot)
		trust(t, l.Path(m.Name+".secure.vars.fd"), ca)
		return labtest.Start(t, l, m)
	}
	t.Run("signed by both", func(t *testing.T) {
		conf := own.lay(t)
		conf.Loader = pxe.LoaderGRUB
		s := serve(t, conf)
		labtest.Expect(t, power(t), time.Minute, secure)
		s.reaches(t, time.Minute)
		s.await(t, `"microsoft-uefi-ca","2023"]`, time.Minute)
		if !s.at(`"microsoft-uefi-ca","2011"]`).IsZero() {
			t.Error("the machine says that it trusts the certificate of 2011, too")
		}
	})
	t.Run("signed by the first", func(t *testing.T) {
		conf := own.lay(t)
		conf.Loader, conf.BootDir = pxe.LoaderGRUB, t.TempDir()
		if err := os.CopyFS(conf.BootDir, os.DirFS(filepath.Dir(shim))); err != nil {
			t.Fatal(err)
		}
		firstOnly(t, filepath.Join(conf.BootDir, filepath.Base(shim)))
		serve(t, conf)
		labtest.Expect(t, power(t), time.Minute, "Access Denied")
	})
}

// TestInstalledSigners2023: the shim that a role tree brings onto a disk is signed by
// both certificates, too: such a machine starts its disk.
func TestInstalledSigners2023(t *testing.T) {
	labtest.NeedVM(t)
	long(t)
	needs.Programs(t, "openssl", "tar", "zstd")
	start := func(t *testing.T, change func(shim string), want string) {
		disk := t.TempDir()
		boot := filepath.Join(disk, "EFI", "BOOT")
		if err := os.MkdirAll(boot, 0o755); err != nil {
			t.Fatal(err)
		}
		shim := filepath.Join(boot, "BOOTX64.EFI")
		fromTree(t, "usr/lib/shim/shimx64.efi.signed", shim)
		fromTree(t, "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed", filepath.Join(boot, "grubx64.efi"))
		ca := issuer(t, shim, "Microsoft UEFI CA 2023")
		change(shim)
		l := labtest.New(t)
		m := lab.Machine{Name: "m1", Firmware: lab.SecureBoot, Extra: []string{
			"-drive", "if=none,id=esp,format=raw,readonly=on,file=fat:" + disk, "-device", "virtio-blk-pci,drive=esp,bootindex=0"}}
		trust(t, l.Path(m.Name+".secure.vars.fd"), ca)
		labtest.Expect(t, labtest.Start(t, l, m), time.Minute, want)
	}
	t.Run("both", func(t *testing.T) { start(t, func(string) {}, "grub>") })
	t.Run("the first alone", func(t *testing.T) { start(t, func(shim string) { firstOnly(t, shim) }, "Access Denied") })
}

// fromTree takes a file out of the tree of base.
func fromTree(t *testing.T, name, to string) {
	t.Helper()
	text, err := exec.Command("tar", "-xO", "--zstd", "-f", "../../out/install/D12-F.1.0.0/base-D12-F.1.0.0.edeploy", "./"+name).Output()
	if err != nil {
		t.Fatalf("take %s out of the tree: %v", name, err)
	}
	if err := os.WriteFile(to, text, 0o644); err != nil {
		t.Fatal(err)
	}
}

// signatures are those of an EFI program (PE format, "The Attribute Certificate
// Table"): where they begin in the file, and each without its header.
func signatures(t *testing.T, program []byte) (at int64, found [][]byte) {
	t.Helper()
	f, err := pe.NewFile(bytes.NewReader(program))
	if err != nil {
		t.Fatal(err)
	}
	dir := f.OptionalHeader.(*pe.OptionalHeader64).DataDirectory[pe.IMAGE_DIRECTORY_ENTRY_SECURITY]
	for rest := program[dir.VirtualAddress:][:dir.Size]; len(rest) > signatureHead; {
		size := binary.LittleEndian.Uint32(rest)
		found = append(found, rest[signatureHead:size])
		rest = rest[(size+7)&^7:]
	}
	return int64(dir.VirtualAddress), found
}

const signatureHead = 8 // size, revision, kind

// issuer is a certificate that comes with one of a program's signatures.
func issuer(t *testing.T, program, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	_, all := signatures(t, text)
	for _, signature := range all {
		cmd := exec.Command("openssl", "pkcs7", "-inform", "DER", "-print_certs")
		cmd.Stdin = bytes.NewReader(signature)
		printed, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		for block, rest := pem.Decode(printed); block != nil; block, rest = pem.Decode(rest) {
			if c, err := x509.ParseCertificate(block.Bytes); err == nil && c.Subject.CommonName == name {
				return block.Bytes
			}
		}
	}
	t.Fatalf("none of the %d signatures of %s is by %s", len(all), program, name)
	return nil
}

// firstOnly takes all signatures of a program away but the first.
func firstOnly(t *testing.T, program string) {
	t.Helper()
	text, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	at, all := signatures(t, text)
	size := uint32(signatureHead+len(all[0])+7) &^ 7
	directory := binary.LittleEndian.AppendUint32(nil, uint32(at))
	directory = binary.LittleEndian.AppendUint32(directory, uint32(int64(len(text))-at))
	where := bytes.Index(text, directory)
	if len(all) < 2 || where < 0 {
		t.Fatalf("%s has %d signatures, its directory of them is at %d", program, len(all), where)
	}
	binary.LittleEndian.PutUint32(text[where+4:], size)
	if err := os.WriteFile(program, text[:at+int64(size)], 0o644); err != nil {
		t.Fatal(err)
	}
}

// The parts of OVMF's variables (EDK2, VariableFormat.h): the head of the store, then
// variables with a head of their own, a name and a value.
const (
	storeHead, variableHead = 28, 60
	variableID              = 0x55aa
	added, deleted          = 0x3f, 0xfd // states of a variable; the second one is a mask
)

// trust writes the variables of OVMF with Microsoft's keys, with one certificate that
// may sign loaders (db) instead of those that come with it.
func trust(t *testing.T, file string, certificate []byte) {
	t.Helper()
	all, err := os.ReadFile("/usr/share/OVMF/OVMF_VARS_4M.ms.fd")
	if err != nil {
		t.Fatal(err)
	}
	var db []byte
	at := int(binary.LittleEndian.Uint16(all[48:])) + storeHead // behind the head of the volume
	for binary.LittleEndian.Uint16(all[at:]) == variableID {
		head := all[at:][:variableHead]
		name, value := int(binary.LittleEndian.Uint32(head[36:])), int(binary.LittleEndian.Uint32(head[40:]))
		if head[2] == added && bytes.Equal(all[at+variableHead:][:name], utf16le("db\x00")) {
			db = slices.Concat(head, all[at+variableHead:][:name])
			head[2] &= deleted
		}
		at += (variableHead + name + value + 3) &^ 3
	}
	if db == nil {
		t.Fatal("OVMF's variables hold no db")
	}
	value := signatureList(certificate)
	binary.LittleEndian.PutUint32(db[40:], uint32(len(value)))
	copy(all[at:], slices.Concat(db, value))
	if err := os.WriteFile(file, all, 0o644); err != nil {
		t.Fatal(err)
	}
}

// signatureList is a list of one certificate (UEFI specification 32.4.1).
func signatureList(certificate []byte) []byte {
	const head, owner = 28, 16
	list := []byte("\xa1\x59\xc0\xa5\xe4\x94\xa7\x4a\x87\xb5\xab\x15\x5c\x2b\xf0\x72") // EFI_CERT_X509_GUID
	list = binary.LittleEndian.AppendUint32(list, uint32(head+owner+len(certificate)))
	list = binary.LittleEndian.AppendUint32(list, 0)
	list = binary.LittleEndian.AppendUint32(list, uint32(owner+len(certificate)))
	return slices.Concat(list, make([]byte, owner), certificate)
}

func utf16le(text string) []byte {
	var all []byte
	for _, c := range utf16.Encode([]rune(text)) {
		all = binary.LittleEndian.AppendUint16(all, c)
	}
	return all
}
