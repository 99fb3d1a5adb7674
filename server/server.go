// Package server answers the machines. It takes a machine's hardware
// description, decides which profile, variables and CMDB entry it gets, and
// answers with its configuration script; it takes the reports of the
// installation, keeps every machine's record and history, and says what a
// machine boots next.
//
// It reads per deployment CONFIGDIR/{state,NAME.specs,NAME.configure,NAME.cmdb}
// and writes there state and NAME.cmdb, and what an operator brings over HTTP;
// to HWDIR the descriptions, to LOGDIR the logs. In its own state directory it
// writes machines/ID.json, history/ID.log and ID.why, and, while documents
// change, the journal that makes them change together.
package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"edeploy/server/api"
	"edeploy/server/internal/activity"
	"edeploy/server/internal/allocation"
	"edeploy/server/internal/explanation"
	"edeploy/server/internal/flock"
	"edeploy/server/internal/history"
	"edeploy/server/internal/httpd"
	"edeploy/server/internal/problems"
	"edeploy/server/internal/profile"
	"edeploy/server/internal/records"
	"edeploy/server/internal/store"
	"edeploy/server/internal/transaction"
	"edeploy/server/wire"
)

// Config is what a Server needs. Deployments and StateDir must be given.
type Config struct {
	Deployments map[string]Deployment // by section name of edeploy.conf; SERVER is the default one
	StateDir    string                // records, histories; made when it does not exist
	BootSection string                // section that boots name unless the operator has set another for the machine; empty: the only one, else SERVER
	Limits      Limits
	Version     string                          // of this build, for the API
	Now         func() time.Time                // nil: time.Now
	Log         *slog.Logger                    // nil: silence
	Images      func() ([]wire.ImageRef, error) // complete images that machines can install; nil: not known here
	Addons      []wire.ImageRef                 // images that every machine lays over its ramdisk ([BOOT] ADDONS)
	DHCPFirst   netip.Addr                      // with DHCPLast: addresses that DHCP gives to any machine, for the API; zero: none
	DHCPLast    netip.Addr
	Loaders     func(macs []string) []api.FirmwareLoader // what boot services know about the firmware behind MAC addresses; nil: there are none
}

// Limits bound what the network can use up. A zero value means the default.
type Limits struct {
	Uploads       int           // uploads that are read at once; 64. One peer may have a quarter
	Wait          time.Duration // longest wait for a place or for the lock; 60 s (an agent gives up after 120 s)
	BodyTime      time.Duration // longest time one upload may take on the wire; 5 min
	LogBytes      int64         // one uploaded log; 64 MiB
	LogsPerMember int           // older logs kept per machine; 5
	ArchiveBytes  int64         // all logs, and all descriptions, of one deployment; 1 GiB each
	Machines      int           // machines that are known; 5000. When there are more, strangers go (see machine.Record.Stranger)
	NewPerPeer    int           // machines that nobody knew, of one peer, at once and then per minute; 500
	HistoryBytes  int64         // half of the history of one machine; 32 KiB
}

func (l Limits) withDefaults() Limits {
	return Limits{Uploads: cmp.Or(l.Uploads, 64), Wait: cmp.Or(l.Wait, time.Minute), BodyTime: cmp.Or(l.BodyTime, 5*time.Minute),
		LogBytes: cmp.Or(l.LogBytes, 64<<20), LogsPerMember: cmp.Or(l.LogsPerMember, 5), ArchiveBytes: cmp.Or(l.ArchiveBytes, 1<<30),
		Machines: cmp.Or(l.Machines, 5000), NewPerPeer: cmp.Or(l.NewPerPeer, 500), HistoryBytes: cmp.Or(l.HistoryBytes, 32<<10)}
}

// Server is the service. All its methods are safe for concurrent use.
type Server struct {
	config   Config
	site     *allocation.Site
	records  *records.Records
	activity *activity.Activity
	late     *problems.List // what went wrong
	problems *problems.Finder
	queue    *transaction.Queue
	handlers *httpd.Handlers
	ready    chan struct{}
	opened   []func() error // closes what was opened, in that order
	close    func() error
}

// New opens the state directory, finishes a change that was cut short, and
// reads the records. The caller ends the Server with Run or Close.
func New(config Config) (*Server, error) {
	return newServer(config, func(journal string, collections map[string]string) (store.Store, store.Recovery, error) {
		return store.OpenDir(journal, collections)
	})
}

// opener opens the documents: those of each collection in its directory.
type opener func(journal string, collections map[string]string) (store.Store, store.Recovery, error)

