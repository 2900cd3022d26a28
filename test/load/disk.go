package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"example.com/threepid/store"
	"example.com/threepid/store/sqlite"
)

// printDisk prints the speed of the disk: the fresh request of a lone caller waits for two commits.
func printDisk(ctx context.Context, dir string, out io.Writer) error {
	sync, err := syncTime(dir)
	if err != nil {
		return err
	}
	commit, err := commitTime(ctx, dir)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "4 KiB written and synced in %v, a commit of one row in %v (medians)\n", sync, commit)
	return err
}

const samples = 301

// syncTime returns the median time to overwrite and sync 4 KiB.
func syncTime(dir string) (d time.Duration, err error) {
	f, err := os.Create(filepath.Join(dir, "sync"))
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	page := make([]byte, 4<<10)
	return medianTime(func() error {
		if _, err := f.WriteAt(page, 0); err != nil {
			return err
		}
		return f.Sync()
	})
}

// commitTime returns the median time of the smallest unit of work that writes.
func commitTime(ctx context.Context, dir string) (d time.Duration, err error) {
	s, err := sqlite.Open(filepath.Join(dir, "commit.db"))
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	one := store.Session{Key: store.Key{1}, SID: "sid", Nonce: []byte{}}
	attempt := int64(0)
	return medianTime(func() error {
		attempt++
		one.Attempt = attempt
		return put(ctx, s, one)
	})
}

func medianTime(do func() error) (time.Duration, error) {
	took := make([]time.Duration, samples)
	for i := range took {
		begin := time.Now()
		if err := do(); err != nil {
			return 0, err
		}
		took[i] = time.Since(begin)
	}
	return median(took).Round(time.Microsecond), nil
}
