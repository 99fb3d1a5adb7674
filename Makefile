# The front door: `make` prints what there is. Outputs go below out/ only.

SHELL         := /bin/bash
.SHELLFLAGS   := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# Steps depend on each other by more than their order of files, and each of
# them uses all processors by itself.
.NOTPARALLEL:

# One module version has no record in the checksum database (go.sum has it).
export GONOSUMDB = github.com/gokrazy/rsync

# All is compiled one way, as for machines that have no libraries, so that each
# package is compiled once; but the race detector needs cgo.
export CGO_ENABLED = 0
export GOFLAGS := $(strip $(GOFLAGS) -trimpath)

ROLE       ?= base
VERSION    ?= D12-F.1.0.0
STORY      ?= install
IMAGE_SIZE ?= 8192
KERNEL     ?= debian
FUZZTIME   ?= 60s

# Debian packages for building and testing; deps installs what is missing.
PACKAGES = gcc libc6-dev python3 ca-certificates \
	qemu-system-x86 qemu-utils ovmf ipxe ipxe-qemu seabios efibootmgr grub-efi-amd64-bin \
	mmdebstrap debian-archive-keyring uidmap arch-test gpg \
	e2fsprogs xfsprogs btrfs-progs dosfstools mtools parted fdisk util-linux zstd tar cpio rsync \
	libarchive-tools acl attr libcap2-bin grub-common \
	dnsmasq-base isc-dhcp-client busybox tftp-hpa atftp ndisc6 iproute2 tcpdump openssh-client $(SERVERS)

# DHCP servers, and a BMC's simulator with its client, that only tests talk to.
# They are not started, and as Debian configures them they answer nobody.
SERVERS = isc-dhcp-server isc-dhcp-relay kea-dhcp4-server kea-admin openipmi ipmitool

TREE    = out/install/$(VERSION)/$(ROLE)-$(VERSION)
TOOLS   = out/tools/$(VERSION)/pxe-$(VERSION)
BASE    = out/install/D12-F.1.0.0/base-D12-F.1.0.0
MYSQL   = $(foreach v,0 1 2,out/install/D12-F.1.0.$(v)/mysql-D12-F.1.0.$(v).edeploy)
RELEASE = $(shell git describe --always --dirty 2>/dev/null || echo unknown)
STAMP   = -X edeploy/server/wire.release=$(RELEASE)

##@ Start here

.PHONY: help
help: ## this list
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} \
		/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@printf '\nVariables: ROLE=%s VERSION=%s KERNEL=%s STORY=%s IMAGE_SIZE=%s FUZZTIME=%s DEMO_MACHINES=1 DEMO_KEEP=\n' \
		'$(ROLE)' '$(VERSION)' '$(KERNEL)' '$(STORY)' '$(IMAGE_SIZE)' '$(FUZZTIME)'

.PHONY: demo
demo: MB = 7000
demo: SERVERS =
demo: check deps rack ## boot the appliance and blank machines in QEMU, install them, log in
	go run ./integration/demo

.PHONY: test
test: MB = 22000
test: check deps lint unit abuse stories ## everything that CI checks

##@ Build

# Disk space that a target takes, Debian packages and Go's caches included.
MB = 2500

.PHONY: check
check: # Go and the disk space are there, or a sentence says what to do
	@.ci/check $(MB)

.PHONY: modules
modules: check # the Go modules, all at once: what is built later may read their files
	@GOPROXY=off go mod download 2>/dev/null || { echo 'fetching the Go modules (200 MB)'; go mod download; } || \
		{ echo 'edeploy: the Go modules were not fetched: is there a network? "go env GOPROXY" and HTTPS_PROXY name the way' >&2; exit 1; }

.PHONY: deps
deps: ## install the Debian packages that building and testing need
	@missing=$$(for p in $(PACKAGES); do \
		dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || echo $$p; done); \
	if [ -n "$$missing" ]; then \
		echo "installing" $$missing; \
		sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; \
		[ -z "$$sudo" ] || command -v sudo >/dev/null || \
			{ echo "edeploy: you are not root, and there is no sudo: run this as root once:" apt-get install $$missing >&2; exit 1; }; \
		$$sudo apt-get update -qq || true; \
		$$sudo env LC_ALL=C DEBIAN_FRONTEND=noninteractive sh -c 'policy=/usr/sbin/policy-rc.d; \
			[ -e $$policy ] || { trap "rm -f $$policy" EXIT; printf "#!/bin/sh\nexit 101\n" >$$policy; chmod +x $$policy; }; \
			apt-get install -y -q --no-install-recommends "$$@"' sh $$missing | \
			awk '/ newly installed/ {all = 3 * $$3} \
				/^(Get:|Unpacking |Setting up )/ {if (++n % 60 == 0) {printf "  %d%%\n", 100 * n / all; fflush()}}' || \
			{ echo "edeploy: apt-get did not install these Debian packages (its reason is above; is there a network?):" $$missing >&2; exit 1; }; \
	fi

