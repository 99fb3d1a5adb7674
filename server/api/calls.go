package api

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"time"

	"edeploy/server/wire"
)

// Paths of the API.
const (
	MachinesPath = "/api/v1/machines"
	ConfigPath   = "/api/v1/config"
	imagesPath   = "/api/v1/images"
)

// below is a path and words below it.
func below(path string, words ...string) string {
	for _, word := range words {
		path += "/" + url.PathEscape(word)
	}
	return path
}

// MachinePath is the path of a machine, by id, MAC address or name, or of
// something of it: boot, explanation, hardware, loader, logs, restore, section.
func MachinePath(id string, words ...string) string {
	return below(below(MachinesPath, id), words...)
}

// ImagePath is the path of an image, or of something of it: archive, manifest,
// publish, metadata.
func ImagePath(ref wire.ImageRef, words ...string) string {
	return below(below(imagesPath, ref.Version, ref.Role), words...)
}

// Machines are all machines.
func (c *Client) Machines(ctx context.Context) ([]Machine, error) {
	return ask[[]Machine](ctx, c, http.MethodGet, MachinesPath, nil)
}

// Machine is a machine with its history.
func (c *Client) Machine(ctx context.Context, id string) (Machine, error) {
	return ask[Machine](ctx, c, http.MethodGet, MachinePath(id), nil)
}

// Explanation says why a machine got what it got.
func (c *Client) Explanation(ctx context.Context, id string) (Explanation, error) {
	return ask[Explanation](ctx, c, http.MethodGet, MachinePath(id, "explanation"), nil)
}

// AddMachine says which machine a MAC address belongs to.
func (c *Client) AddMachine(ctx context.Context, m NewMachine) (Machine, error) {
	return ask[Machine](ctx, c, http.MethodPost, MachinesPath, m)
}

// SetSection sets the deployment that a machine belongs to; "": the default.
func (c *Client) SetSection(ctx context.Context, id, section string) (Machine, error) {
	return ask[Machine](ctx, c, http.MethodPut, MachinePath(id, "section"), NewSection{section})
}

// SetBoot sets what a machine boots, see Machine.Boot.
func (c *Client) SetBoot(ctx context.Context, id, action string) (Machine, error) {
	return ask[Machine](ctx, c, http.MethodPut, MachinePath(id, "boot"), NewBoot{action})
}

// InstallAnyway lets pass what a machine has otherwise than the expected
// hardware, until it is installed.
func (c *Client) InstallAnyway(ctx context.Context, id string) (Machine, error) {
	return ask[Machine](ctx, c, http.MethodPost, MachinePath(id, "anyway"), nil)
}

// WipeAnyway lets a machine overwrite the data because of which its installation
// has stopped.
func (c *Client) WipeAnyway(ctx context.Context, id string) (Machine, error) {
	return ask[Machine](ctx, c, http.MethodPost, MachinePath(id, "wipe-anyway"), nil)
}

// Expect brings a list of machines that are to come, CSV: all of it or, when a
// line has a mistake, nothing.
func (c *Client) Expect(ctx context.Context, list []byte) (done Imported, err error) {
	const path = "/api/v1/expected"
	text, _, err := c.exchange(ctx, 0, http.MethodPost, path, http.Header{"Content-Type": {"text/csv"}}, list)
	if err == nil {
		err = c.decode(path, text, &done)
	}
	return done, err
}

// SetLoader pins a machine to one of Loaders; AnyLoader: to none.
func (c *Client) SetLoader(ctx context.Context, id, loader string) (Machine, error) {
	return ask[Machine](ctx, c, http.MethodPut, MachinePath(id, "loader"), NewLoader{loader})
}

// Forget forgets a machine. One that is installed is a conflict, unless forced.
func (c *Client) Forget(ctx context.Context, id string, force bool) (Forgotten, error) {
	path := MachinePath(id)
	if force {
		path += "?force=1"
	}
	return ask[Forgotten](ctx, c, http.MethodDelete, path, nil)
}

// ForgetStrangers forgets the machines that nobody needs, and says how many.
func (c *Client) ForgetStrangers(ctx context.Context) (int, error) {
	gone, err := ask[ForgottenStrangers](ctx, c, http.MethodDelete, MachinesPath+"?strangers=1", nil)
	return gone.Forgotten, err
}

// Forgotten are the machines that can be restored.
func (c *Client) Forgotten(ctx context.Context) ([]Forgotten, error) {
	return ask[[]Forgotten](ctx, c, http.MethodGet, "/api/v1/forgotten", nil)
}

// Restore takes a forgotten machine back.
func (c *Client) Restore(ctx context.Context, id string) (Machine, error) {
	return ask[Machine](ctx, c, http.MethodPost, MachinePath(id, "restore"), nil)
}

// Hardware is the last description that a machine has sent, as an agent uploads
// it.
func (c *Client) Hardware(ctx context.Context, id string) ([]byte, error) {
	return c.Raw(ctx, MachinePath(id, "hardware"))
}

