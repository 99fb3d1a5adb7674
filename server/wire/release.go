package wire

import "runtime/debug"

// release is stamped in at build time:
//
//	go build -ldflags "-X edeploy/server/wire.release=v1.2.3"
var release string

// Release is the version of the program that runs: what the build stamped in,
// else what the Go tool knows of the source ("v0.0.0-20260102150405-abcdef123456",
// "+dirty" with changes), else "unknown".
func Release() string {
	if release != "" {
		return release
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "unknown"
}
