package detect

import (
	"context"
	"errors"
	"strconv"
	"strings"
)

// gigabytes converts "93.1 GB" to "93.1" and "1.8 TB" to "1800"; what has
// another unit stays, without blanks.
func gigabytes(size string) string {
	size = strings.ReplaceAll(size, " ", "")
	if number, ok := strings.CutSuffix(size, "GB"); ok {
		return number
	}
	if number, ok := strings.CutSuffix(size, "TB"); ok {
		if tb, err := strconv.ParseFloat(number, 64); err == nil {
			return strconv.FormatInt(int64(tb*1000), 10)
		}
	}
	return size
}

// firstProgram runs the first of several programs that is there; name is ""
// where none is. Some exit with the number of their controllers.
func firstProgram(ctx context.Context, r reader, names []string, args ...string) (name, text string, err error) {
	for _, name := range names {
		out, err := r.run(ctx, append([]string{name}, args...)...)
		if !errors.Is(err, errNoProgram) {
			return name, out.Text, err
		}
	}
	return "", "", nil
}

// mostControllers bounds what a tool may claim.
const mostControllers = 32

// mostSlots bounds what an enclosure or controller may claim.
const mostSlots = 256
