package history_test

import (
	"os"
	"testing"
	"time"

	"example.com/threepid/store/memstore"
)

// duration is how long each workload runs: THREEPID_TEST_HISTORY, such as 2m, or the
// default.
func duration(t *testing.T, byDefault time.Duration) time.Duration {
	t.Helper()
	text := os.Getenv("THREEPID_TEST_HISTORY")
	if text == "" {
		return byDefault
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("THREEPID_TEST_HISTORY: %v", err)
	}
	return d
}

func TestMemory(t *testing.T) {
	t.Parallel()
	c := newMemoryCluster(t, memstore.New(), 0, time.Second, 2*time.Second)
	c.run(t, duration(t, 5*time.Second), 8)
	c.history.expectLegal(t)
}

// TestFile runs two nodes in this process, and one that is repeatedly killed. No node is stopped,
// because a stopped node would hold the lock of the file.
func TestFile(t *testing.T) {
	t.Parallel()
	c := newCluster(t, newFile(t), "")
	c.startHere(0)
	c.startHere(2 * time.Second)
	killed := c.startProcess(time.Second)
	d := duration(t, 8*time.Second)
	ended := background(d, 2*time.Second, func() {
		time.Sleep(time.Second)
		c.kill(killed)
		killed = c.startProcess(time.Second)
	})
	c.run(t, d, 8)
	<-ended
	c.history.expectLegal(t)
}

func TestPostgreSQL(t *testing.T) {
	t.Parallel()
	d, address := newPostgres(t)
	testServer(t, d, address)
}

func TestMySQL(t *testing.T) {
	t.Parallel()
	d, address := newMySQL(t)
	testServer(t, d, address)
}

// testServer injects all faults: one node is cut off from the database, the connections of another
// freeze, one is stopped briefly, one is stopped for longer than a lease, and one is killed.
func testServer(t *testing.T, d database, address string) {
	t.Helper()
	c := newCluster(t, d, address)
	cut, frozen := c.startHere(0), c.startHere(2*time.Second)
	killed, stopped := c.startProcess(time.Second), c.startProcess(1500*time.Millisecond)
	whole := duration(t, 12*time.Second)
	cuts := background(whole, 5*time.Second, func() {
		time.Sleep(time.Second)
		c.cut(cut, 1500*time.Millisecond)
		time.Sleep(time.Second)
		c.freeze(frozen, time.Second)
	})
	kills := background(whole, 5*time.Second, func() {
		time.Sleep(2 * time.Second)
		c.stop(killed, time.Second)
		time.Sleep(time.Second)
		c.kill(killed)
		killed = c.startProcess(time.Second)
	})
	stops := background(whole, lease+4*time.Second, func() {
		time.Sleep(3 * time.Second)
		c.stop(stopped, lease+time.Second)
	})
	c.run(t, whole, 10)
	<-cuts
	<-kills
	<-stops
	c.history.expectLegal(t)
}

// background repeats do, which takes about a cycle, as often as it fits into d, and then closes the
// channel.
func background(d, cycle time.Duration, do func()) <-chan struct{} {
	ended := make(chan struct{})
	last := time.Now().Add(d - cycle)
	go func() {
		defer close(ended)
		for time.Now().Before(last) {
			do()
		}
	}()
	return ended
}
