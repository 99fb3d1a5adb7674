package lab_test

import (
	"strings"
	"testing"

	"edeploy/integration/lab"
)

func TestMachineArgs(t *testing.T) {
	hub := newHub(t)
	wire := lab.NIC{Hub: hub}
	tests := []struct {
		name    string
		machine lab.Machine
		want    []string // parts of the command line
		without []string
	}{
		{"defaults", lab.Machine{Name: "m1"},
			[]string{"-accel tcg,thread=multi", "-m 1024 -smp 1", "-boot strict=on", "path=/s/console"},
			[]string{"pflash", "-no-reboot", "-kernel", "netdev", "-drive", "-smbios type=1,uuid=,"}},
		{"network first", lab.Machine{Name: "m1", NICs: []lab.NIC{wire, wire}, Disks: []lab.Disk{{Path: "a"}, {Path: "b"}}},
			[]string{"netdev=net0,mac=52:54:00:", "bootindex=1 ", "netdev=net1", "bootindex=2 ",
				"virtio-blk-pci,drive=disk0,bootindex=100", "virtio-blk-pci,drive=disk1,bootindex=101", "format=raw,cache=unsafe"}, nil},
		{"disk first", lab.Machine{Name: "m1", Boot: lab.DiskFirst, NICs: []lab.NIC{wire}, Disks: []lab.Disk{{Path: "a"}}},
			[]string{"drive=disk0,bootindex=1 ", "mac=52:54:00:", "bootindex=100"}, nil},
		{"buses", lab.Machine{Name: "m1", Disks: []lab.Disk{{Path: "a", Bus: lab.IDE, Serial: "W1"}, {Path: "b.qcow2", Bus: lab.SCSI}, {Path: "c,d", Bus: lab.NVMe, Cache: "writeback"}}},
			[]string{"ide-hd,bus=ide.0,serial=W1,drive=disk0", "virtio-scsi-pci,id=scsi", "scsi-hd,bus=scsi.0,drive=disk1",
				"format=qcow2", "nvme,serial=nvme2,drive=disk2", "file=c,,d", "cache=writeback"}, nil},
		{"controllers", lab.Machine{Name: "m1", NICs: []lab.NIC{{Hub: hub, Model: "vmxnet3"}}, Disks: []lab.Disk{{Path: "a", Bus: lab.MegaSAS}, {Path: "b", Bus: lab.MegaSAS, Serial: "W2"}, {Path: "c", Bus: lab.LSI}, {Path: "d", Bus: lab.MPTSAS}}},
			[]string{"-device lsi53c895a,id=lsi -device megasas-gen2,id=megasas -device mptsas1068,id=mptsas ", "scsi-hd,bus=megasas.0,drive=disk0", "scsi-hd,bus=megasas.0,serial=W2,drive=disk1", "scsi-hd,bus=lsi.0,drive=disk2", "scsi-hd,bus=mptsas.0,wwn=0x5000c50000000004,drive=disk3", "-device vmxnet3,netdev=net0"}, nil},
		{"user network", lab.Machine{Name: "m1", NICs: []lab.NIC{{User: &lab.UserNet{Forward: []int{22}}, MAC: "52-54-00-AA-00-01", Model: "e1000"}}},
			[]string{"-netdev user,id=net0,hostfwd=tcp:127.0.0.1:2222-:22", "e1000,netdev=net0,mac=52:54:00:aa:00:01,romfile="},
			[]string{"bootindex"}},
		{"UEFI, its own PXE", lab.Machine{Name: "m1", Firmware: lab.UEFI, NICs: []lab.NIC{{Hub: hub, NoROM: true}}},
			[]string{"pflash,format=raw,readonly=on,file=/s/code", "pflash,format=raw,file=/s/vars", "romfile=,bootindex=1"}, nil},
		{"identity", lab.Machine{Name: "m1", SMBIOS: lab.SMBIOS{UUID: "00000000-0000-0000-0000-000000000000", Serial: "a,b", Product: "R640"}},
			[]string{"type=1,uuid=00000000-0000-0000-0000-000000000000,product=R640,serial=a,,b"}, nil},
		{"kernel", lab.Machine{Name: "m1", Kernel: lab.Kernel{Image: "k", Args: "console=ttyS0 x"}, Extra: []string{"-s"}},
			[]string{"-kernel k -append console=ttyS0 x norandmaps -s "}, []string{"-initrd"}},
		{"kernel and initrd", lab.Machine{Name: "m1", Kernel: lab.Kernel{Image: "k", Initrd: "i"}},
			[]string{"-kernel k -append norandmaps -initrd i "}, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			args, err := lab.Args(test.machine)
			if err != nil {
				t.Fatal(err)
			}
			line := strings.Join(args, " ") + " "
			for _, want := range test.want {
				if !strings.Contains(line, want) {
					t.Errorf("want %q in %s", want, line)
				}
			}
			for _, unwanted := range test.without {
				if strings.Contains(line, unwanted) {
					t.Errorf("want no %q in %s", unwanted, line)
				}
			}
		})
	}
}

func TestMachineIsTheSameEveryTime(t *testing.T) {
	hub := newHub(t)
	line := func(name string) string {
		args, err := lab.Args(lab.Machine{Name: name, NICs: []lab.NIC{{Hub: hub}, {Hub: hub}}})
		if err != nil {
			t.Fatal(err)
		}
		return strings.ReplaceAll(strings.Join(args, " "), name, "NAME")
	}
	first, again := line("m1"), line("m1")
	if first != again {
		t.Error("a machine has other addresses when it is started again")
	}
	if first == line("m2") {
		t.Error("two machines have the same addresses")
	}
}

func TestBadMachines(t *testing.T) {
	hub := newHub(t)
	tests := []struct {
		machine lab.Machine
		want    string
	}{
		{lab.Machine{}, "name"},
		{lab.Machine{Name: "../m1"}, "name"},
		{lab.Machine{Name: "m1", Firmware: "efi"}, "firmware"},
		{lab.Machine{Name: "m1", Boot: "tape"}, "boot order"},
		{lab.Machine{Name: "m1", Disks: []lab.Disk{{}}}, "disk 0 has no path"},
		{lab.Machine{Name: "m1", Disks: []lab.Disk{{Path: "a", Bus: "usb"}}}, "disk bus"},
		{lab.Machine{Name: "m1", NICs: []lab.NIC{{}}}, "network card 0"},
		{lab.Machine{Name: "m1", NICs: []lab.NIC{{Hub: hub, User: &lab.UserNet{}}}}, "network card 0"},
		{lab.Machine{Name: "m1", NICs: []lab.NIC{{Hub: hub, MAC: "aa"}}}, "Ethernet address"},
		{lab.Machine{Name: "m1", NICs: []lab.NIC{{Hub: hub, Model: "ne2k"}}}, "network card"},
	}
	for _, test := range tests {
		if _, err := lab.Args(test.machine); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("machine %+v: %v, want an error about %q", test.machine, err, test.want)
		}
	}
}
