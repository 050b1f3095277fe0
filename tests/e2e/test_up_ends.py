"""However `sentinel up` ends, it leaves no process behind and loses no event."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.servers.running import await_listening, stop
from tests.tools.sentinel_up import Up, free_base, sentinel
from tests.tools.waiting import eventually

CALLS = 12
DEMO_ACCESS = Path(__file__).parents[2] / "backend" / "demo" / "access"


def test_neither_ctrl_c_nor_kill_loses_an_event(tmp_path: Path) -> None:
    """All calls are in the trail after a kill -9 and after a Ctrl-C, each once.

    The folder lies deep: its sockets' absolute paths would be too long.
    """
    state = tmp_path / ("deep-" * 20) / "state"
    state.parent.mkdir()
    killed = Up(state)
    assert [killed.reason("echo", "ops-agent") for _ in range(CALLS)] == ["allowed"] * CALLS
    assert killed.stop(signal.SIGKILL) == -signal.SIGKILL
    eventually(killed.is_gone, "the guard ends what the supervisor left")

    interrupted = Up(state)
    assert [interrupted.reason("echo", "ops-agent") for _ in range(CALLS)] == ["allowed"] * CALLS
    assert interrupted.stop(signal.SIGINT) == 0
    assert interrupted.is_gone()

    last = Up(state)
    eventually(lambda: len(last.calls("echo")) >= 2 * CALLS, "all calls in the trail")
    found = last.calls("echo")
    assert len(found) == len({call["decision_id"] for call in found}) == 2 * CALLS
    assert not [event for event in last.events() if event["event_type"] == "audit.gap"]
    assert last.stop(signal.SIGTERM) == 0
    assert last.is_gone()


def test_a_command_is_governed_and_its_end_ends_the_run(tmp_path: Path) -> None:
    """The user's own server finds its port in PORT; it is not started again."""
    serve = f"{sys.executable} -m backend.demo --port $PORT"
    up = Up(tmp_path / "state", "--access", str(DEMO_ACCESS), "--", "sh", "-c", f"{serve}; exit 9")
    assert up.reason("echo", "ops-agent") == "allowed"
    assert up.reason("create_invoice", "ops-agent") == "tool_not_granted"
    children = up.upstream_children()
    children[0].terminate()
    assert up.wait() == 1
    assert up.is_gone()
    assert "upstream ended with exit status 9" in up.log.read_text()


def test_a_running_server_is_governed(tmp_path: Path) -> None:
    """`--upstream URL --access DIR`: one command; the server is left running."""
    port = free_base()
    with _reference_server(port) as server:
        url = f"http://127.0.0.1:{port}/mcp"
        up = Up(tmp_path / "state", "--upstream", url, "--access", str(DEMO_ACCESS))
        assert up.endpoints["mcp"].endswith("/mcp")
        assert up.reason("echo", "ops-agent") == "allowed"
        eventually(lambda: up.status()["state"] == "healthy", "all is healthy")
        assert up.stop() == 0
        assert up.is_gone()
        assert server.poll() is None


def test_an_upstream_that_does_not_answer_is_one_line(tmp_path: Path) -> None:
    """The address and the mend, and nothing is left of the start."""
    url = f"http://127.0.0.1:{free_base()}/mcp"
    base = ("--port-base", str(free_base()))
    result = sentinel("up", "--state", str(tmp_path / "s"), "--upstream", url, *base)
    assert result.returncode == 1
    assert result.stderr == (
        f"error: the upstream `{url}` does not answer; start it, or name another with --upstream\n"
    )


def test_a_command_that_dies_at_once_is_told_with_its_last_words(tmp_path: Path) -> None:
    """The reason stands on the screen, not only in a log file."""
    words = ("--port-base", str(free_base()), "--", "sh", "-c", "echo no such flag >&2; exit 3")
    result = sentinel("up", "--state", str(tmp_path / "s"), *words)
    assert result.returncode == 1
    assert "no such flag" in result.stderr
    assert "error: upstream ended with exit status 3" in result.stderr.splitlines()[-1]


def test_two_servers_need_a_choice(tmp_path: Path) -> None:
    """`--server` picks one of several."""
    access = tmp_path / "access"
    access.mkdir()
    text = (DEMO_ACCESS / "server.yaml").read_text()
    (access / "one.yaml").write_text(text)
    (access / "two.yaml").write_text(text.replace("name: reference-server", "name: other"))
    base = ("--port-base", str(free_base()))
    result = sentinel("up", "--state", str(tmp_path / "s"), "--access", str(access), *base)
    assert result.returncode == 1
    assert "mcp-servers/reference-server, mcp-servers/other" in result.stderr
    assert "--server" in result.stderr


@contextmanager
def _reference_server(port: int) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-m", "backend.demo", "--port", str(port)])
    try:
        await_listening(process, ("127.0.0.1", port))
        yield process
    finally:
        stop(process)
