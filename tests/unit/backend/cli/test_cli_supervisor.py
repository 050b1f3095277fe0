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
from extauthz.core.errors import Conflict
from tests.tools.waiting import SECONDS, soon

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
        ready_seconds=SECONDS,
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
    await asyncio.wait_for(stack.supervisor.stop(), SECONDS)
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
    await soon((tmp_path / "one.ready").exists, "it is ready again")
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


async def kept(stack: Stack) -> "asyncio.Task[None]":
    """Started, and kept from now on."""
    await stack.supervisor.start()
    keeping = asyncio.create_task(stack.supervisor.keep())
    await asyncio.sleep(0)
    return keeping


async def end(stack: Stack, keeping: "asyncio.Task[None]") -> None:
    stack.supervisor.stopping.set()
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
    await stack.supervisor.stop()


async def test_programs_are_restarted_together(tmp_path: Path) -> None:
    """They stop in one order and start in the other; the rest does not notice."""
    first, others = (
        [program(tmp_path, "one", OBEDIENT), program(tmp_path, "rest", OBEDIENT)],
        [program(tmp_path, "two", OBEDIENT)],
    )
    stack = Stack(first, others, stop_order=("two", "one", "rest"))
    keeping = await kept(stack)
    before = {child.program.name: child.pid for child in stack.supervisor.children}
    await stack.supervisor.restart(("one", "two"))
    after = {child.program.name: child.pid for child in stack.supervisor.children}
    assert all(after.values())
    assert {name for name in after if after[name] != before[name]} == {"one", "two"}
    assert (tmp_path / "ended").read_text() == "two\none\n"
    assert "starting it again" not in stack.said.getvalue()
    assert not keeping.done()
    await end(stack, keeping)


async def test_what_was_restarted_is_kept_again(tmp_path: Path) -> None:
    """Its next end by itself is mended as any other."""
    stack = Stack([program(tmp_path, "one", OBEDIENT)], stop_order=("one",))
    keeping = await kept(stack)
    await stack.supervisor.restart(("one",))
    (child,) = stack.supervisor.children
    os.kill(child.pid, signal.SIGKILL)
    await soon(lambda: child.starts >= 3, "it is started again")
    assert "one was ended by SIGKILL; starting it again" in stack.said.getvalue()
    await end(stack, keeping)


async def test_a_restart_that_fails_is_told_and_mended(tmp_path: Path) -> None:
    """What does not come up fails the restart, and is started again as after any crash."""
    code = """
import pathlib, sys, time
starts = pathlib.Path("starts")
starts.touch()
starts.write_text(starts.read_text() + "x")
if starts.read_text() == "xx": sys.exit(5)
pathlib.Path(sys.argv[1] + ".ready").touch()
time.sleep(600)
"""
    stack = Stack([program(tmp_path, "one", code)], stop_order=("one",))
    keeping = await kept(stack)
    (tmp_path / "one.ready").unlink()
    with pytest.raises(Died, match="exit status 5"):
        await stack.supervisor.restart(("one",))
    await soon((tmp_path / "one.ready").exists, "it is ready again")
    assert stack.supervisor.children[0].starts == 3
    await end(stack, keeping)


async def test_nothing_is_restarted_before_all_runs_or_while_it_stops(tmp_path: Path) -> None:
    """Who asks then is told to ask again."""
    stack = Stack([program(tmp_path, "one", OBEDIENT)], stop_order=("one",))
    with pytest.raises(Conflict, match="ask again"):
        await stack.supervisor.restart(("one",))
    keeping = await kept(stack)
    stack.supervisor.stopping.set()
    with pytest.raises(Conflict, match="ask again"):
        await stack.supervisor.restart(("one",))
    await end(stack, keeping)


async def test_a_stop_amid_a_restart_leaves_nothing_running(tmp_path: Path) -> None:
    """The restart is given up, and what it has started stops, too."""
    never_ready = program(tmp_path, "one", OBEDIENT)
    stack = Stack([never_ready], stop_order=("one",))
    keeping = await kept(stack)
    (tmp_path / "one.ready").unlink()
    first = stack.supervisor.children[0].pid
    slow = OBEDIENT.replace('.ready").touch()', '.ready")')
    stack.supervisor.children[0].program = program(tmp_path, "one", slow)
    restarting = asyncio.create_task(stack.supervisor.restart(("one",)))
    await soon(lambda: stack.supervisor.children[0].pid not in {0, first}, "it starts again")
    await end(stack, keeping)
    with pytest.raises(Conflict, match="stopped meanwhile"):
        await restarting
    assert not stack.supervisor.children[0].pid
