"""`sentinel restart` against the real api, over a cluster that does what it is asked."""

import json
from collections.abc import Callable, Iterator, Sequence

import click
import pytest
from click.testing import CliRunner, Result

from backend.api.app import create_app
from backend.api.restart import Cooldown
from backend.auth.api_keys import ApiKeys, from_lists
from backend.cli.main import mcp_runtime, sentinel
from backend.metrics import ApiMetrics, new_registry
from backend.ports.cluster import Status
from tests.tools.event_rows import NOON
from tests.tools.told_cluster import ToldCluster, told_runtime
from tests.unit.backend.cli.conftest import served

Run = Callable[..., Result]


class Obedient(ToldCluster):
    """Restarts what it is asked to, and tells of it at the third question."""

    def __init__(self) -> None:
        super().__init__()
        self._asked = 0

    def restart(self, keys: Sequence[str]) -> None:
        super().restart(keys)
        self._asked = 0
        for key in keys:
            self.set(key, status=Status.NOT_READY, restarts=1)

    def components(self) -> Sequence[object]:  # type: ignore[override]
        self._asked += 1
        if self._asked == 3:
            for key in self.restarted:
                self.set(key, status=Status.READY)
        return super().components()


@pytest.fixture
def cluster() -> Obedient:
    return Obedient()


@pytest.fixture
def run(cluster: Obedient, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    app = create_app(
        store=None,  # type: ignore[arg-type]  # nothing here asks it
        access=None,  # type: ignore[arg-type]
        changes=None,  # type: ignore[arg-type]
        runtime=told_runtime(cluster, cooldown=Cooldown(30.0, lambda: 0.0)),
        verifier=ApiKeys(from_lists([], ["secret"], [])),
        metrics=ApiMetrics(new_registry()),
        clock=lambda: NOON,
        retention=None,
    )
    monkeypatch.setattr("backend.cli.restart.POLL_SECONDS", 0.01)
    monkeypatch.setenv("SENTINEL_API_KEY", "secret")

    with served(app) as port:

        def invoke(*words: str, program: click.Command = sentinel) -> Result:
            address = ["--api", f"http://127.0.0.1:{port}"]
            return CliRunner().invoke(program, [*words, *address])

        yield invoke


def test_a_component_is_restarted_and_waited_for(run: Run, cluster: Obedient) -> None:
    """The table says how it is once it serves again."""
    result = run("restart", "ingest")
    assert result.exit_code == 0, result.output
    assert cluster.restarted == ["ingest"]
    header, row = result.stdout.splitlines()
    assert header.split() == ["COMPONENT", "STATUS", "RESTARTS", "DETAILS"]
    assert row.split() == ["Ingest", "Ready", "1"]


def test_all_are_restarted(run: Run, cluster: Obedient) -> None:
    """Those that run; where nobody can be asked, nobody is."""
    result = run("restart", "--all", "-o", "name")
    assert result.exit_code == 0, result.output
    assert result.stdout.split() == cluster.restarted == ["ingest", "processor", "api"]


def test_under_the_name_of_mcp_runtime(run: Run, cluster: Obedient) -> None:
    """Existing scripts call it so."""
    result = run("sentinel", "restart", "processor", "--json", program=mcp_runtime)
    assert result.exit_code == 0, result.output
    assert [each["key"] for each in json.loads(result.stdout)["components"]] == ["processor"]
    assert cluster.restarted == ["processor"]


def test_nothing_is_waited_for_where_nobody_wants_to(run: Run, cluster: Obedient) -> None:
    """The answer of the api is enough."""
    assert run("restart", "ingest", "--no-wait").exit_code == 0
    assert cluster.restarted == ["ingest"]


def test_what_does_not_serve_again_fails(
    run: Run, cluster: Obedient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the longest wait, with the mend."""
    monkeypatch.setattr("backend.cli.restart.WAIT_SECONDS", 0.1)
    monkeypatch.setattr(cluster, "components", lambda: ToldCluster.components(cluster))
    result = run("restart", "ingest")
    assert result.exit_code == 1
    assert "ingest did not serve within 0 s; see `sentinel status`" in result.stderr


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ((), 2, "name one component, or all of them with --all"),
        (("ingest", "--all"), 2, "name one component, or all of them with --all"),
        (("kafkaa",), 1, "unknown component `kafkaa`; known: ingest, processor"),
        (("ui",), 1, "the component `ui` is not deployed here"),
    ],
)
def test_what_cannot_be_restarted(
    run: Run, cluster: Obedient, words: Sequence[str], code: int, said: str
) -> None:
    """One line with the mend."""
    result = run("restart", *words)
    assert result.exit_code == code
    assert said in result.stderr
    assert not cluster.restarted


def test_a_second_restart_at_once_says_when_it_may_be(run: Run) -> None:
    """The cool-down is told as it is answered."""
    assert run("restart", "ingest").exit_code == 0
    result = run("restart", "ingest")
    assert result.exit_code == 1
    assert "`ingest` was restarted a moment ago; try again in 30 s" in result.stderr
