// Command perf holds what the benchmark measures against and with: `authz` is an
// always-allow ext_authz server, the practical limit of this architecture; `upstream` answers
// every request with the same bytes; `ingest` takes events and counts them; `load` sends
// calls and times them.
package main

import (
	"fmt"
	"os"
)

func main() {
	commands := map[string]func([]string) error{
		"authz":    authz,
		"upstream": upstream,
		"ingest":   ingest,
		"load":     load,
	}
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: perf authz|upstream|ingest|load …")
		os.Exit(2)
	}
	if err := commands[os.Args[1]](os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "perf:", err)
		os.Exit(1)
	}
}
