package detect

import (
	"context"
	"fmt"
	"strings"

	"edeploy/agent/internal/raidtool"
)

// arecaUnits are units that the original splits off; "/unit" behind the key has them.
var arecaUnits = []string{"RPM", "%", " V", " C", "Seconds", "Times", "MHz", "KB", "MB", "GB"}

// arecaDisks is how many drives are asked for.
const arecaDisks = 254

// areca describes Areca's controllers, by the tool cli64. The original sets the
// tool's password before it asks; that is not done here.
func areca(ctx context.Context, r reader, f *facts) error {
	text, err := r.good(ctx, "cli64", "sys", "info")
	if raidtool.Value(raidtool.Properties(text), "ControllerName") == "" {
		return unless(err, errNoProgram)
	}
	arecaPart(f, "system", text)
	for _, part := range []struct{ id, question string }{
		{"system", "adsys info"}, {"config", "sys showcfg"}, {"hardware", "hw info"}, {"power", "hddpwr info"},
	} {
		text, err := r.good(ctx, append([]string{"cli64"}, strings.Fields(part.question)...)...)
		if err != nil {
			return err
		}
		arecaPart(f, part.id, text)
	}
	for n := range arecaDisks {
		text, err := r.good(ctx, "cli64", "disk", "info", fmt.Sprintf("drv=%d", n+1))
		if err != nil || len(raidtool.Properties(text)) < 3 { // the message counts as one
			return err
		}
		arecaPart(f, fmt.Sprintf("disk%d", n+1), text)
	}
	return nil
}

func arecaPart(f *facts, id, text string) {
	for _, p := range raidtool.Properties(text) {
		if strings.HasPrefix(p.Key, "Guierrmsg") {
			continue
		}
		unit := ""
		for _, known := range arecaUnits {
			if number, ok := strings.CutSuffix(p.Value, known); ok {
				p.Value, unit = raidtool.PlainValue(strings.ReplaceAll(number, " ", "")), strings.TrimSpace(known)
				break
			}
		}
		f.add("areca", id, p.Key, p.Value)
		f.add("areca", id, p.Key+"/unit", unit)
	}
}
