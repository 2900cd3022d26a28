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

// client is one connection that asks one question after the other. It is
// written by hand because it shares the processors with what it measures:
// net/http's takes about as much of them as the server's.
type client struct {
	conn    net.Conn
	reader  *bufio.Reader
	request bytes.Buffer
}

// requestTimeout is more than any answer should take, and ends a measurement
// that hangs.
const requestTimeout = 30 * time.Second

func dial(addr string) (*client, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	return &client{conn: conn, reader: bufio.NewReader(conn)}, nil
}

// post sends a body to a path and returns the status of the answer.
func (c *client) post(path string, body []byte) (status int, err error) {
	if err := c.conn.SetDeadline(time.Now().Add(requestTimeout)); err != nil {
		return 0, err
	}
	c.request.Reset()
	fmt.Fprintf(&c.request, "POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", path, len(body))
	c.request.Write(body)
	if _, err := c.conn.Write(c.request.Bytes()); err != nil {
		return 0, err
	}
	return c.readAnswer()
}

// readAnswer reads an answer whose length is given, as the answers of these
// servers are.
func (c *client) readAnswer() (status int, err error) {
	line, err := c.reader.ReadSlice('\n')
	if err != nil {
		return 0, err
	}
	const statusStart, statusEnd = len("HTTP/1.1 "), len("HTTP/1.1 200")
	if len(line) < statusEnd {
		return 0, errors.New("the answer is not HTTP/1.1")
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
		return 0, errors.New("the answer has no Content-Length")
	}
	_, err = io.CopyN(io.Discard, c.reader, int64(length))
	return status, err
}
