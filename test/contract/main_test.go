package contract_test

import (
	"flag"
	"testing"
)

func TestMain(m *testing.M) {
	// Most of these tests wait. The flag -parallel still overrides this.
	if err := flag.Set("test.parallel", "16"); err != nil {
		panic(err)
	}
	m.Run()
}
