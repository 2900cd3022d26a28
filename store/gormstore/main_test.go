package gormstore_test

import (
	"flag"
	"testing"
)

func TestMain(m *testing.M) {
	// Most of these tests wait for a lock or a sync. The flag -parallel still overrides this.
	if err := flag.Set("test.parallel", "16"); err != nil {
		panic(err)
	}
	m.Run()
}
