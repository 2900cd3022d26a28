package properties_test

import (
	"flag"
	"testing"
)

func TestMain(m *testing.M) {
	// Short schedules find little. Both settings replace those of the command line.
	for name, value := range map[string]string{"rapid.checks": "1000", "rapid.steps": "80"} {
		if err := flag.Set(name, value); err != nil {
			panic(err)
		}
	}
	m.Run()
}
