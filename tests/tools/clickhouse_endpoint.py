"""ClickHouse's HTTP interface over chDB, in a process of its own.

A test double of the transport only: the engine behind it is the real one, the same
that a server runs. It serves what clickhouse-connect asks, can be killed and started
again on its folder, and fails on command (`Fault`). `CLICKHOUSE_TEST_URL` makes the
suites use a real server instead.

    python -m tests.tools.clickhouse_endpoint --path FOLDER [--port 0]

prints the port once it serves. chDB is opened after the process began, never forked.
"""

import argparse
import asyncio
import dataclasses
import json
import os
import resource
import signal
import subprocess
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from tests.tools.waiting import first_line

ROOT: Final = Path(__file__).parents[2]
SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What goes wrong with the next requests of a kind.

    Args:
        on: which requests it meets.
        times: how often; -1 for ever.
        before: seconds that the request waits before the engine sees it.
        after: seconds that the answer waits.
        code: this ClickHouse error code is answered, and the engine never asked.
        lose: the answer is lost after the engine did its work: what happened is unknown.
        die_after_parts: `kill -9` of the endpoint once the insert has made that many parts.
    """

    on: Literal["insert", "select", "any"] = "insert"
    times: int = 1
    before: float = 0.0
    after: float = 0.0
    code: int = 0
    lose: bool = False
    die_after_parts: int = 0


class ClickHouseEndpoint:
    """The process, seen from a test.

    Attributes:
        url: of the store, `clickhouse://127.0.0.1:port/mcp`; the same after every start.
    """

    def __init__(self, path: Path, port: int = 0) -> None:
        self.path, self._port = path, port
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"clickhouse://127.0.0.1:{self._port}/mcp"

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> "ClickHouseEndpoint":
        """Serve, on the port of before; after a kill the folder's lock is free at once."""
        arguments = ["--path", str(self.path), "--port", str(self._port)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.tools.clickhouse_endpoint", *arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        told = first_line(self._process, "the store's endpoint serves")
        assert told, "the endpoint ended at its start"
        self._port = int(told)
        return self

    def kill(self) -> None:
        """`kill -9`."""
        assert self._process
        self._process.kill()
        self.wait()

    def wait(self) -> None:
        """Until it has died, by `die_after_parts` for one."""
        assert self._process
        self._process.wait(SECONDS)

    def stop(self) -> None:
        if self._process and self.is_running:
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
            self.wait()

    def pause(self) -> None:
        """It hangs: connections stay open, and nothing is answered."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def limit_files(self, size: int) -> None:
        """No file may grow beyond so many bytes, as on a full disk; -1 lifts that."""
        resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    def fail(self, *faults: Fault) -> None:
        """From now on these, in this order; without any all is well again."""
        self._ask("faults", json.dumps([dataclasses.asdict(fault) for fault in faults]).encode())

    def inserts(self) -> int:
        """How many inserts were asked for since it started."""
        return int(self._ask("inserts"))

    def _ask(self, what: str, data: bytes | None = None) -> bytes:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._port}/-/{what}", data, method="PUT" if data else "GET"
        )
        with urllib.request.urlopen(request, timeout=SECONDS) as response:
            return bytes(response.read())

    def __enter__(self) -> "ClickHouseEndpoint":
        return self.start()

    def __exit__(self, *raised: object) -> None:
        self.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--path", required=True)
    parser.add_argument("--port", type=int, default=0)
    given = parser.parse_args()
    from tests.tools.clickhouse_http import serve

    asyncio.run(serve(given.path, given.port))


if __name__ == "__main__":
    main()
