package pxe

import (
	"fmt"
	"net/netip"
	"slices"

	"edeploy/pxe/internal/dhcp"
	"edeploy/pxe/internal/firmware"
	"edeploy/pxe/internal/ladder"
	"edeploy/server/api"
)

// openLadder reads which loader works for which machine. A file that cannot be
// understood costs that, and nothing else.
func (s *Server) openLadder() {
	var err error
	s.ladder, err = ladder.Open(ladder.Config{
		File: s.conf.LoaderFile, Log: s.log, Model: s.conf.Model, Now: s.conf.now,
		Known: func(mac string) bool { return s.conf.Known(mac, "") },
		Say:   func(mac, uuid, sentence string) { s.note(mac, uuid, netip.Addr{}, sentence) },
	})
	if err != nil {
		s.say("machines look for their loaders again: %v", err)
	}
}

// loader is what a firmware is made to start: what is pinned, else the rung of
// its ladder.
func (s *Server) loader(f dhcp.Firmware) firmware.Loader {
	first := s.conf.loader(f.MAC, f.UUID, f.Link)
	rungs := s.rungs(f.Kind, first)
	if pinned := firmware.Loader(s.conf.Pinned(f.MAC, f.UUID)); slices.Contains(rungs, pinned) {
		return pinned
	}
	if all := firmware.Ladder(f.Kind, first); len(rungs) == 0 || rungs[0] != all[0] {
		return all[0] // DHCP says which file is missing
	}
	return s.ladder.Offer(ladder.Ask{
		Firmware: ladder.Firmware{MAC: f.MAC, Kind: f.Kind}, UUID: f.UUID,
		Transaction: f.Transaction, First: f.First, Last: f.Last, Rungs: rungs,
	})
}

// rungs are the loaders of a ladder whose files are in the boot directory.
func (s *Server) rungs(kind firmware.Kind, first firmware.Loader) (rungs []firmware.Loader) {
	for _, l := range firmware.Ladder(kind, first) {
		files := l.Files(kind)
		if l == firmware.LoaderHTTP {
			files = firmware.LoaderIPXE.Files(firmware.UEFIHTTP)
		}
		if !slices.ContainsFunc(files, func(name string) bool { return !s.hasFile(name) }) {
			rungs = append(rungs, l)
		}
	}
	return rungs
}

// Loaders tells what is remembered about the firmware behind MAC addresses, as
// wire.NormalMAC writes them.
func (s *Server) Loaders(macs []string) (all []api.FirmwareLoader) {
	for _, mac := range macs {
		first := s.conf.loader(mac, "", s.conf.Address.Addr())
		for _, kind := range firmware.Kinds() {
			f := ladder.Firmware{MAC: mac, Kind: kind}
			h, next := s.ladder.Of(f, s.rungs(kind, first))
			if next == "" {
				continue
			}
			is := api.FirmwareLoader{MAC: mac, Firmware: string(kind), Works: string(h.Works), Next: string(next)}
			for _, l := range h.Failed {
				is.Failed = append(is.Failed, fmt.Sprint(l))
			}
			all = append(all, is)
		}
	}
	return all
}
