package plugintest

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"gorm.io/gorm"

	"example.com/threepid"
)

// HostDatabase opens a new, empty database of a host, and a store over it.
type HostDatabase = func(testing.TB) (*gorm.DB, Store)

// member is a row of the host's own table.
type member struct {
	Name  string `gorm:"primaryKey;size:64"`
	Phone string `gorm:"size:20"`
}

// RunRedeemTx runs the tests of RedeemTx as parallel subtests of t. SQLite has one writer, so there
// the tests do not expect others to write while a host's transaction is open.
func RunRedeemTx(t *testing.T, open HostDatabase) {
	t.Helper()
	gin.SetMode(gin.TestMode)
	for name, run := range map[string]func(*testing.T, *gorm.DB, *node){
		"CommitsWithTheHost":       testRedeemTxCommits,
		"FailedInsertLosesNothing": testRedeemTxFailedInsert,
		"RefusalsLeaveTheHostWork": testRedeemTxRefuses,
		"OneSucceeds":              testRedeemTxOnce,
		"VoidAfterARelease":        testRedeemTxVoid,
		"ReleaseWaits":             testRedeemTxReleaseWaits,
		"OthersGoOn":               testRedeemTxOthersGoOn,
		"NeedsATransaction":        testRedeemTxNeedsATransaction,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, st := open(t)
			if err := db.AutoMigrate(&member{}); err != nil {
				t.Fatal(err)
			}
			run(t, db, start(t, st))
		})
	}
}

// register is what a host does at registration: it redeems the validation and inserts the account.
func (n *node) register(t *testing.T, db *gorm.DB, name, sid string) error {
	t.Helper()
	return db.Transaction(func(tx *gorm.DB) error {
		v, err := n.plugin.RedeemTx(t.Context(), tx, sid, secret)
		if err != nil {
			return err
		}
		return tx.Create(&member{Name: name, Phone: v.MSISDN}).Error
	})
}

func expectMembers(t *testing.T, db *gorm.DB, want int64) {
	t.Helper()
	var got int64
	if err := db.Model(&member{}).Count(&got).Error; err != nil || got != want {
		t.Errorf("the host has %d members, error %v; want %d", got, err, want)
	}
}

func (n *node) expectTaken(t *testing.T, sid, clientSecret string) {
	t.Helper()
	if v, err := n.plugin.Redeem(t.Context(), sid, clientSecret); !errors.Is(err, threepid.ErrNoSession) {
		t.Errorf("Redeem of what was taken: %+v, %v", v, err)
	}
}

func testRedeemTxCommits(t *testing.T, db *gorm.DB, n *node) {
	sid := n.validatedBy(secret, regPath, 1)
	if err := n.register(t, db, "alice", sid); err != nil {
		t.Fatal(err)
	}
	n.expectTaken(t, sid, secret)
	if err := n.register(t, db, "mallory", sid); !errors.Is(err, threepid.ErrNoSession) {
		t.Errorf("a second RedeemTx: %v", err)
	}
	expectMembers(t, db, 1)
	var alice member
	if err := db.Take(&alice).Error; err != nil || alice.Phone != msisdn {
		t.Errorf("alice is %+v, error %v", alice, err)
	}
}

func testRedeemTxFailedInsert(t *testing.T, db *gorm.DB, n *node) {
	if err := db.Create(&member{Name: "alice"}).Error; err != nil {
		t.Fatal(err)
	}
	sid := n.validatedBy(secret, regPath, 1)
	if err := n.register(t, db, "alice", sid); err == nil {
		t.Fatal("a second alice was inserted")
	}
	if _, err := n.plugin.Validated(t.Context(), sid, secret); err != nil {
		t.Errorf("Validated after the host rolled back: %v", err)
	}
	if err := n.register(t, db, "bob", sid); err != nil {
		t.Errorf("RedeemTx after the host rolled back: %v", err)
	}
	expectMembers(t, db, 2)
}

// testRedeemTxRefuses continues a host's transaction after a refusal: the transaction is still
// usable, although some databases end one in which a statement failed.
func testRedeemTxRefuses(t *testing.T, db *gorm.DB, n *node) {
	sid := n.mustRequest(regPath, request(nil)).text("sid")
	err := db.Transaction(func(tx *gorm.DB) error {
		for _, one := range []struct {
			sid, secret string
			want        error
		}{{sid, secret, threepid.ErrNotValidated}, {sid, "another", threepid.ErrNoSession}, {"unknown", secret, threepid.ErrNoSession}} {
			if v, err := n.plugin.RedeemTx(t.Context(), tx, one.sid, one.secret); !errors.Is(err, one.want) {
				t.Errorf("RedeemTx: %+v, %v; want %v", v, err, one.want)
			}
		}
		return tx.Create(&member{Name: "alice"}).Error
	})
	if err != nil {
		t.Errorf("the host's own work: %v", err)
	}
	expectMembers(t, db, 1)
}

