"""Programs are started, kept and stopped in order; real processes throughout."""

import asyncio
import io
import os
import signal
import sys
from pathlib import Path

import pytest
from rich.console import Console

from backend.cli.processes import Child, Died, Program
from backend.cli.supervisor import RESTARTS, Supervisor

SLEEP = "import time; time.sleep(600)"
# Says when it is asked to end, then ends; `ready` tells that it can be asked.
OBEDIENT = """
import pathlib, signal, sys, time
def end(*_):
    with open("ended", "a") as ended: ended.write(sys.argv[1] + "\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
pathlib.Path(sys.argv[1] + ".ready").touch()
time.sleep(600)
"""
DEAF = OBEDIENT.replace("signal.SIGTERM, end", "signal.SIGTERM, signal.SIG_IGN")


def program(
    folder: Path,
    name: str,
    code: str,
    *,
    restarts: bool = True,
    stop_seconds: float = 20.0,
    waits: bool = True,
) -> Program:
    async def is_ready() -> bool:
        return not waits or (folder / f"{name}.ready").exists()

    return Program(
        name=name,
        argv=(sys.executable, "-c", code, name),
        environ=dict(os.environ),
        cwd=folder,
        log=folder / f"{name}.log",
        is_ready=is_ready,
        ready_seconds=20.0,
        stop_seconds=stop_seconds,
        restarts=restarts,
    )


class Stack:
    """A supervisor and what it said."""

    def __init__(self, *groups: list[Program], stop_order: tuple[str, ...]) -> None:
        self.said = io.StringIO()
        console = Console(file=self.said, width=400)
        self.supervisor = Supervisor(groups, stop_order, console, lambda: None)


async def test_programs_stop_in_their_order(tmp_path: Path) -> None:
    """Not in the order of their start."""
    groups = [program(tmp_path, "one", OBEDIENT), program(tmp_path, "two", OBEDIENT)]
    stack = Stack(groups, stop_order=("two", "one"))
    await stack.supervisor.start()
    await stack.supervisor.stop()
    assert (tmp_path / "ended").read_text() == "two\none\n"
    assert [child.pid for child in stack.supervisor.children] == [0, 0]


async def test_what_does_not_end_is_killed_at_its_deadline(tmp_path: Path) -> None:
    """A deaf program delays the stop by its own deadline and no more."""
    stack = Stack([program(tmp_path, "deaf", DEAF, stop_seconds=0.1)], stop_order=("deaf",))
    await stack.supervisor.start()
    await stack.supervisor.stop()
    assert stack.supervisor.children[0].ending() == "was ended by SIGKILL"
    assert "deaf: killed" in stack.said.getvalue()


async def test_a_second_signal_hurries(tmp_path: Path) -> None:
    """No deadline is waited for any more."""
    stack = Stack([program(tmp_path, "deaf", DEAF, stop_seconds=600)], stop_order=("deaf",))
    await stack.supervisor.start()
    stack.supervisor.on_signal()
    assert not stack.supervisor.hurry.is_set()
    stack.supervisor.on_signal()
    await asyncio.wait_for(stack.supervisor.stop(), 30)
    assert not stack.supervisor.children[0].pid


async def test_a_program_that_ends_is_started_again(tmp_path: Path) -> None:
    """A crash is told and mended."""
    stack = Stack([program(tmp_path, "one", OBEDIENT)], stop_order=("one",))
    await stack.supervisor.start()
    (child,) = stack.supervisor.children
    keeping = asyncio.create_task(stack.supervisor.keep())
    first = child.pid
    (tmp_path / "one.ready").unlink()
    os.kill(first, signal.SIGKILL)
    while not (tmp_path / "one.ready").exists():  # a file tells it
        await asyncio.sleep(0.05)
    assert child.pid not in {0, first}
    assert "one was ended by SIGKILL; starting it again" in stack.said.getvalue()
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
    await stack.supervisor.stop()


async def test_a_program_that_ends_again_and_again_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bounded attempts; the last words are shown."""
    monkeypatch.setattr("backend.cli.supervisor.MOST_WAIT_SECONDS", 0.01)
    code = "print('why it failed'); raise SystemExit(7)"
    stack = Stack([program(tmp_path, "bad", code, waits=False)], stop_order=("bad",))
    await stack.supervisor.start()
    with pytest.RaisesGroup(pytest.RaisesExc(Died, match="bad ended with exit status 7")):
        await stack.supervisor.keep()
    assert stack.supervisor.children[0].starts == RESTARTS + 1
    assert "  | why it failed" in stack.said.getvalue()


async def test_what_is_not_ours_is_not_started_again(tmp_path: Path) -> None:
    """The user's own server ends the run."""
    mine = program(tmp_path, "mine", SLEEP, restarts=False, waits=False)
    stack = Stack([mine], stop_order=("mine",))
    await stack.supervisor.start()
    (child,) = stack.supervisor.children
    os.kill(child.pid, signal.SIGKILL)
    with pytest.RaisesGroup(Died):
        await stack.supervisor.keep()
    assert child.starts == 1


async def test_a_program_that_cannot_be_started_is_named(tmp_path: Path) -> None:
    """The command and the system's reason."""
    missing = Program(
        name="mine",
        argv=("/no/such/program",),
        environ={},
        cwd=tmp_path,
        log=tmp_path / "log",
        is_ready=program(tmp_path, "mine", "").is_ready,
    )
    with pytest.raises(Died, match="`/no/such/program`: No such file"):
        await Child(missing).start()


async def test_a_program_that_dies_before_it_serves_stops_the_start(tmp_path: Path) -> None:
    """It is not waited for until the deadline."""
    stack = Stack([program(tmp_path, "bad", "raise SystemExit(4)")], stop_order=("bad",))
    with pytest.RaisesGroup(pytest.RaisesExc(Died, match="exit status 4; see .*bad.log")):
        await stack.supervisor.start()
    await stack.supervisor.stop()