.PHONY: build
build: modules ## the programs, into out/bin
	@mkdir -p out/bin
	go build -buildvcs=false -ldflags='$(STAMP)' -o out/bin/ \
		./appliance/cmd/... ./server/cmd/... ./images/cmd/... ./agent/cmd/edeploy

.PHONY: image
image: modules out/appliance.img ## the appliance: out/appliance.img and out/appliance.gaf

.PHONY: initrd
initrd: modules out/initrd.pxe ## the agent's initrd, kernel and add-ons: out/initrd.pxe, out/vmlinuz, out/addons

.PHONY: role
role: modules $(TREE).edeploy ## a role tree: make role ROLE=base VERSION=D12-F.1.0.0

.PHONY: scenario
scenario: modules $(MYSQL) | out/programs/mkrole ## mysql D12-F.1.0.0, .1 (newer MariaDB) and .2 (another kernel), with upgrade metadata
	out/programs/mkrole metadata D12-F.1.0.0 D12-F.1.0.2 mysql

.PHONY: rack
rack: build image $(BASE).edeploy # what stories and the demo need

.PHONY: clean
clean: ## remove out/
	rm -rf out

##@ Check

.PHONY: lint
lint: modules ## gofmt, vet, staticcheck
	@files=$$(gofmt -l $$(git ls-files '*.go')); [ -z "$$files" ] || { echo "gofmt -w" $$files; exit 1; }
	go vet ./...
	go tool staticcheck ./...

.PHONY: unit
unit: modules ## all tests that need no virtual machine, with the race detector
	CGO_ENABLED=1 go test -race -vet=off -ldflags=-w -timeout 15m ./...

.PHONY: abuse
abuse: build ## one bad client against edeployd: the others are served (as root, 3 minutes)
	EDEPLOY_ABUSE=1 go test -count=1 -v -timeout 10m ./integration/abuse

.PHONY: stories
stories: modules rack scenario ## all stories that need virtual machines
	EDEPLOY_VM=1 go test -count=1 -p 2 -timeout 75m ./integration/upgrade ./integration/install ./integration/... ./initrd/...

.PHONY: story
story: modules rack scenario ## one of them: make story STORY=install
	EDEPLOY_VM=1 go test -count=1 -v -timeout 50m ./integration/$(STORY)/...

.PHONY: test-long
test-long: modules rack scenario ## long campaigns, and fuzzing for FUZZTIME each
	EDEPLOY_VM=1 EDEPLOY_LONG=1 go test -count=1 -p 1 -timeout 5h ./integration/...
	EDEPLOY_LONG=1 EDEPLOY_ORACLE_INPUTS=15000 FILTER_CASES=3000 UPGRADE_CASES=2000 \
		go test -count=1 -p 1 -timeout 5h ./server/... ./agent/internal/filter ./agent/internal/plan ./images/internal/build
	$(MAKE) fuzz

