"""Ends every process of a run whose supervisor is gone, however it went.

`python -m backend.cli.guard` reads standard input, whose other end only the
supervisor holds. When it closes, every process that carries the run's token in
its environment is asked to end, and killed when it does not. A process group
would miss what a child puts into a session of its own; the environment goes
with grandchildren too.
"""

import os
import signal
import sys
import time
from collections.abc import Iterator

import psutil

RUN_VARIABLE = "SENTINEL_RUN"  # a random token, the same for all processes of a run
GRACE_VARIABLE = "SENTINEL_GUARD_GRACE_SECONDS"
GRACE_SECONDS = 8.0  # for the decision point to spool and the log to close
SECOND_LOOK_SECONDS = 0.2


def members(token: str) -> Iterator[psutil.Process]:
    """The living processes of the run, this one left out."""
    for process in psutil.process_iter():
        try:
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            if process.environ().get(RUN_VARIABLE) == token:
                yield process
        except (psutil.Error, OSError):  # ended meanwhile, or another user's
            continue


def sweep(token: str, grace_seconds: float) -> None:
    """End all members of the run: SIGTERM, after `grace_seconds` SIGKILL."""
    deadline = time.monotonic() + grace_seconds
    empty_looks = 0
    while empty_looks < 2:  # one that is just being started shows only in the second
        found = list(members(token))
        if not found:
            empty_looks += 1
            time.sleep(SECOND_LOOK_SECONDS)
            continue
        empty_looks = 0
        _signal(found, signal.SIGTERM)
        _, alive = psutil.wait_procs(found, timeout=max(0.0, deadline - time.monotonic()))
        _signal(alive, signal.SIGKILL)
        psutil.wait_procs(alive, timeout=1.0)


def _signal(processes: list[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        try:
            process.send_signal(number)
        except psutil.Error:
            continue


def main() -> None:
    """Wait for the supervisor's end, then sweep."""
    # The supervisor alone ends this process, by closing the pipe.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    token = os.environ[RUN_VARIABLE]
    grace_seconds = float(os.environ.get(GRACE_VARIABLE, GRACE_SECONDS))
    sys.stdin.buffer.read()
    sweep(token, grace_seconds)


if __name__ == "__main__":
    main()
