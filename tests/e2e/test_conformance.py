"""The public conformance suite: through the gate it finds what it finds without."""

import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from clients.reference import reference_server
from conformance.suite import EXPECTED, RUNS, Verdicts, not_passed, verdicts

from tests.tools.stack import ALLOWED, governed, stored

REQUEST = "mcp.request"
# The suite sends these to see them refused; the gate does what the server would.
MALFORMED = {"header_mismatch", "invalid_params", "unsupported_protocol_version"}
DEMO_ACCESS = Path(__file__).parents[2] / "backend" / "demo" / "access"
GRANT = {
    "apiVersion": "mcpruntime.org/v1alpha1",
    "kind": "MCPAccessGrant",
    "metadata": {"name": "conformance", "namespace": "mcp-servers"},
    "spec": {
        "serverRef": {"name": "reference-server"},
        "subject": {"agentID": "conformance-agent"},
        "maxTrust": "high",
    },
}


@pytest.fixture(scope="module")
def direct(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Verdicts]:
    """Each run against the reference server alone."""
    with reference_server() as server:
        return {run: verdicts(run, server.url, tmp_path_factory.mktemp("direct")) for run in RUNS}


def is_gone(event: Mapping[str, Any]) -> bool:
    """Of a client that left before the decision, as some of the suite's do on a busy machine."""
    return event["reason"] == "client_disconnected" and event["undecided"] is True


def access(folder: Path, mode: str) -> Path:
    """The example access directory with this mode, and the grant of the suite."""
    shutil.copytree(DEMO_ACCESS, folder)
    server = yaml.safe_load((folder / "server.yaml").read_text())
    server["spec"]["policy"]["mode"] = mode
    (folder / "server.yaml").write_text(yaml.safe_dump(server))
    (folder / "conformance.yaml").write_text(yaml.safe_dump(GRANT))
    return folder


@pytest.mark.parametrize("run", RUNS)
def test_the_reference_server_passes(direct: Mapping[str, Verdicts], run: str) -> None:
    """As many scenarios and successes as listed, and what is no success is listed."""
    statuses = Counter(status for checks in direct[run].values() for _, status in checks)
    assert EXPECTED[run] == {
        "scenarios": len(direct[run]),
        "SUCCESS": statuses["SUCCESS"],
        "not passed": not_passed(direct[run]),
    }


@pytest.mark.parametrize("mode", ["observe", "allow-list"])
def test_the_gate_changes_no_verdict(
    direct: Mapping[str, Verdicts], tmp_path: Path, mode: str
) -> None:
    """Scenario by scenario and check by check; identified callers or observed ones."""
    identified = mode == "allow-list"
    with governed(tmp_path, "--access", str(access(tmp_path / "access", mode))) as up:
        url = up.endpoints["mcp"]
        through = {run: verdicts(run, url, tmp_path / run, identified=identified) for run in RUNS}
    for run in RUNS:
        assert through[run] == direct[run]
    events = [event["payload"] for event in stored(up.state) if event["event_type"] == REQUEST]
    denied = [event for event in events if event["decision"] == "deny"]
    assert {event["reason"] for event in denied if not is_gone(event)} == MALFORMED
    calls = [event for event in events if event["reason"] == ALLOWED]
    assert calls
    expected = {("conformance", None)} if identified else {(None, "missing_identity")}
    assert {(call.get("matched_grant"), call.get("would_reason")) for call in calls} == expected
