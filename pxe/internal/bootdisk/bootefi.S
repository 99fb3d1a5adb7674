# bootefi.S starts the one disk of a UEFI machine that holds given bytes: the
# program EFI/BOOT/BOOTX64.EFI of its EFI system partition.
#
# It is a UEFI application (PE32+, UEFI specification 2.1), whose header is here
# because it holds the fields at "sector", as those of bootdisk.S. What is at
# offset n of the file is at offset n in memory.
#
#	as --64 -o bootefi.o bootefi.S && objcopy -O binary -j .text bootefi.o bootefi.bin

	.intel_syntax noprefix
	.code64
	.text
base:	.ascii "MZ"
	.org 0x10
sector:	.byte 1			# where the bytes are: block of the disk, from 1
length:	.byte 0			# how many there are
at:	.word 0			# where in the block
want:	.fill 16, 1, 0
	.org 0x3c
	.long pe - base

PAGE = 0x1000			# alignment of sections, in file and memory
CODE = PAGE
DATA = 2 * PAGE			# not in the file: zero
path = base + DATA
block = base + DATA + PAGE

pe:	.ascii "PE\0\0"
	.word 0x8664		# x86-64
	.word 2			# sections
	.long 0, 0, 0
	.word sections - optional
	.word 0x0206		# executable, no line numbers, no debugging
optional:
	.word 0x20b		# PE32+
	.byte 0, 0
	.long PAGE, 0, 2 * PAGE	# sizes of code, data, and of data that is zero
	.long entry - base
	.long CODE
	.quad 0			# goes anywhere: nothing here has an absolute address
	.long PAGE, PAGE
	.word 0, 0, 0, 0, 0, 0
	.long 0
	.long 4 * PAGE		# size in memory
	.long PAGE		# of this header
	.long 0
	.word 10		# EFI application
	.word 0x100		# data are no code
	.quad 0, 0, 0, 0
	.long 0
	.long 6			# directories, all empty
	.fill 6, 8, 0
sections:
	.ascii ".text\0\0\0"
	.long PAGE, CODE, PAGE, CODE, 0, 0, 0, 0x60000020
	.ascii ".data\0\0\0"
	.long 2 * PAGE, DATA, 0, 0, 0, 0, 0, 0xc0000080

# Offsets in the tables of the specification: 4.3, 4.4, 12.4, 13.9.
BOOT_SERVICES = 0x60
CONSOLE_OUT = 0x40
OUTPUT_STRING = 0x08
HANDLE_PROTOCOL = 0x98
LOAD_IMAGE = 0xc8
START_IMAGE = 0xd0
CONNECT_CONTROLLER = 0x108
LOCATE_HANDLE_BUFFER = 0x138
MEDIA = 0x08
READ_BLOCKS = 0x18
MEDIA_PRESENT = 5
LOGICAL_PARTITION = 6
BLOCK_SIZE = 12

BY_PROTOCOL = 2
NOT_FOUND = 0x800000000000000e

# The stack frame: room for six arguments, then these.
FIFTH = 0x20
SIXTH = 0x28
COUNT = 0x30
HANDLES = 0x38
FOUND = 0x40			# an interface
IMAGE = 0x48
DISKPATH = 0x50
FRAME = 0x68			# with the return address and eight registers a multiple of 16

	.org CODE
# Kept: r12 this image, r13 boot services, r14 console, r15 passes left; rbx the
# next of the rdi handles left; rbp the disk, rsi how long its path is.
entry:	push rbx
	push rbp
	push rsi
	push rdi
	push r12
	push r13
	push r14
	push r15
	sub rsp, FRAME
	mov r12, rcx
	mov r13, [rdx + BOOT_SERVICES]
	mov r14, [rdx + CONSOLE_OUT]
	mov r15d, 2

pass:	mov ecx, BY_PROTOCOL
	lea rdx, [rip + block_io]
	call handles
	jnz again
disk:	call next
	jz again
	mov rbp, rcx
	lea rdx, [rip + block_io]
	call protocol
	jnz disk
	mov rax, [rcx + MEDIA]
	cmp byte ptr [rax + MEDIA_PRESENT], 0
	je disk
	cmp byte ptr [rax + LOGICAL_PARTITION], 0
	jne disk
	mov r9d, [rax + BLOCK_SIZE]
	cmp r9d, PAGE
	ja disk
	mov edx, [rax]		# the medium's number
	movzx r8d, byte ptr [rip + sector]
	dec r8
	lea rax, [rip + block]
	mov [rsp + FIFTH], rax
	call [rcx + READ_BLOCKS]
	test rax, rax
	jnz disk
	movzx eax, word ptr [rip + at]
	lea rcx, [rip + block]
	add rcx, rax
	lea rdx, [rip + want]
	movzx eax, byte ptr [rip + length]
	call same
	jne disk

	mov rcx, rbp
	call path_of
	jnz again
	mov [rsp + DISKPATH], rcx
	mov rsi, rax
	mov ecx, BY_PROTOCOL
	lea rdx, [rip + file_system]
	call handles
	jnz again
