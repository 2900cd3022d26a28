package phone

import "sync"

// cacheHalf is how many numbers each half of a Cache holds: some hundred kilobytes in
// all.
const cacheHalf = 2048

// Cache remembers the numbers that were parsed last. Retries and resends have the same
// spelling, submitToken needs the E.164 form, and parsing takes longer than finding that
// an attempt was sent. The zero value is empty.
type Cache struct {
	mu         sync.Mutex
	young, old map[spelling]Number // when the young are enough, they replace the old
}

// spelling is a number as a client writes it, unformatted.
type spelling struct{ phoneNumber, country string }

// Parse is the function Parse, with a memory.
func (c *Cache) Parse(phoneNumber, country string) (Number, error) {
	key := spelling{unformatted(phoneNumber), country}
	if n, ok := c.find(key); ok {
		return n, nil
	}
	n, err := Parse(phoneNumber, country)
	if err == nil {
		c.keep(n, key, spelling{phoneNumber: "+" + n.MSISDN})
	}
	return n, err
}

func (c *Cache) find(key spelling) (Number, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, ok := c.young[key]
	if !ok {
		n, ok = c.old[key]
	}
	return n, ok
}

func (c *Cache) keep(n Number, keys ...spelling) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, key := range keys {
		if c.young == nil || len(c.young) >= cacheHalf {
			c.old, c.young = c.young, make(map[spelling]Number)
		}
		c.young[key] = n
	}
}
