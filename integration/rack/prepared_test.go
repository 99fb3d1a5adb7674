package rack

import (
	"os"
	"strings"
	"testing"

	"edeploy/server/wire"
)

// The machines of stories get the parameters of their accelerator by the file
// that the appliance comes with.
func TestWithKernelArgs(t *testing.T) {
	text, err := os.ReadFile("../../appliance/perm/" + permConf)
	if err != nil {
		t.Fatal(err)
	}
	if got := withKernelArgs(string(text), ""); got != string(text) {
		t.Errorf("without parameters: %s", got)
	}
	_, value, _ := strings.Cut(withKernelArgs(string(text), "norandmaps"), "\nARGS =")
	line, _, _ := strings.Cut(value, "\n")
	if args, err := wire.ParseBootArgs(line); err != nil || args.Kept != "norandmaps" || args.OnFailure != "console" {
		t.Errorf("%q gives %+v, %v", line, args, err)
	}
}