.PHONY: fuzz
fuzz: modules ## every fuzz target, FUZZTIME each
	@grep -rl '^func Fuzz' --include='*_test.go' . | xargs -n1 dirname | sort -u | while read -r dir; do \
		for target in $$(grep -ho '^func Fuzz[A-Za-z0-9]*' $$dir/*_test.go | cut -c6-); do \
			echo "$$dir $$target"; go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$dir; done; done

.PHONY: bench
bench: modules rack scenario ## measured figures, a line each
	@EDEPLOY_BENCH=1 EDEPLOY_VM=1 go test -count=1 -p 1 -timeout 50m -run '^TestFigure' -v ./... 2>&1 | \
		awk '/figure [a-z0-9-]+ [0-9.]+ /{sub(/^.*figure /, "figure "); print; fflush()} /^--- FAIL|^FAIL|panic:/{print; bad=1} END {exit bad}'

.PHONY: golden
golden: modules ## write the golden files in testdata again, and the examples in READMEs
	EDEPLOY_GOLDEN=1 go test ./...

# Programs that other outputs contain or are made by. A program that comes out
# with the same bytes keeps its time, so nothing is made again for it.
.PHONY: FORCE
FORCE:

PROGRAMS = edeployd=appliance/cmd/edeployd mkappliance=appliance/cmd/mkappliance \
	edeploy=agent/cmd/edeploy agent=agent/cmd/agent mkinitrd=initrd/cmd/mkinitrd mkrole=images/cmd/mkrole

out/programs/%: FORCE
	@mkdir -p $(@D)
	@go build -buildvcs=false -ldflags=-buildid= -o $@.new ./$(patsubst $*=%,%,$(filter $*=%,$(PROGRAMS)))
	@if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi

# Our own roles are built once: make test-long builds them twice and compares.
# A role is made again when its definition, our programs in it, or the code
# that builds trees changes.
BUILDER := $(shell find images/internal/build images/internal/role images/manifest -name '*.go' -not -name '*_test.go') images/internal/role/machine.yaml

$(TREE).edeploy: out/programs/edeploy $(BUILDER) $(shell find images/roles/$(ROLE) -type f 2>/dev/null) | out/programs/mkrole
	out/programs/mkrole build $(if $(filter base mysql pxe,$(ROLE)),--once) $(ROLE) $(VERSION)

ifneq ($(TREE),$(BASE))
$(BASE).edeploy: out/programs/edeploy $(BUILDER) $(shell find images/roles/base -type f) | out/programs/mkrole
	out/programs/mkrole build --once base D12-F.1.0.0
endif

# What a version of mysql is made of: the role, and the version's own files.
mysql_of = $(shell find images/roles/mysql -type f -not -path '*/versions/*') $(wildcard images/roles/mysql/versions/$(1)/*)

ifneq ($(TREE).edeploy,$(word 1,$(MYSQL)))
$(word 1,$(MYSQL)): $(BASE).edeploy $(BUILDER) $(call mysql_of,D12-F.1.0.0) | out/programs/mkrole
	out/programs/mkrole build --once mysql D12-F.1.0.0
endif
ifneq ($(TREE).edeploy,$(word 2,$(MYSQL)))
$(word 2,$(MYSQL)): $(word 1,$(MYSQL)) $(call mysql_of,D12-F.1.0.1) | out/programs/mkrole
	out/programs/mkrole build --once mysql D12-F.1.0.1
endif
ifneq ($(TREE).edeploy,$(word 3,$(MYSQL)))
$(word 3,$(MYSQL)): $(word 2,$(MYSQL)) $(call mysql_of,D12-F.1.0.2) | out/programs/mkrole
	out/programs/mkrole build --once mysql D12-F.1.0.2
endif

$(TOOLS).edeploy: $(BUILDER) $(shell find images/roles/pxe -type f) | out/programs/mkrole
	out/programs/mkrole build --once --out out/tools pxe $(VERSION)

# The kernel that was asked for last.
out/kernel: FORCE
	@mkdir -p $(@D)
	@[ "$$(cat $@ 2>/dev/null)" = '$(KERNEL)' ] || echo '$(KERNEL)' >$@

out/initrd.pxe: out/programs/mkinitrd out/programs/agent out/kernel $(TOOLS).edeploy go.mod $(shell find initrd -type f -not -name '*.md')
	rm -rf out/addons
	out/programs/mkinitrd -kernel '$(KERNEL)' -tools $(TOOLS).edeploy -o $@ -vmlinuz out/vmlinuz -addons out/addons

# Debian's loaders for Secure Boot, taken out of their packages. They are those of
# Debian 13: the signed GRUB for networks of Debian 12 speaks no HTTP. Both start
# the kernels of Debian 12.
SIGNED = usr/lib/shim/shimx64.efi usr/lib/grub/x86_64-efi-signed/grubnetx64.efi

out/loaders/grubx64.efi: | check
	@echo 'fetching the loaders for Secure Boot (30 MB)'; rm -rf $(@D) && mkdir -p $(@D)
	mmdebstrap --quiet --variant=extract --include=shim-signed,grub-efi-amd64-signed trixie - | \
		tar -xm -C $(@D) --transform='s,.*/,,;s,[.]signed$$,,;s,grubnet,grub,' $(SIGNED:%=./%.signed)

out/appliance.img: out/programs/mkappliance out/programs/edeployd out/initrd.pxe out/loaders/grubx64.efi $(shell find appliance/perm -type f)
	@[ -f /usr/lib/ipxe/snponly.efi ] || { echo 'edeploy: the loaders (Debian package ipxe) are missing: make deps installs them' >&2; exit 1; }
	@rm -rf out/boot && mkdir -p out/boot
	cp out/vmlinuz out/initrd.pxe $(addprefix /usr/lib/ipxe/,undionly.kpxe ipxe.pxe snponly.efi ipxe.efi) out/loaders/*.efi out/boot/
	cp -r out/addons out/boot/
	out/programs/mkappliance -version '$(RELEASE)' -size $(IMAGE_SIZE) -perm appliance/perm -o $@ -update out/appliance.gaf