volume:	call next
	jz again
	call path_of
	jnz volume
	cmp rax, rsi		# the disk's path and the partition
	jbe volume
	cmp rax, PAGE / 2
	ja volume
	mov r10, rcx
	mov r11, rax
	mov rdx, [rsp + DISKPATH]
	mov rax, rsi
	call same
	jne volume
	lea rdx, [rip + path]
	mov rcx, r10
	mov rax, r11
	call copy
	lea rcx, [rip + file]
	mov eax, file_end - file
	call copy
	xor ecx, ecx
	mov rdx, r12
	lea r8, [rip + path]
	xor r9d, r9d
	mov [rsp + FIFTH], rcx
	lea rax, [rsp + IMAGE]
	mov [rsp + SIXTH], rax
	call [r13 + LOAD_IMAGE]
	test rax, rax
	jnz volume
	lea rdx, [rip + starts]
	call say
	mov rcx, [rsp + IMAGE]
	xor edx, edx
	xor r8d, r8d
	call [r13 + START_IMAGE]
	jmp volume		# it came back

# Firmware in a hurry leaves the disks alone that it does not start from.
again:	dec r15d
	jz missing
	xor ecx, ecx		# all handles
	xor edx, edx
	call handles
	jnz pass
connect:
	call next
	jz pass
	xor edx, edx
	xor r8d, r8d
	mov r9d, 1		# and what is behind
	call [r13 + CONNECT_CONTROLLER]
	jmp connect

missing:
	lea rdx, [rip + gone]
	call say
	movabs rax, NOT_FOUND
	add rsp, FRAME
	pop r15
	pop r14
	pop r13
	pop r12
	pop rdi
	pop rsi
	pop rbp
	pop rbx
	ret

# What is called below has a frame of its own: in it the caller's is 8 bytes
# further away, or 8 + OWN.
OWN = 0x38			# with the return address a multiple of 16

# handles(ecx how to look, rdx protocol): rbx and rdi go through them; Z is
# set when it went well.
handles:
	sub rsp, OWN
	xor r8d, r8d
	lea r9, [rsp + OWN + 8 + COUNT]
	lea rax, [rsp + OWN + 8 + HANDLES]
	mov [rsp + FIFTH], rax
	call [r13 + LOCATE_HANDLE_BUFFER]
	add rsp, OWN
	mov rdi, [rsp + 8 + COUNT]
	mov rbx, [rsp + 8 + HANDLES]
	test rax, rax
	ret

# next: rcx is the next handle; Z is set when there is none.
next:	test rdi, rdi
	jz 1f
	mov rcx, [rbx]
	add rbx, 8
	dec rdi
	test rcx, rcx		# never zero
1:	ret

# protocol(rcx handle, rdx protocol): rcx is its interface; Z when it went well.
protocol:
	sub rsp, OWN
	lea r8, [rsp + OWN + 8 + FOUND]
	call [r13 + HANDLE_PROTOCOL]
	add rsp, OWN
	mov rcx, [rsp + 8 + FOUND]
	test rax, rax
	ret

# path_of(rcx handle): rcx is its device path, rax how long that is without its
# end; Z when it went well.
path_of:
	lea rdx, [rip + device_path]
	sub rsp, OWN
	lea r8, [rsp + OWN + 8 + FOUND]
	call [r13 + HANDLE_PROTOCOL]
	add rsp, OWN
	mov rcx, [rsp + 8 + FOUND]
	test rax, rax
	jnz 3f
	mov rax, rcx
1:	cmp byte ptr [rax], 0x7f
	je 2f
	movzx edx, word ptr [rax + 2]
	cmp edx, 4
	jb 2f
	add rax, rdx
	jmp 1b
2:	sub rax, rcx
	cmp eax, eax
3:	ret

# same(rcx, rdx, rax bytes): Z when they are; rax is at least 1.
same:	mov r8b, [rcx]
	cmp r8b, [rdx]
	jne 1f
	inc rcx
	inc rdx
	dec rax
	jnz same
1:	ret

# copy(rcx from, rdx to, rax bytes): rdx is behind the copy.
copy:	mov r8b, [rcx]
	mov [rdx], r8b
	inc rcx
	inc rdx
	dec rax
	jnz copy
	ret

# say(rdx text)
say:	sub rsp, OWN
	mov rcx, r14
	test rcx, rcx
	jz 1f
	call [rcx + OUTPUT_STRING]
1:	add rsp, OWN
	ret

	.balign 8
block_io:
	.long 0x964e5b21
	.word 0x6459, 0x11d2
	.byte 0x8e, 0x39, 0x00, 0xa0, 0xc9, 0x69, 0x72, 0x3b
file_system:
	.long 0x964e5b22
	.word 0x6459, 0x11d2
	.byte 0x8e, 0x39, 0x00, 0xa0, 0xc9, 0x69, 0x72, 0x3b
device_path:
	.long 0x09576e91
	.word 0x6d3f, 0x11d2
	.byte 0x8e, 0x39, 0x00, 0xa0, 0xc9, 0x69, 0x72, 0x3b

file:	.byte 4, 4		# a file, and the end of the path
	.word file_end - file - 4
	.string16 "\\EFI\\BOOT\\BOOTX64.EFI"
	.byte 0x7f, 0xff
	.word 4
file_end:
starts:	.string16 "eDeploy: the installed disk starts\r\n"
gone:	.string16 "eDeploy: the installed disk is not there, or does not start\r\n"
	.org DATA
