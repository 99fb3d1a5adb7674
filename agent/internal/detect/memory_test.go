package detect

import (
	"encoding/json"
	"log/slog"
	"os"
	"testing"
	"testing/fstest"

	"github.com/jaypipes/ghw"
)

// Firmware tables are a vendor's work: nothing in them may end the agent. The
// fuzzer looks inside the package, because a tree of files for each attempt
// would take a hundred times as long.
func FuzzMemoryBanks(f *testing.F) {
	text, err := os.ReadFile("testdata/server.json")
	if err != nil {
		f.Fatal(err)
	}
	var rec Recording
	if err := json.Unmarshal(text, &rec); err != nil {
		f.Fatal(err)
	}
	const tables = "sys/firmware/dmi/tables/DMI"
	f.Add(rec.Binary[tables])
	f.Add(rec.Binary[tables][:90])
	f.Fuzz(func(t *testing.T, data []byte) {
		found := &facts{}
		memory(reader{fstest.MapFS{tables: {Data: data}}}, found, new(ghw.MemoryInfo), slog.New(slog.DiscardHandler))
		for _, fact := range found.list {
			if fact.Category != "memory" || fact.Value == "" {
				t.Errorf("%v among the facts about memory", fact)
			}
		}
	})
}
