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
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"edeploy/server/internal/activity"
	"edeploy/server/internal/admission"
	"edeploy/server/internal/allocation"
	"edeploy/server/internal/flock"
	"edeploy/server/internal/history"
	"edeploy/server/internal/problems"
	"edeploy/server/internal/queue"
	"edeploy/server/internal/records"
	"edeploy/server/internal/store"
	"edeploy/server/wire"

	"golang.org/x/sync/semaphore"
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
	DHCPFirst   netip.Addr                      // with DHCPLast: addresses that DHCP gives to any machine, for the API; zero: none
	DHCPLast    netip.Addr
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
	def := Limits{Uploads: 64, Wait: time.Minute, BodyTime: 5 * time.Minute, LogBytes: 64 << 20,
		LogsPerMember: 5, ArchiveBytes: 1 << 30, Machines: 5000, NewPerPeer: 500, HistoryBytes: 32 << 10}
	for _, f := range []struct{ is, def *int }{{&l.Uploads, &def.Uploads}, {&l.LogsPerMember, &def.LogsPerMember}, {&l.Machines, &def.Machines}, {&l.NewPerPeer, &def.NewPerPeer}} {
		if *f.is == 0 {
			*f.is = *f.def
		}
	}
	for _, f := range []struct{ is, def *int64 }{{&l.LogBytes, &def.LogBytes}, {&l.ArchiveBytes, &def.ArchiveBytes}, {&l.HistoryBytes, &def.HistoryBytes}} {
		if *f.is == 0 {
			*f.is = *f.def
		}
	}
	for _, f := range []struct{ is, def *time.Duration }{{&l.Wait, &def.Wait}, {&l.BodyTime, &def.BodyTime}} {
		if *f.is == 0 {
			*f.is = *f.def
		}
	}
	return l
}

// maxWaitingBytes bounds the descriptions that wait for their turn, see weigh.
const maxWaitingBytes = 4 * wire.MaxHardwareBytes

// Server is the service. All its methods are safe for concurrent use.
type Server struct {
	config       Config
	deployments  map[string]*deployment
	own          *flock.Lock // on the state directory
	site         *allocation.Site
	documents    store.Store
	closeStore   func() error
	records      *records.Records
	history      *history.Keeper
	unsubscribe  func() // ends Activity.Run
	explanations *explanations
	writers      sync.WaitGroup // of explanations, histories and the log
	activity     *activity.Activity
	late         *problems.List // what went wrong
	problems     *problems.Finder
	uploads      *admission.Places   // that are read
	longAnswers  *admission.Places   // that are written
	editors      *admission.Places   // configuration files in work
	arrivals     *admission.Rate     // of machines that nobody knew
	waitingBytes *semaphore.Weighted // of uploads that wait for their decision
	inWork       atomic.Int64        // uploads
	machines     http.Handler
	operators    http.Handler
	queue        *queue.Queue[*allocation.Snapshot]
	ready        chan struct{}
	closing      chan struct{}
	close        func() error
}

// New opens the state directory, finishes a change that was cut short, and
// reads the records. The caller ends the Server with Run or Close.
func New(config Config) (*Server, error) { return newServer(config, store.OpenDir) }

type opener func(journal string, collections map[string]string) (*store.Dir, store.Recovery, error)

func newServer(config Config, open opener) (_ *Server, err error) {
	s := &Server{config: config, ready: make(chan struct{}), closing: make(chan struct{})}
	s.close = sync.OnceValue(s.closeAll)
	s.config.Limits = config.Limits.withDefaults()
	limits := s.config.Limits
	s.uploads = admission.NewPlaces("uploads", limits.Uploads, limits.Wait)
	s.editors = admission.NewPlaces("changes of the configuration", maxEditors, limits.Wait)
	s.longAnswers = admission.NewPlaces("long answers", maxLong, longWait)
	s.arrivals = admission.NewRate(limits.NewPerPeer)
	s.waitingBytes = semaphore.NewWeighted(maxWaitingBytes)
	s.machines, s.operators = s.handlers()
	if s.config.Now == nil {
		s.config.Now = time.Now
	}
	if s.config.Log == nil {
		s.config.Log = slog.New(slog.DiscardHandler)
	}
	s.late = problems.NewList(s.config.Log, s.config.Now)
	if s.deployments, err = openDeployments(config, s.config.Limits); err != nil {
		return nil, err
	}
	if s.config.BootSection, err = defaultSection(config); err != nil {
		return nil, err
	}
	s.site = &allocation.Site{Deployments: map[string]*allocation.Deployment{}, Default: s.config.BootSection, MaxMachines: s.config.Limits.Machines}
	for name, d := range s.deployments {
		s.site.Deployments[name] = d.site
	}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	if err := s.openState(open); err != nil {
		return nil, err
	}
	return s, nil
}

// openState opens what is kept in the state directory.
func (s *Server) openState(open opener) error {
	at := func(name string) string { return filepath.Join(s.config.StateDir, name) }
	for _, dir := range []string{"machines", "forgotten", "history", "spool"} {
		if err := os.MkdirAll(at(dir), 0o755); err != nil {
			return fmt.Errorf("make state directory: %w", err)
		}
	}
	var err error
	if s.own, err = flock.Try(at("lock")); err != nil {
		return fmt.Errorf("state directory %s is in use: %w", s.config.StateDir, err)
	}
	if err := clearSpool(at("spool")); err != nil {
		s.late.Add("", "%v", err)
	}
	collections := map[string]string{"machines": at("machines"), "forgotten": at("forgotten")}
	for name, d := range s.deployments {
		collections[allocation.Collection(name)] = d.ConfigDir
	}
	documents, recovery, err := open(s.config.StateDir, collections)
	if err != nil {
		return err
	}
	s.documents, s.closeStore = documents, documents.Close
	s.tellRecovery(recovery)
	if s.records, err = records.Open(documents, s.config.Now); err != nil {
		return err
	}
	histories, err := history.Open(at("history"), s.config.Limits.HistoryBytes)
	if err != nil {
		return err
	}
	s.activity = activity.New(histories, s.records.Book, s.late, s.config.Log)
	s.history = s.activity.History
	ctx, unsubscribe := context.WithCancel(context.Background())
	s.unsubscribe = unsubscribe
	s.writers.Go(func() { s.activity.Run(ctx) })
	s.problems = &problems.Finder{StateDir: s.config.StateDir, Site: s.site, Records: s.records, Documents: documents, Images: s.config.Images, Late: s.late}
	s.explanations = newExplanations(s.writeExplanation)
	s.queue = queue.New(s.documentsOf(), s.config.Limits.Wait, s.config.Log)
	s.writers.Go(func() { s.explanations.run(s.closing, func() bool { return s.inWork.Load() > 0 }) })
	return nil
}

// clearSpool removes uploads that a killed process left unfinished.
func clearSpool(dir string) error {
	left, err := filepath.Glob(filepath.Join(dir, "upload-*"))
	if err != nil {
		return err
	}
	for _, path := range left {
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("clear spool: %w", err)
		}
	}
	return nil
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

func (s *Server) closeAll() error {
	close(s.closing)
	if s.queue != nil {
		s.queue.Close()
	}
	if s.unsubscribe != nil {
		s.unsubscribe()
	}
	s.writers.Wait()
	var errs []error
	if s.closeStore != nil {
		errs = append(errs, s.closeStore())
	}
	if s.history != nil {
		errs = append(errs, s.history.Close())
	}
	if s.own != nil {
		errs = append(errs, s.own.Release())
	}
	return errors.Join(errs...)
}