func newServer(config Config, open opener) (_ *Server, err error) {
	config.Limits = config.Limits.withDefaults()
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	deployments, archives, err := openDeployments(config)
	if err != nil {
		return nil, err
	}
	if config.BootSection, err = defaultSection(config); err != nil {
		return nil, err
	}
	s := &Server{config: config, ready: make(chan struct{}), late: problems.NewList(config.Log, config.Now),
		site: &allocation.Site{Deployments: deployments, Default: config.BootSection, MaxMachines: config.Limits.Machines}}
	s.close = sync.OnceValue(s.closeAll)
	if err := s.open(open, archives); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// open opens what is kept in the state directory, and wires what stands on it.
func (s *Server) open(open opener, archives map[string]httpd.Archives) error {
	at := func(name string) string { return filepath.Join(s.config.StateDir, name) }
	for _, dir := range []string{"machines", "forgotten", "history", "spool"} {
		if err := os.MkdirAll(at(dir), 0o755); err != nil {
			return fmt.Errorf("make state directory: %w", err)
		}
	}
	own, err := flock.Try(at("lock"))
	if err != nil {
		return fmt.Errorf("state directory %s is in use: %w", s.config.StateDir, err)
	}
	s.opened = append(s.opened, own.Release)
	left, _ := filepath.Glob(at("spool/upload-*")) // by a process that was killed; the pattern is good
	for _, path := range left {
		if err := os.RemoveAll(path); err != nil {
			s.late.Add("", "clear spool: %v", err)
		}
	}
	collections := map[string]string{"machines": at("machines"), "forgotten": at("forgotten")}
	for name, d := range s.site.Deployments {
		collections[allocation.Collection(name)] = d.ConfigDir
	}
	documents, recovery, err := open(s.config.StateDir, collections)
	if err != nil {
		return err
	}
	s.opened = append(s.opened, documents.Close)
	for _, d := range s.site.Deployments {
		d.Dir = profile.Open(d.ConfigDir, store.In(documents, d.Collection))
	}
	s.tellRecovery(recovery)
	limits := s.config.Limits
	if s.records, err = records.Open(documents, s.config.Now); err != nil {
		return err
	}
	histories, err := history.Open(at("history"), limits.HistoryBytes)
	if err != nil {
		return err
	}
	s.opened = append(s.opened, histories.Close)
	s.activity = activity.New(histories, s.records.Index, s.late, s.config.Log)
	s.opened = append(s.opened, s.activity.Start())
	explanations := explanation.New(histories, s.late, s.config.Log)
	s.opened = append(s.opened, explanations.Close)
	s.problems = &problems.Finder{StateDir: s.config.StateDir, Site: s.site, Records: s.records, Documents: documents, Images: s.config.Images, Addons: s.config.Addons, Late: s.late}
	s.queue = &transaction.Queue{Site: s.site, Records: s.records, Store: documents, Explanations: explanations, Activity: s.activity,
		Late: s.late, Now: s.config.Now, Log: s.config.Log}
	s.queue.Start(limits.Wait)
	s.opened = append(s.opened, s.queue.Close)
	s.handlers = httpd.New(httpd.Config{Queue: s.queue, Archives: archives, SpoolDir: at("spool"), Problems: s.problems,
		Uploads: limits.Uploads, Wait: limits.Wait, BodyTime: limits.BodyTime, LogBytes: limits.LogBytes, NewPerPeer: limits.NewPerPeer, Version: s.version(), Loaders: s.config.Loaders})
	return nil
}

// version is what the API tells of this build, and of the addresses here.
func (s *Server) version() api.Version {
	v := api.Version{Version: s.config.Version, Protocol: wire.Protocol, Addons: s.config.Addons}
	if s.config.DHCPFirst.IsValid() {
		v.DHCP = &api.AddressRange{First: s.config.DHCPFirst, Last: s.config.DHCPLast}
	}
	return v
}

// tellRecovery says what became of a change that was cut short.
func (s *Server) tellRecovery(r store.Recovery) {
	switch {
	case r.Outcome == store.Nothing:
	case r.Outcome == store.Damaged:
		s.config.Log.Warn("damaged journal put aside", "file", r.Aside, "error", r.Damage)
	case len(r.Edited) > 0:
		s.late.Add("", "An interrupted change of %s was taken back, because %s was edited meanwhile. Compare the counts and CMDB entries with the list of machines.",
			strings.Join(r.Names, ", "), strings.Join(r.Edited, ", "))
	default:
		s.config.Log.Info("finished an interrupted change", "documents", r.Names)
	}
}

// Machines serves what machines say: every path that ends in /upload.py, and
// their reports. It takes clean paths: whoever serves several rooms on one port
// cleans them for all.
func (s *Server) Machines() http.Handler { return s.handlers.Machines }

// Operators serves /api/v1/ but for the reports: everything that steers, and
// shows what is going on.
func (s *Server) Operators() http.Handler { return s.handlers.Operators }

// Handler serves both on one port.
func (s *Server) Handler() http.Handler { return s.handlers }

// Run says what is wrong with the configuration, announces Ready and works
// until ctx ends; then it closes the Server.
func (s *Server) Run(ctx context.Context) error {
	for _, p := range s.Problems() {
		s.config.Log.Warn("problem", "deployment", p.Section, "text", p.Text)
	}
	close(s.ready)
	<-ctx.Done()
	return s.Close()
}

// Ready is closed when the Server works.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Close waits for the change that is being written and closes all files.
// Later requests that would change something are refused.
func (s *Server) Close() error { return s.close() }

func (s *Server) closeAll() (err error) {
	for _, close := range slices.Backward(s.opened) {
		err = errors.Join(err, close())
	}
	return err
}
