package appliance

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"

	"edeploy/images"
	"edeploy/pxe"
	"edeploy/server"
	"edeploy/server/api"
	"edeploy/server/wire"
)

func (a *Appliance) makeServer(context.Context) error {
	deployments := map[string]server.Deployment{}
	for section, d := range a.config.Deployments {
		open := server.Deployment{ConfigDir: d.ConfigDir, HWDir: d.HWDir, LogDir: d.LogDir, LockFile: d.LockFile,
			MetadataURL: d.MetadataURL, Wipe: d.Wipe}
		if d.UsePXEMngr {
			open.PXEMngrURL = d.PXEMngrURL
		}
		deployments[section] = open
	}
	var err error
	var first, last netip.Addr
	if a.config.DHCP.Enabled && a.config.DHCP.Mode == pxe.ModeDHCP {
		first, last = a.config.DHCP.Own.First, a.config.DHCP.Own.Last
	}
	a.server, err = server.New(server.Config{
		Deployments: deployments,
		StateDir:    a.config.StateDir,
		BootSection: a.config.Boot.Args.Section,
		Version:     wire.Release(),
		Log:         a.log.With("room", "server"),
		Images:      a.ownImages,
		Addons:      a.config.Boot.Args.AddonImages(),
		DHCPFirst:   first,
		DHCPLast:    last,
		Loaders:     a.loaders,
	})
	if err != nil {
		return fmt.Errorf("server: %w", err)
	}
	return nil
}

// showProgress says on the console what happens to machines.
func (a *Appliance) showProgress(ctx context.Context) error {
	var lines progressLines
	for _, e := range a.server.Events(ctx, 0) {
		if line := lines.line(e); line != "" {
			a.console.Printf("%s", line)
		}
	}
	return nil
}

// loaders are those that the boot services know of machines.
func (a *Appliance) loaders(macs []string) []api.FirmwareLoader {
	if a.boot == nil {
		return nil
	}
	return a.boot.Loaders(macs)
}

// ownImages are the images that machines can install from here; nobody knows
// which others there are when machines are sent to another server for them.
func (a *Appliance) ownImages() ([]wire.ImageRef, error) {
	if own := a.config.Boot.Args; a.images == nil || own.RServ != "" && own.RServ != own.Serv || own.HServ != "" && own.HServ != own.Serv {
		return nil, nil
	}
	return a.images.Complete()
}

func (a *Appliance) makeImages(context.Context) error {
	var err error
	a.images, err = images.New(images.Config{
		Dir:           a.config.ImagesTop,
		RsyncListener: a.rsyncListener(),
		Logger:        a.log.With("room", "images"),
	})
	if err != nil {
		return fmt.Errorf("images: %w", err)
	}
	return nil
}

func (a *Appliance) makeBoot(context.Context) error {
	if !a.config.DHCP.Enabled {
		return nil
	}
	own, dhcp := a.config.Interface.Address, a.config.DHCP
	var err error
	a.boot, err = pxe.New(pxe.Config{
		Mode:       dhcp.Mode,
		Unknown:    dhcp.Own.Unknown,
		Loader:     dhcp.Own.Loader,
		Known:      a.server.Known,
		Interface:  a.config.Interface.Name,
		Address:    own,
		RangeFirst: dhcp.Own.First,
		RangeLast:  dhcp.Own.Last,
		LeaseTime:  dhcp.Own.LeaseTime,
		Settings:   dhcp.Own.Settings,
		Subnets:    dhcp.Subnets,
		Look:       dhcp.Look,
		Hosts:      dhcp.Hosts,
		LeaseFile:  filepath.Join(a.config.StateDir, "leases"),
		BootDir:    a.config.Boot.Dir,
		HTTPPort:   a.config.HTTPPort,
		TFTPListen: netip.AddrPortFrom(own.Addr(), uint16(a.config.TFTPPort)),
		Args:       a.config.Boot.Args,
		KernelArgs: a.config.Boot.KernelArgs,
		Policy:     a.server,
		Section:    a.server.BootSection,
		BootDisks:  a.server.BootDisks,
		Pinned:     a.server.Loader,
		Model:      a.server.Model,
		LoaderFile: filepath.Join(a.config.StateDir, "loaders"),
		OnEvent:    a.server.Tell,
		Log:        a.log.With("room", "pxe"),
	})
	return err
}
