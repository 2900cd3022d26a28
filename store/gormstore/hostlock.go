package gormstore

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"
)

const (
	// lockPatience is how long a call from within a GORM transaction waits for a lock that the
	// transaction may hold itself.
	lockPatience = time.Second

	// connectionPatience is how long a call waits for SQLite's only connection.
	connectionPatience = 10 * time.Second
)

// errHostLock means that a call probably waits for its own caller.
var errHostLock = errors.New("gormstore: SQLite's lock or only connection is not free, and a transaction of the host's may hold it; " +
	"inside a transaction call Plugin.RedeemTx, and call everything else before or after it")

// expectNoHostLock returns an error if the calling goroutine is in a function that was passed to
// GORM's Transaction, and the lock or connection that the call needs does not become free. On
// SQLite such a call would otherwise wait for the lock until it times out, or for the only
// connection indefinitely.
//
// If the transaction is in another database, the lock is free.
func (p *pool) expectNoHostLock(ctx context.Context, lock bool) error {
	if !p.sqlite || !lock && p.db.Stats().MaxOpenConnections != 1 || !inTransaction() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, lockPatience)
	free := make(chan struct{})
	go func() { // SQLite ignores the context while it waits for a lock
		defer cancel()
		for ctx.Err() == nil {
			if p.isFree(ctx, lock) {
				close(free)
				return
			}
		}
	}()
	select {
	case <-free:
		return nil
	case <-ctx.Done():
		return errHostLock
	}
}

// await returns an error if a statement would wait for its own caller, or too long for SQLite's
// only connection.
func (p *pool) await(ctx context.Context, lock bool) error {
	if err := p.expectNoHostLock(ctx, lock); err != nil {
		return err
	}
	return p.awaitConnection(ctx)
}

// isFree reports whether a connection and, if lock is set, the write lock are available.
func (p *pool) isFree(ctx context.Context, lock bool) bool {
	conn, err := p.db.Conn(ctx)
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close() }()
	if !lock {
		return true
	}
	tx, err := conn.BeginTx(context.WithoutCancel(ctx), &p.options)
	if err != nil {
		return false
	}
	defer func() { _ = tx.Rollback() }()
	_, err = tx.ExecContext(context.WithoutCancel(ctx), beginWrite)
	return err == nil
}

// awaitConnection bounds the wait for SQLite's only connection: the transaction that holds it may
// be waiting for this call.
func (p *pool) awaitConnection(ctx context.Context) error {
	if !p.sqlite || p.db.Stats().MaxOpenConnections != 1 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, connectionPatience)
	defer cancel()
	conn, err := p.db.Conn(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", errHostLock, err)
	}
	if err != nil {
		return err
	}
	return conn.Close()
}

// inTransaction reports whether the calling goroutine is in a function that was passed to GORM's
// Transaction.
func inTransaction() bool {
	const skip, depth = 3, 128 // runtime.Callers, this function and its caller
	var callers [depth]uintptr
	for _, pc := range callers[:runtime.Callers(skip, callers[:])] {
		if f := runtime.FuncForPC(pc - 1); f != nil && f.Name() == "gorm.io/gorm.(*DB).Transaction" {
			return true
		}
	}
	return false
}
