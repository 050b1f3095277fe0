package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
)

const answer = `{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"ok"}],"isError":false}}`

// upstream answers every request alike. It reads HTTP/1.1 no further than it must, so that it
// takes little of the machine that it shares with what is measured.
func upstream(arguments []string) error {
	flags := flag.NewFlagSet("upstream", flag.ExitOnError)
	flags.Parse(arguments)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	response := []byte(fmt.Sprintf(
		"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s",
		len(answer), answer))
	for {
		connection, err := listener.Accept()
		if err != nil {
			return err
		}
		go serve(connection, response)
	}
}

func serve(connection net.Conn, response []byte) {
	defer connection.Close()
	reader := bufio.NewReaderSize(connection, 16<<10)
	for {
		if _, err := readMessage(reader); err != nil {
			return
		}
		if _, err := connection.Write(response); err != nil {
			return
		}
	}
}

// ingest takes newline-delimited events as Sentinel's ingest does; GET tells how many calls came
// to that path.
func ingest(arguments []string) error {
	flags := flag.NewFlagSet("ingest", flag.ExitOnError)
	flags.Parse(arguments)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	return http.Serve(listener, &counts{seen: map[string]*trail{}})
}

// counts keeps one trail for each path.
type counts struct {
	lock sync.Mutex
	seen map[string]*trail
}

// trail knows each event by its place in the sequence, so that one that comes twice counts once.
type trail struct {
	sequences map[int64]bool
	calls     int64
	joined    int64
}

func (all *counts) ServeHTTP(writer http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(request.Body)
	if err != nil {
		return
	}
	all.lock.Lock()
	defer all.lock.Unlock()
	seen := all.seen[request.URL.Path]
	if seen == nil {
		seen = &trail{sequences: map[int64]bool{}}
		all.seen[request.URL.Path] = seen
	}
	if request.Method == http.MethodGet {
		json.NewEncoder(writer).Encode(map[string]int64{"calls": seen.calls, "joined": seen.joined})
		return
	}
	for line := range bytes.Lines(body) {
		if err := seen.take(line); err != nil {
			http.Error(writer, err.Error(), http.StatusBadRequest)
			return
		}
	}
	writer.WriteHeader(http.StatusAccepted)
	io.WriteString(writer, `{"ok": true}`)
}

var (
	sequenceKey = []byte(`"sequence":`)
	callType    = []byte(`"event_type":"mcp.request"`)
	statusKey   = []byte(`"status":`)
)

// take looks for members by their names instead of parsing the event: a store on the same cores
// would be measured with the decision point.
func (seen *trail) take(line []byte) error {
	_, after, found := bytes.Cut(line, sequenceKey)
	if !found {
		return fmt.Errorf("an event without sequence")
	}
	var sequence int64
	for _, digit := range after {
		if digit < '0' || digit > '9' {
			break
		}
		sequence = sequence*10 + int64(digit-'0')
	}
	if seen.sequences[sequence] {
		return nil
	}
	seen.sequences[sequence] = true
	if bytes.Contains(line, callType) {
		seen.calls++
		if bytes.Contains(line, statusKey) {
			seen.joined++
		}
	}
	return nil
}
