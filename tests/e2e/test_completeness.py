"""Whether the trail is whole, as a person asks: after a kill, and after a row was taken away."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.tools.sentinel_up import Up
from tests.tools.stack import load
from tests.tools.waiting import SECONDS, eventually

CALLS = 5

# A process of its own: chDB opens one path in the life of a process.
_DELETE = """
import sys
import clickhouse_connect
client = clickhouse_connect.get_client(dsn=f"chdb://{sys.argv[1]}", database="mcp")
client.command(
    "ALTER TABLE events DELETE WHERE gateway_start = {start:String} AND sequence = {number:UInt64}",
    parameters={"start": sys.argv[2], "number": int(sys.argv[3])},
    settings={"mutations_sync": 1},
)
"""


def test_a_kill_is_explained_and_a_row_taken_away_is_an_alarm(tmp_path: Path) -> None:
    """What died in memory is told by the next start; what nobody tells of is found.

    The report and the exit code say so, and what to do.
    """
    up = Up(tmp_path / "state")
    for _ in range(CALLS):
        assert up.reason("echo", "ops-agent") == "allowed"
    eventually(lambda: len(up.calls("echo")) == CALLS, "the calls in the trail")
    code, report = completeness(up)
    assert (code, report["verdict"]) == (0, "complete")
    (first,) = report["starts"]
    assert (first["first"], first["missing"], first["tail"]) == (1, 0, "open")

    asyncio.run(kill_amid_calls(up, decision_point(up)))
    eventually(lambda: completeness(up)[1]["verdict"] == "explained", "the crash is told")
    code, report = completeness(up)
    assert code == 0
    dead = by_id(report, first["gateway_start"])
    assert (dead["tail"], dead["unexplained"]) == ("told", 0)
    assert {hole["cause"] for hole in dead["holes"]} == {"crash"}
    assert dead["end"] == dead["present"] + dead["explained"]
    assert "AUDIT_MODE=durable" in dead["next_step"]
    assert up.stop() == 0

    removed = 3
    remove(up.state, first["gateway_start"], removed)
    again = Up(up.state)
    eventually(lambda: completeness(again)[1]["alarm"], "the hole is found")
    code, report = completeness(again)
    assert (code, report["verdict"]) == (1, "holes")
    robbed, *others = report["starts"]
    assert (robbed["gateway_start"], robbed["unexplained"]) == (first["gateway_start"], 1)
    assert {"first": removed, "last": removed, "count": 1, "state": "unexplained"} in robbed[
        "holes"
    ]
    assert not [each for each in others if each["unexplained"]]
    shown = again.command("audit", "completeness")
    assert (shown.returncode, shown.stdout.split(":")[0]) == (1, "holes")
    assert "sentinel dlq list" in shown.stdout
    assert again.stop() == 0


async def kill_amid_calls(up: Up, pid: int) -> None:
    """Kill the decision point while events of calls wait in its memory."""
    async with load(up, "ops-agent") as running:
        await running.answered(20)
        os.kill(pid, signal.SIGKILL)


def completeness(up: Up) -> tuple[int, dict[str, Any]]:
    """The exit code and the report."""
    done = up.command("audit", "completeness", "--since", "10m", "--json")
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def by_id(report: dict[str, Any], gateway_start: str) -> dict[str, Any]:
    (found,) = [each for each in report["starts"] if each["gateway_start"] == gateway_start]
    return found


def decision_point(up: Up) -> int:
    (found,) = [c["pid"] for c in up.status()["components"] if c["name"] == "decision-point"]
    return int(found)


def remove(state: Path, gateway_start: str, number: int) -> None:
    """Take one event out of the store of a stack that has stopped."""
    words = [sys.executable, "-c", _DELETE, str(state / "store"), gateway_start, str(number)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stderr
