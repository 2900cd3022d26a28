package gormstore_test

import (
	"flag"
	"testing"
)

func TestMain(m *testing.M) {
	// Most of these tests wait for a lock or a sync. This replaces -parallel.
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	m.Run()
}
