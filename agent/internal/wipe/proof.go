package wipe

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"unsafe"
)

// What is read of a disk: partition tables, the metadata of arrays and volumes and
// most file systems' begin and end are in the first and the last MiB.
const (
	blockBytes = 4096
	endBlocks  = 1 << 20 / blockBytes // at each end
	anywhere   = 1000                 // blocks, at random
)

// block is one block of a disk, as it was when it was read.
type block struct {
	at    int64
	sum   [sha256.Size]byte
	blank bool  // all its bits are 0, or all are 1
	err   error // it cannot be read
}

// places are where the samples of a disk are, in their order. The last ones are
// counted from the end, which need not be a multiple of a block.
func places(sizeBytes int64, random func(n int64) int64) []int64 {
	blocks := sizeBytes / blockBytes
	if blocks == 0 {
		return nil
	}
	var all []int64
	for i := range min(blocks, endBlocks) {
		all = append(all, i*blockBytes, sizeBytes-(i+1)*blockBytes)
	}
	for range anywhere {
		all = append(all, random(blocks)*blockBytes)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func placesOf(blocks []block) []int64 {
	var all []int64
	for _, b := range blocks {
		all = append(all, b.at)
	}
	return all
}

// maxUnreadable is how many blocks are tried that cannot be read: each may take
// the kernel minutes.
const maxUnreadable = 8

// read reads blocks. Those that cannot be read say so themselves; after several,
// those that follow are not tried.
func read(ctx context.Context, disk Disk, places []int64) ([]block, error) {
	buf, bad := aligned(blockBytes), error(nil)
	blocks, unreadable := make([]block, len(places)), 0
	for i, at := range places {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		b := block{at: at, err: bad}
		if unreadable < maxUnreadable {
			_, b.err = disk.ReadAt(buf, at)
		}
		if b.err != nil {
			bad = b.err
			unreadable++
		} else {
			b.sum, b.blank = sha256.Sum256(buf), blank(buf)
		}
		blocks[i] = b
	}
	return blocks, nil
}

func blank(text []byte) bool {
	return (text[0] == 0 || text[0] == 0xff) && bytes.Count(text, text[:1]) == len(text)
}

// compare says how many samples held data before, and refuses those that do not
// show now that it is gone: that the drive says so is not enough. A block that
// cannot be read shows nothing.
func compare(before, after []block) (held int, err error) {
	kept, other, first := 0, 0, block{at: -1}
	for i, b := range after {
		was := before[i]
		if was.err == nil && !was.blank {
			held++
		}
		switch {
		case b.err != nil:
			return held, fmt.Errorf("byte %d cannot be read back: %w", b.at, b.err)
		case b.blank:
			continue
		case was.err == nil && was.sum == b.sum:
			kept++
		default:
			other++
		}
		if first.at < 0 {
			first = b
		}
	}
	switch {
	case len(after) == 0:
		return 0, fmt.Errorf("it is smaller than %d bytes: nothing was read back", blockBytes)
	case kept > 0:
		return held, fmt.Errorf("%d of %d blocks still hold what was there before, the first at byte %d", kept+other, len(after), first.at)
	case other > 0:
		return held, fmt.Errorf("%d of %d blocks hold something else than zeros or ones, the first at byte %d", other, len(after), first.at)
	}
	return held, nil
}

// aligned is memory that begins at a page, as O_DIRECT wants it.
func aligned(n int) []byte {
	buf := make([]byte, n+blockBytes)
	skip := -int(uintptr(unsafe.Pointer(&buf[0]))) & (blockBytes - 1)
	return buf[skip : skip+n : skip+n]
}

// nothing is what is written over disks, at once.
var nothing = aligned(1 << 20)
