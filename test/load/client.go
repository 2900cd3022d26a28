package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// client is one connection that sends one request after the other. It does not use net/http, whose
// client needs about as much of the shared processors as the server that is measured.
type client struct {
	conn    net.Conn
	reader  *bufio.Reader
	request bytes.Buffer
	answer  []byte

	from string // the address in X-Forwarded-For; none if empty
}

// requestTimeout is longer than any response should take, and ends a measurement that hangs.
const requestTimeout = 30 * time.Second

func dial(addr string) (*client, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	return &client{conn: conn, reader: bufio.NewReader(conn)}, nil
}

// expect posts a body to a path and returns the body of the response, which is valid until the next
// call. Any other status is an error.
func (c *client) expect(status int, path string, body []byte) ([]byte, error) {
	got, err := c.post(path, body)
	if err == nil && got != status {
		err = fmt.Errorf("%s returned %d, not %d: %.200s", path, got, status, c.answer)
	}
	return c.answer, err
}

// post sends a body to a path and returns the status of the response.
func (c *client) post(path string, body []byte) (status int, err error) {
	if err := c.conn.SetDeadline(time.Now().Add(requestTimeout)); err != nil {
		return 0, err
	}
	c.request.Reset()
	fmt.Fprintf(&c.request, "POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n", path, len(body))
	if c.from != "" {
		c.request.WriteString("X-Forwarded-For: " + c.from + "\r\n")
	}
	c.request.WriteString("\r\n")
	c.request.Write(body)
	if _, err := c.conn.Write(c.request.Bytes()); err != nil {
		return 0, err
	}
	return c.readResponse()
}

// readResponse reads a response with a Content-Length, like those of these servers.
func (c *client) readResponse() (status int, err error) {
	line, err := c.reader.ReadSlice('\n')
	if err != nil {
		return 0, err
	}
	const statusStart, statusEnd = len("HTTP/1.1 "), len("HTTP/1.1 200")
	if len(line) < statusEnd {
		return 0, errors.New("the response is not HTTP/1.1")
	}
	if status, err = strconv.Atoi(string(line[statusStart:statusEnd])); err != nil {
		return 0, err
	}
	length := -1
	for {
		line, err := c.reader.ReadSlice('\n')
		if err != nil {
			return 0, err
		}
		if len(bytes.TrimSpace(line)) == 0 {
			break
		}
		if name, value, ok := bytes.Cut(line, []byte(":")); ok && bytes.EqualFold(name, []byte("Content-Length")) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return 0, err
			}
		}
	}
	if length < 0 {
		return 0, errors.New("the response has no Content-Length")
	}
	if cap(c.answer) < length {
		c.answer = make([]byte, length)
	}
	c.answer = c.answer[:length]
	_, err = io.ReadFull(c.reader, c.answer)
	return status, err
}
