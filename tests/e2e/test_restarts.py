"""Components of a real `sentinel up` restart while calls are made."""

import json
import tempfile
import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.tools.sentinel_up import Up
from tests.tools.waiting import SECONDS, eventually


@pytest.fixture(scope="module")
def up() -> Iterator[Up]:
    with tempfile.TemporaryDirectory(prefix="up-") as folder:
        running = Up(Path(folder) / "state")
        try:
            yield running
        finally:
            assert running.stop() == 0, running.log.read_text()
            assert running.is_gone()


class Caller:
    """Calls a tool again and again; counts how each call ended."""

    def __init__(self, up: Up) -> None:
        self._up, self._enough = up, threading.Event()
        self.ended: Counter[str] = Counter()
        self._thread = threading.Thread(target=self._call)
        self._thread.start()

    def _call(self) -> None:
        while not self._enough.is_set():
            try:
                self.ended[self._up.reason("echo", "ops-agent")] += 1
            except urllib.error.HTTPError as error:
                self.ended[str(error.code)] += 1
            except (urllib.error.URLError, ConnectionError):  # a hang would be a TimeoutError
                self.ended["refused"] += 1

    def goes_on(self) -> None:
        enough = self.ended["allowed"] + 10
        eventually(lambda: self.ended["allowed"] >= enough, "calls go on")

    def stop(self) -> None:
        self._enough.set()
        self._thread.join()


def test_everything_restarts_amid_calls(up: Up) -> None:
    """All calls end; through the backend's restarts none notices; the trail is whole."""
    caller = Caller(up)
    caller.goes_on()
    for key in ("ingest", "processor"):
        restarted = up.command("restart", key, "--json")
        assert restarted.returncode == 0, restarted.stderr
        (state,) = json.loads(restarted.stdout)["components"]
        assert (state["key"], state["status"], state["restarts"]) == (key, "Ready", 1)
        caller.goes_on()
    assert set(caller.ended) == {"allowed"}, caller.ended
    pids = {each["name"]: each["pid"] for each in up.status()["components"]}
    restarted = up.command("restart", "sidecar", "--json")
    assert restarted.returncode == 0, restarted.stderr
    caller.goes_on()
    caller.stop()
    assert set(caller.ended) <= {"allowed", "refused"}, caller.ended
    now = {each["name"]: each["pid"] for each in up.status()["components"]}
    assert {name for name in now if now[name] != pids[name]} == {"envoy", "decision-point"}
    eventually(lambda: up.status()["state"] == "healthy", "all is healthy")
    calls = caller.ended["allowed"]
    eventually(lambda: len(up.calls("echo")) >= min(calls, 900), "every call in the trail")
    eventually(whole(up), "no hole that nobody explains")


def whole(up: Up) -> Callable[[], bool]:
    def found() -> bool:
        told = up.command("audit", "completeness", "--json")
        return bool(json.loads(told.stdout)["verdict"] == "complete")

    return found


def test_a_restart_is_in_the_trail(up: Up) -> None:
    """Who asked for it, and for what."""
    restarted = up.command("restart", "--all", "--no-wait")
    # Some of them were restarted a moment ago; the answer says when they may be again.
    assert restarted.returncode == 1
    assert "try again in" in restarted.stderr
    told = {"ingest", "processor", "sidecar"}

    def asked_for() -> set[str]:
        events = up.events("--type", "governance.restart")
        return {each["payload"]["component"] for each in events}

    eventually(lambda: asked_for() == told, "each restart in the trail")


def test_the_governed_server_is_told_with_its_policy(up: Up) -> None:
    """What the sidecar runs is what the custom resources make."""
    key = Path(up.status()["admin_key_file"]).read_text().strip()
    request = urllib.request.Request(
        f"{up.endpoints['api']}/api/runtime/servers", headers={"x-api-key": key}
    )
    with urllib.request.urlopen(request, timeout=SECONDS) as answer:
        (server,) = json.loads(answer.read())["servers"]
    assert (server["status"], server["message"], server["ready"]) == ("Ready", "", "1/1")
    assert server["endpoint"] == up.endpoints["mcp"]
    assert [each["current"] for each in server["enforced"]] == [True]
