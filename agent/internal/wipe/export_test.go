package wipe

import (
	"fmt"
	"time"
)

// NVMe and ATA say in words what a drive can, by its answer.
func NVMe(answer []byte) string { return fmt.Sprintf("%+v", nvmeAbilities(answer)) }
func ATA(said string) string    { return fmt.Sprintf("%+v", ataAbilities(said)) }

// NVMeStatus and ATAStatus say in words how far a drive is, by its answer.
func NVMeStatus(answer []byte) string { return inWords(nvmeStatus(answer)) }
func ATAStatus(said []byte) string    { return inWords(ataStatus(said)) }

func inWords(is status, err error) string {
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%+v", is)
}

// Places are places.
var Places = places

// Limit is limit.
func Limit(sizeBytes int64) time.Duration { return limit(sizeBytes) }
