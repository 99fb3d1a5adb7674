package server_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"edeploy/server"
	"edeploy/server/wire"
)

// measuring skips a figure unless it is asked for.
func measuring(t *testing.T) {
	t.Helper()
	if os.Getenv("EDEPLOY_BENCH") != "1" {
		t.Skip("measures: EDEPLOY_BENCH=1 runs it (make bench)")
	}
}

// figure prints a measured number; it should stay below the bar.
func figure(name string, took []time.Duration, bar float64) {
	slices.Sort(took)
	median := float64(took[len(took)/2].Microseconds()) / 1000
	fmt.Printf("figure %s %.1f ms <%.0f %s\n", name, median, bar, verdict(median < bar))
}

func verdict(ok bool) string {
	if ok {
		return "ok"
	}
	return "short"
}

// TestFigureUpload is one upload of a new machine against 200 profiles of 20
// lines, none but the last fitting: the median of 50.
func TestFigureUpload(t *testing.T) {
	measuring(t)
	figure("upload-200-profiles", uploads(t, benchFiles(200), 50, http.StatusOK, benchHardware), 20)
}

// TestFigureUpload500 is the same against 500 profiles.
func TestFigureUpload500(t *testing.T) {
	measuring(t)
	figure("upload-500-profiles", uploads(t, benchFiles(500), 50, http.StatusOK, benchHardware), 50)
}

// TestFigureFailing is one upload against a profile of twelve lines with a
// variable each and a last one that finds no fact, over a hundred disks: the
// median of 20 for each of three ways to fail.
func TestFigureFailing(t *testing.T) {
	measuring(t)
	var took []time.Duration
	for _, last := range []string{
		"('disk', '$d11', 'rotational', '7')", // no fact at all
		"('disk', '$d0', 'rotational', '0')",  // only a disk that the first line cannot have
		"('disk', '$d11', 'wanted', 'yes')",   // one disk too few for all lines before
	} {
		took = append(took, uploads(t, failingFiles(last), 20, http.StatusNotFound, disks)...)
	}
	figure("failing-12-variables-100-disks", took, 100)
}

// failingFiles is a profile of twelve variable lines and a last one.
func failingFiles(last string) map[string]string {
	var specs strings.Builder
	specs.WriteString("[\n")
	for line := range 12 {
		fmt.Fprintf(&specs, "  ('disk', '$d%d', 'size', 'ge(100)'),\n", line)
	}
	specs.WriteString("  " + last + ",\n]\n")
	return map[string]string{"state": "[('big', '*')]\n", "big.specs": specs.String(), "big.configure": "set_role('base', '1', '/dev/sda')\n"}
}

// disks is a machine with a hundred disks: those without an odd number have
// the size that is asked for.
func disks(n int) wire.Hardware {
	h := wire.Hardware{fact("network", "eth0", "serial", mac(n))}
	for i := range 100 {
		disk := fmt.Sprintf("sd%03d", i)
		size, rotational := "480", "1"
		if i == 99 {
			size, rotational = "4", "0"
		}
		h = append(h, fact("disk", disk, "size", size), fact("disk", disk, "rotational", rotational))
	}
	return h
}

// uploads measures uploads of new machines.
func uploads(t *testing.T, files map[string]string, count, status int, hardware func(n int) wire.Hardware) []time.Duration {
	t.Helper()
	l := newLab(t, files)
	l.quiet = true
	l.start()
	l.upload(hardware(0))
	var took []time.Duration
	for n := range count {
		h := hardware(n + 1)
		start := time.Now()
		if a := l.upload(h); a.status != status {
			t.Fatal(a.status, a.body)
		}
		took = append(took, time.Since(start))
	}
	return took
}

// TestFigureThroughput is a thousand machines that upload at once, over real
// connections: twenty profiles with counts, all but the last not fitting, and
// a CMDB of two thousand entries.
func TestFigureThroughput(t *testing.T) {
	measuring(t)
	const machines, bar = 1000, 200.0
	l := newLab(t, crowdFiles())
	l.quiet = true
	l.limits = server.Limits{Wait: 2 * time.Minute, NewPerPeer: 1000}
	l.start()
	web := httptest.NewServer(l.server.Handler())
	defer web.Close()
	client := &http.Client{Transport: &http.Transport{MaxConnsPerHost: 0}}
	bodies := make([]string, machines)
	for n := range bodies {
		bodies[n] = encode(benchHardware(n))
	}
	var all sync.WaitGroup
	var bad atomic.Int64
	start := time.Now()
	for n := range machines {
		all.Go(func() {
			kind, body := form("file/hw.json", bodies[n])
			req, err := http.NewRequestWithContext(context.Background(), "POST", web.URL+"/cgi-bin/upload.py", body)
			if err != nil {
				t.Error(err)
				return
			}
			req.Header.Set("Content-Type", kind)
			resp, err := client.Do(req)
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			_, _ = io.Copy(io.Discard, resp.Body)
			if resp.StatusCode != http.StatusOK {
				bad.Add(1)
			}
		})
	}
	all.Wait()
	rate := machines / time.Since(start).Seconds()
	if bad.Load() > 0 {
		t.Fatalf("%d machines were refused", bad.Load())
	}
	fmt.Printf("figure uploads-1000-concurrent %.0f /s >=%.0f %s\n", rate, bar, verdict(rate >= bar))
}

// crowdFiles is twenty profiles of twenty lines; the last has a count of two
// thousand and a CMDB of as many entries.
func crowdFiles() map[string]string {
	files := benchFiles(20)
	files["state"] = strings.Replace(files["state"], "('p019', '*')", "('p019', 2000)", 1)
	files["p019.specs"] = strings.Replace(files["p019.specs"], "\n]", "\n  ('network', 'ens0', 'serial', '$mac'),\n]", 1)
	files["p019.cmdb"] = "generate({'ip': '10.1.0-9.1-200', 'name': 'n0001-2000', 'gateway': '10.1.255.254', 'netmask': '255.255.0.0'})\n"
	return files
}
