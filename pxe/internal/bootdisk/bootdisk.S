# bootdisk.S starts the one disk of a BIOS machine that holds given bytes.
#
# It has the form of a Linux kernel (Documentation/arch/x86/boot.rst, protocol
# 2.02), which iPXE starts in real mode after it has closed the network card.
# The bytes are put into the fields at "sector" by whoever hands it out.
#
#	as --32 -o bootdisk.o bootdisk.S && objcopy -O binary -j .text bootdisk.o bootdisk.bin

	.code16
	.text
start:
	.org 0x10
sector:	.byte 1			# where the bytes are: sector of the disk, from 1
length:	.byte 0			# how many there are
offset:	.word 0			# where in the sector
want:	.fill 16, 1, 0

	.org 0x1f1		# the kernel's header
	.byte 1			# setup_sects: one sector after this one
	.word 0
	.long 32		# syssize: a "kernel" of 512 bytes, in units of 16
	.word 0, 0, 0
	.word 0xaa55
entry:	jmp go			# CS is DS + 0x20: only relative jumps
	.ascii "HdrS"
	.word 0x0202
	.long 0
	.word 0, 0
	.byte 0
	.byte 1			# loadflags: the "kernel" goes to 1 MB, this to DS
	.word 0
	.long 0x100000
	.long 0, 0, 0
	.word 0, 0
	.long 0

BUFFER = 0x7c00
DISKS = 0x475			# the BIOS's number of hard disks

go:	cld
	mov %cs, %ax
	sub $0x20, %ax
	mov %ax, %ds
	xor %ax, %ax
	mov %ax, %es
	mov $0x80, %dl
find:	call present
	jae any
	mov sector, %cl
	call read
	jc 1f
	mov $want, %si
	mov offset, %di
	add $BUFFER, %di
	mov length, %cl
	xor %ch, %ch
	repe cmpsb
	jne 1f
	call bootable
	je boot
1:	inc %dl
	jmp find

any:	mov $others, %si
	call print
	mov $0x80, %dl
2:	call present
	jae none
	call bootable
	je boot
	inc %dl
	jmp 2b

none:	mov $nothing, %si
	call print
	int $0x18		# the BIOS's next boot device
3:	hlt
	jmp 3b

boot:	mov $found, %si
	call print
	xor %ax, %ax
	mov %ax, %ds
	cli
	mov %ax, %ss
	mov $BUFFER, %sp
	sti
	xor %dh, %dh
	ljmp $0, $BUFFER

present:			# below: there is a drive DL
	mov %es:DISKS, %al
	add $0x80, %al
	cmp %al, %dl
	ret

bootable:			# equal: drive DL has a boot sector, and it is in the buffer
	mov $1, %cl
	call read
	jc 4f
	cmpw $0xaa55, %es:BUFFER+510
	ret
4:	or $1, %al		# not equal
	ret

read:	mov $3, %bp		# sector CL of drive DL to the buffer; carry: cannot be read
5:	push %dx
	push %cx
	mov $0x0201, %ax
	xor %ch, %ch
	xor %dh, %dh
	mov $BUFFER, %bx
	int $0x13
	pop %cx
	pop %dx
	jnc 6f
	push %dx
	push %cx
	xor %ax, %ax
	int $0x13
	pop %cx
	pop %dx
	dec %bp
	jnz 5b
	stc
6:	ret

print:	lodsb
	or %al, %al
	jz 7f
	push %dx
	push %si
	mov $0x0e, %ah
	mov $7, %bx
	int $0x10
	pop %si
	pop %dx
	jmp print
7:	ret

found:	.asciz "eDeploy: the disk starts\r\n"
others:	.asciz "eDeploy: the installed disk is not there, trying the others\r\n"
nothing: .asciz "eDeploy: no disk boots\r\n"

	.org 0x600		# with a "kernel" of one sector
