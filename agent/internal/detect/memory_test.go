package detect

import (
	"encoding/json"
	"os"
	"testing"
	"testing/fstest"
)

// Firmware tables are a vendor's work: nothing in them may end the agent. The
// fuzzer looks inside the package, because all probes for each attempt would
// take a hundred times as long.
func FuzzSMBIOS(f *testing.F) {
	text, err := os.ReadFile("testdata/server.json")
	if err != nil {
		f.Fatal(err)
	}
	var rec Recording
	if err := json.Unmarshal(text, &rec); err != nil {
		f.Fatal(err)
	}
	f.Add(rec.Binary[dmiTables])
	f.Add(rec.Binary[dmiTables][:90])
	f.Fuzz(func(t *testing.T, data []byte) {
		found := &facts{}
		r := Source{FS: fstest.MapFS{dmiTables: {Data: data}}}.whole().reader()
		_ = memory(t.Context(), r, found) // an error is a sentence about the tables
		for _, fact := range found.list {
			if fact.Category != "memory" || fact.Value == "" {
				t.Errorf("%v among the facts about memory", fact)
			}
		}
		if clocks := busClocks(r); len(clocks) > len(data)/4 {
			t.Errorf("%d processors in %d bytes", len(clocks), len(data))
		}
	})
}