// Logs are the logs that a machine has sent, newest first.
func (c *Client) Logs(ctx context.Context, id string) ([]Log, error) {
	return ask[[]Log](ctx, c, http.MethodGet, MachinePath(id, "logs"), nil)
}

// Log is one of them, gzip-compressed; it is the caller's to close.
func (c *Client) Log(ctx context.Context, id, name string) (io.ReadCloser, error) {
	resp, err := c.Do(ctx, http.MethodGet, MachinePath(id, "logs", name), http.Header{"Accept-Encoding": {"identity"}}, nil)
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// Problems are what an operator should mend.
func (c *Client) Problems(ctx context.Context) ([]Problem, error) {
	return ask[[]Problem](ctx, c, http.MethodGet, "/api/v1/problems", nil)
}

// Version is what the appliance says of itself.
func (c *Client) Version(ctx context.Context) (Version, error) {
	return ask[Version](ctx, c, http.MethodGet, "/api/v1/version", nil)
}

// ConfigFiles lists the configuration files of all deployments.
func (c *Client) ConfigFiles(ctx context.Context) ([]ConfigFile, error) {
	return ask[[]ConfigFile](ctx, c, http.MethodGet, ConfigPath, nil)
}

// ConfigFile is the text of a configuration file and its version.
func (c *Client) ConfigFile(ctx context.Context, section, name string) (text []byte, version string, err error) {
	text, header, err := c.exchange(ctx, 0, http.MethodGet, below(ConfigPath, section, name), nil, nil)
	return text, header.Get("ETag"), err
}

// ErrChanged: a file is not the version any more that a change is for.
var ErrChanged = errors.New("the file has changed meanwhile")

// PutConfigFile replaces a configuration file, if it still is of a version; if
// not, the error is ErrChanged.
func (c *Client) PutConfigFile(ctx context.Context, section, name, text, version string) error {
	_, _, err := c.exchange(ctx, 0, http.MethodPut, below(ConfigPath, section, name), http.Header{"If-Match": {version}}, []byte(text))
	if StatusOf(err) == http.StatusPreconditionFailed {
		return ErrChanged
	}
	return err
}

// PutConfigFiles replaces files of a deployment together. Mistakes in them are
// an *Error with Problems, unless the change is forced.
func (c *Client) PutConfigFiles(ctx context.Context, section string, set ConfigSet, force bool) (Replaced, error) {
	path := below(ConfigPath, section)
	if force {
		path += "?force=1"
	}
	return ask[Replaced](ctx, c, http.MethodPut, path, set)
}

// Images are all images, complete or not.
func (c *Client) Images(ctx context.Context) ([]Image, error) {
	return ask[[]Image](ctx, c, http.MethodGet, imagesPath, nil)
}

// Image is one image.
func (c *Client) Image(ctx context.Context, ref wire.ImageRef) (Image, error) {
	return ask[Image](ctx, c, http.MethodGet, ImagePath(ref), nil)
}

// Upgrades are the upgrades that the appliance has the metadata of.
func (c *Client) Upgrades(ctx context.Context) ([]Upgrade, error) {
	return ask[[]Upgrade](ctx, c, http.MethodGet, imagesPath+"/metadata", nil)
}

// Upgrade is one of them.
func (c *Client) Upgrade(ctx context.Context, from wire.ImageRef, to string) (Upgrade, error) {
	return ask[Upgrade](ctx, c, http.MethodGet, ImagePath(from, "metadata", to), nil)
}

// PutUpgrade brings the metadata of an upgrade, a tar, and answers an Upgrade in
// JSON. Another one of the same name is a conflict, unless it is replaced.
func (c *Client) PutUpgrade(ctx context.Context, from wire.ImageRef, to string, tar []byte, replace bool) ([]byte, error) {
	header := http.Header{"Content-Type": {"application/x-tar"}}
	if !replace {
		header.Set("If-None-Match", "*") // RFC 9110 section 13.1.2
	}
	text, _, err := c.exchange(ctx, 0, http.MethodPut, ImagePath(from, "metadata", to), header, tar)
	return text, err
}

// removalTime bounds a removal. The appliance answers when the last file of a
// tree is gone, which takes slow disks minutes.
const removalTime = 10 * time.Minute

// DeleteImage removes an image: tree, manifest and archive.
func (c *Client) DeleteImage(ctx context.Context, ref wire.ImageRef) error {
	_, _, err := c.exchange(ctx, removalTime, http.MethodDelete, ImagePath(ref), nil, nil)
	return err
}

// DeleteUpgrade removes the metadata of an upgrade.
func (c *Client) DeleteUpgrade(ctx context.Context, from wire.ImageRef, to string) error {
	_, _, err := c.exchange(ctx, removalTime, http.MethodDelete, ImagePath(from, "metadata", to), nil, nil)
	return err
}
