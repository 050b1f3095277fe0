// An MCP server as lenient as hand-written ones get: `lenient PORT`.
//
// It reads with encoding/json (member names in any case, the last one wins), ignores the HTTP
// method, path, media type and MCP headers, inflates gzip and deflate, honours a charset and byte
// order marks, runs batches and every document of a body, and never asks for an id. `GET
// /executed` lists the tools that ran, in order.
package main

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"encoding/binary"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"unicode/utf16"
)

type message struct {
	ID     json.RawMessage
	Method string
	Params struct {
		Name string
	}
}

var (
	mutex    sync.Mutex
	executed = []string{}
)

// call runs a tool: it keeps the name.
func call(name string) {
	mutex.Lock()
	defer mutex.Unlock()
	executed = append(executed, name)
}

// inflate undoes Content-Encoding.
func inflate(encoding string, body []byte) []byte {
	var reader io.Reader
	var err error
	switch strings.ToLower(strings.TrimSpace(encoding)) {
	case "gzip", "x-gzip":
		reader, err = gzip.NewReader(bytes.NewReader(body))
	case "deflate":
		if reader, err = zlib.NewReader(bytes.NewReader(body)); err != nil {
			reader, err = flate.NewReader(bytes.NewReader(body)), nil
		}
	default:
		return body
	}
	if err != nil {
		return body
	}
	plain, err := io.ReadAll(reader)
	if err != nil {
		return body
	}
	return plain
}

// decode turns UTF-16 and UTF-32, told by mark or zero bytes, and UTF-8 with a mark into UTF-8.
func decode(body []byte) []byte {
	body = bytes.TrimPrefix(body, []byte("\xef\xbb\xbf"))
	width, order := 0, binary.ByteOrder(binary.LittleEndian)
	switch {
	case bytes.HasPrefix(body, []byte("\xff\xfe\x00\x00")):
		body, width = body[4:], 4
	case bytes.HasPrefix(body, []byte("\x00\x00\xfe\xff")):
		body, width, order = body[4:], 4, binary.BigEndian
	case bytes.HasPrefix(body, []byte("\xff\xfe")):
		body, width = body[2:], 2
	case bytes.HasPrefix(body, []byte("\xfe\xff")):
		body, width, order = body[2:], 2, binary.BigEndian
	case len(body) > 3 && body[0] == 0 && body[1] == 0:
		width, order = 4, binary.BigEndian
	case len(body) > 3 && body[1] == 0 && body[2] == 0:
		width = 4
	case len(body) > 3 && body[0] == 0:
		width, order = 2, binary.BigEndian
	case len(body) > 3 && body[1] == 0:
		width = 2
	default:
		return body
	}
	var text []rune
	var units []uint16
	for ; len(body) >= width; body = body[width:] {
		if width == 4 {
			text = append(text, rune(order.Uint32(body)))
		} else {
			units = append(units, order.Uint16(body))
		}
	}
	return []byte(string(append(text, utf16.Decode(units)...)))
}

// run executes every message of a body.
func run(body []byte) {
	documents := json.NewDecoder(bytes.NewReader(body))
	for {
		var raw json.RawMessage
		if documents.Decode(&raw) != nil {
			return
		}
		batch := []json.RawMessage{raw}
		if raw[0] == '[' {
			batch = nil
			_ = json.Unmarshal(raw, &batch)
		}
		for _, each := range batch {
			var one message
			_ = json.Unmarshal(each, &one) // what could be read is kept
			if one.Method == "tools/call" || one.Method == "call_tool" {
				call(one.Params.Name)
			}
		}
	}
}

func main() {
	answer := func(response http.ResponseWriter, request *http.Request) {
		response.Header().Set("Content-Type", "application/json")
		mutex.Lock()
		told, _ := json.Marshal(executed)
		mutex.Unlock()
		if request.URL.Path == "/executed" {
			_, _ = response.Write(told)
			return
		}
		body, _ := io.ReadAll(request.Body)
		run(decode(inflate(request.Header.Get("Content-Encoding"), body)))
		_, _ = response.Write([]byte(`{"jsonrpc":"2.0","id":1,"result":{}}`))
	}
	// Not http.HandleFunc, whose router would clean the path with a redirect.
	_ = http.ListenAndServe("127.0.0.1:"+os.Args[1], http.HandlerFunc(answer))
}
