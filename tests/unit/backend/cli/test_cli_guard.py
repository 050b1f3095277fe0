"""The guard ends what carries the run's token, however deep, and nothing else."""

import asyncio
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from backend.cli.guard import GRACE_VARIABLE, RUN_VARIABLE, members
from backend.cli.supervisor import Guard
from tests.tools.waiting import SECONDS, eventually

# A child that ignores SIGTERM and has put a child of its own into another session.
STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print("up", flush=True)
time.sleep(600)
"""


@contextmanager
def _child(code: str, environ: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=os.environ | environ, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _guard(environ: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "backend.cli.guard"],
        stdin=subprocess.PIPE,
        env=os.environ | environ,
    )


def test_ends_children_and_grandchildren_when_the_supervisor_is_gone() -> None:
    """A closed pipe ends the whole run, also what ignores SIGTERM or left the session."""
    token = secrets.token_hex(8)
    with _child(STUBBORN, {RUN_VARIABLE: token}) as child:
        run = {process.pid for process in members(token)}
        assert len(run) == 2
        guard = _guard({RUN_VARIABLE: token, GRACE_VARIABLE: "0.2"})
        assert guard.stdin is not None
        guard.stdin.close()
        assert guard.wait(SECONDS) == 0
        assert child.wait(SECONDS) == -signal.SIGKILL
        assert not [pid for pid in run if _lives(pid)]


def test_leaves_other_runs_alone() -> None:
    """A process with another token, or none, is nobody's business."""
    sleeper = "import time; print('up', flush=True); time.sleep(600)"
    with _child(sleeper, {RUN_VARIABLE: "other"}) as other, _child(sleeper, {}) as none:
        guard = _guard({RUN_VARIABLE: secrets.token_hex(8), GRACE_VARIABLE: "0.2"})
        assert guard.stdin is not None
        guard.stdin.close()
        assert guard.wait(SECONDS) == 0
        assert other.poll() is None
        assert none.poll() is None


def test_ctrl_c_does_not_end_the_guard() -> None:
    """Signals leave it waiting: only the supervisor's end counts."""
    guard = _guard({RUN_VARIABLE: secrets.token_hex(8)})
    process = psutil.Process(guard.pid)
    try:
        eventually(lambda: _ignores_sigint(guard.pid), "it ignores signals")
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        assert guard.poll() is None
    finally:
        assert guard.stdin is not None
        guard.stdin.close()
    assert guard.wait(SECONDS) == 0


def test_the_supervisor_stops_its_guard() -> None:
    """After a normal stop no guard is left."""

    async def run() -> int:
        read_end, write_end = os.pipe()
        guard = Guard(os.environ | {RUN_VARIABLE: secrets.token_hex(8)}, lock=read_end)
        await guard.start()
        before = psutil.Process().children()
        await guard.stop()
        os.close(read_end)
        os.close(write_end)
        return len(before) - len(psutil.Process().children())

    assert asyncio.run(run()) == 1


def _ignores_sigint(pid: int) -> bool:
    with open(f"/proc/{pid}/status") as status:
        masks = dict(line.split(":", 1) for line in status)
    return bool(int(masks["SigIgn"], 16) >> (signal.SIGTERM - 1) & 1)


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
