package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"
)

// load sends the request that it reads from stdin, over and over, on connections that each wait
// for their answer, and prints calls, seconds and latencies as JSON.
func load(arguments []string) error {
	flags := flag.NewFlagSet("load", flag.ExitOnError)
	address := flags.String("address", "", "host:port to call")
	connections := flags.Int("connections", 1, "connections, each with one call in flight")
	warmup := flags.Float64("warmup", 0, "seconds of load before those that count")
	seconds := flags.Float64("seconds", 1, "how long to go on")
	want := flags.String("want", "", "text that every answer must hold")
	flags.Parse(arguments)
	request, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	workers := make([]*worker, *connections)
	for place := range workers {
		connection, err := net.Dial("tcp", *address)
		if err != nil {
			return err
		}
		workers[place] = &worker{connection: connection, request: request, want: []byte(*want)}
	}
	begin := time.Now().Add(time.Duration(*warmup * float64(time.Second)))
	until := begin.Add(time.Duration(*seconds * float64(time.Second)))
	var group sync.WaitGroup
	for _, each := range workers {
		group.Add(1)
		go func() {
			defer group.Done()
			each.run(begin, until)
		}()
	}
	group.Wait()
	return report(workers, time.Since(begin))
}

type worker struct {
	connection net.Conn
	request    []byte
	want       []byte
	warm       int
	took       []time.Duration
	err        error
}

func (w *worker) run(from, until time.Time) {
	defer w.connection.Close()
	reader := bufio.NewReaderSize(w.connection, 16<<10)
	w.took = make([]time.Duration, 0, 1<<16)
	for begin := time.Now(); begin.Before(until); {
		if _, w.err = w.connection.Write(w.request); w.err != nil {
			return
		}
		var body []byte
		if body, w.err = readMessage(reader); w.err != nil {
			return
		}
		if !bytes.Contains(body, w.want) {
			w.err = fmt.Errorf("unexpected answer: %.300s", body)
			return
		}
		now := time.Now()
		if begin.After(from) {
			w.took = append(w.took, now.Sub(begin))
		} else {
			w.warm++
		}
		begin = now
	}
}

func report(workers []*worker, elapsed time.Duration) error {
	var took []time.Duration
	warm := 0
	for _, each := range workers {
		if each.err != nil {
			return each.err
		}
		took = append(took, each.took...)
		warm += each.warm
	}
	if len(took) == 0 {
		return errors.New("no call was answered")
	}
	slices.Sort(took)
	at := func(share float64) float64 {
		return float64(took[int(share*float64(len(took)-1))].Nanoseconds()) / 1e3
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]float64{
		"calls": float64(len(took)), "warm_calls": float64(warm), "seconds": elapsed.Seconds(),
		"p50_us": at(0.50), "p99_us": at(0.99), "max_us": at(1),
	})
}

var lengthKey = []byte("content-length:")

// readMessage reads one HTTP/1.1 message that says its length, and returns its body.
func readMessage(reader *bufio.Reader) ([]byte, error) {
	length := 0
	for {
		line, err := reader.ReadSlice('\n')
		if err != nil {
			return nil, err
		}
		if len(line) <= 2 {
			break
		}
		if len(line) > len(lengthKey) && bytes.EqualFold(line[:len(lengthKey)], lengthKey) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(line[len(lengthKey):]))); err != nil {
				return nil, err
			}
		}
	}
	body, err := reader.Peek(length)
	if err != nil {
		return nil, err
	}
	_, err = reader.Discard(length)
	return body, err
}