func testRedeemTxOnce(t *testing.T, db *gorm.DB, n *node) {
	const callers = 8
	sid := n.validatedBy(secret, regPath, 1)
	var won atomic.Int64
	together(callers, func(i int) {
		var err error
		if i%2 == 0 {
			err = n.register(t, db, fmt.Sprint("user", i), sid)
		} else {
			_, err = n.plugin.Redeem(t.Context(), sid, secret)
		}
		switch {
		case err == nil:
			won.Add(1)
		case !errors.Is(err, threepid.ErrNoSession):
			t.Errorf("caller %d: %v", i, err)
		}
	})
	if won.Load() != 1 {
		t.Errorf("%d of %d callers got the validation", won.Load(), callers)
	}
}

func testRedeemTxVoid(t *testing.T, db *gorm.DB, n *node) {
	sid := n.validatedBy(secret, regPath, 1)
	n.release(t)
	if err := n.register(t, db, "alice", sid); !errors.Is(err, threepid.ErrNotValidated) {
		t.Errorf("RedeemTx after the number was released: %v", err)
	}
	expectMembers(t, db, 0)
}

// open runs a host's transaction that stays open after RedeemTx while a function runs, and then
// commits.
func (n *node) openTx(t *testing.T, db *gorm.DB, sid string, while func()) {
	t.Helper()
	err := db.Transaction(func(tx *gorm.DB) error {
		// An absent session must lock nothing: new sessions are inserted in its place.
		if _, err := n.plugin.RedeemTx(t.Context(), tx, "zzzz", secret); !errors.Is(err, threepid.ErrNoSession) {
			t.Errorf("RedeemTx of an unknown session: %v", err)
		}
		if _, err := n.plugin.RedeemTx(t.Context(), tx, sid, secret); err != nil {
			return err
		}
		while()
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// testRedeemTxReleaseWaits releases the number while the transaction is open: neither the release
// nor the validation is lost.
func testRedeemTxReleaseWaits(t *testing.T, db *gorm.DB, n *node) {
	for _, before := range []string{"never released", "released before"} {
		clientSecret := strings.ReplaceAll(before, " ", "_")
		if before == "released before" {
			n.release(t)
		}
		kept := n.validatedBy(clientSecret, regPath, 1)
		sid := n.validatedBy(secret, regPath, len(before)) // a greater attempt
		released := make(chan struct{})
		n.openTx(t, db, sid, func() {
			go func() {
				defer close(released)
				n.release(t)
			}()
			select {
			case <-released:
				t.Errorf("%s: the release overtook the transaction", before)
			case <-time.After(300 * time.Millisecond):
			}
		})
		<-released
		if _, err := n.plugin.Validated(t.Context(), kept, clientSecret); !errors.Is(err, threepid.ErrNotValidated) {
			t.Errorf("%s: Validated after the release: %v", before, err)
		}
	}
}

// testRedeemTxOthersGoOn keeps a host's transaction open for two seconds. Other clients and hosts
// continue; only calls that need this session wait.
func testRedeemTxOthersGoOn(t *testing.T, db *gorm.DB, n *node) {
	if db.Name() == "sqlite" {
		return // there is one writer
	}
	const long, others = 2 * time.Second, 8
	sid := n.validatedBy(secret, regPath, 1)
	waited := make(chan time.Duration, 1)
	n.openTx(t, db, sid, func() {
		begun := time.Now()
		go func() {
			n.expectTaken(t, sid, secret)
			waited <- time.Since(begun)
		}()
		for i := range others {
			number := mobile(1, i)
			body := request(map[string]any{"country": "", "phone_number": number})
			one := n.mustRequest(regPath, body).text("sid")
			expect(t, n.submit(one, secret, n.token()), http.StatusOK, "")
			if _, err := n.plugin.Redeem(t.Context(), one, secret); err != nil {
				t.Errorf("Redeem for another number: %v", err)
			}
			if err := n.plugin.ReleaseNumber(t.Context(), number); err != nil && !errors.Is(err, threepid.ErrNoAccount) {
				t.Errorf("Release of another number: %v", err)
			}
		}
		// By now, calls that waited for the transaction have failed after ten seconds.
		time.Sleep(long - time.Since(begun))
	})
	if took := <-waited; took < long {
		t.Errorf("Redeem of the same session waited for %v, and the transaction took %v", took, long)
	}
}

func testRedeemTxNeedsATransaction(t *testing.T, db *gorm.DB, n *node) {
	sid := n.validatedBy(secret, regPath, 1)
	for name, handle := range map[string]*gorm.DB{"the database itself": db, "nil": nil} {
		if _, err := n.plugin.RedeemTx(t.Context(), handle, sid, secret); err == nil || !strings.Contains(err.Error(), "transaction") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := n.plugin.Redeem(t.Context(), sid, secret); err != nil {
		t.Errorf("Redeem afterwards: %v", err)
	}
}
