"""`status`, `restart` and `kube-events` on a real API server.

What needs a kubelet is answered by a stand-in for one (tests/tools/kubelet_double.py).
"""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from backend.cli import restart_cluster
from backend.cli.main import mcp_runtime, sentinel
from backend.cli.restart_cluster import rolled_out
from tests.tools.kube_workloads import workload
from tests.tools.operated_cluster import IMAGE, INGEST, KAFKA, NAMESPACE, PROCESSOR, World
from tests.tools.waiting import eventually

pytestmark = pytest.mark.usefixtures("mended")


def test_status_tells_of_every_component(world: World) -> None:
    """How many serve, their version, what waits, and how old the policies are."""
    eventually(lambda: world.pods("shop", "mcp-servers"), "the server runs")
    told = eventually(lambda: _asked(world.told()), "pods are asked")
    ingest, processor, sidecar = told["ingest"], told["processor"], told["sidecar"]
    assert (ingest["status"], ingest["ready"], ingest["version"]) == ("Ready", "2/2", "0.1.0")
    assert (processor["kind"], processor["resource"]) == ("Deployment", PROCESSOR)
    assert processor["lag"] == 12
    assert told["kafka"]["version"] == "4.4.0"
    assert told["ui"]["status"] == "NotDeployed"
    assert (sidecar["status"], sidecar["ready"]) == ("Degraded", "1/2")
    assert sidecar["policy_age_seconds"] > 0
    assert "prometheus" not in told


def _asked(told: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]] | None:
    """All of it, once the pods have come to rest and answered in time."""
    ready = {"ingest": "2/2", "processor": "1/1", "sidecar": "1/2"}
    rests = all(told[name]["ready"] == counts for name, counts in ready.items())
    is_known = told["processor"]["lag"] is not None
    return told if rests and is_known and told["sidecar"]["policy_age_seconds"] else None


def test_status_is_printed_in_the_known_columns(world: World) -> None:
    """mcp-runtime's five; the exit code says that something is wrong."""
    result = eventually(
        lambda: (
            "events wait" in (found := world.run("sentinel", "status", program=mcp_runtime)).stdout
            and found
        ),
        "pods are asked",
    )
    header, *rows = result.stdout.splitlines()
    assert header.split() == ["COMPONENT", "NAMESPACE", "RESOURCE", "STATUS", "DETAILS"]
    row = next(each for each in rows if each.startswith("Processor"))
    assert row.split()[:4] == ["Processor", NAMESPACE, f"Deployment/{PROCESSOR}", "Ready"]
    assert "1/1; version 0.1.0; 12 events wait" in row
    assert "1 of 2 do not run the current policy" in result.stdout
    assert result.exit_code == 1


@pytest.mark.parametrize(
    ("waiting", "said"),
    [
        (("ImagePullBackOff", ""), "image `registry.example:5000/backend:0.2.0` cannot be pulled"),
        (("CrashLoopBackOff", ""), "main ends again and again; see `sentinel logs --previous`"),
        (("CreateContainerConfigError", "no secret"), "main cannot be started (Create"),
    ],
)
def test_status_says_why_pods_do_not_run(world: World, waiting: tuple[str, str], said: str) -> None:
    """In a sentence with the mend; what runs goes on."""
    world.double.waiting[PROCESSOR] = waiting
    world.apply(workload(PROCESSOR, IMAGE.replace("0.1.0", "0.2.0")))
    eventually(lambda: said in world.told()["processor"]["message"], said)
    world.double.waiting.clear()
    world.apply(workload(PROCESSOR, IMAGE))


def test_status_asks_what_is_not_ready(world: World) -> None:
    """Its own reason is told."""
    world.double.unready.add(INGEST)
    told = ("NotReady", "0/2", "event_log: no broker answers")

    def of_all_its_pods() -> bool:  # one after the other is found out
        state = world.told()["ingest"]
        return (state["status"], state["ready"], state["message"]) == told

    eventually(of_all_its_pods, "it says why")


def test_status_without_an_answer(tmp_path: Path) -> None:
    """One line with the mend."""
    result = CliRunner().invoke(sentinel, ["status", "--kubeconfig", "none.yaml"])
    assert result.exit_code == 2
    empty = tmp_path / "config"
    empty.write_text("{}")
    result = CliRunner().invoke(sentinel, ["status", "--kubeconfig", str(empty)])
    assert result.exit_code == 1
    assert "kubeconfig: finds no cluster" in result.stderr
    assert result.stderr.count("\n") == 1


def test_restart_waits_until_it_serves(world: World) -> None:
    """All pods are new then; the same under mcp-runtime's name."""
    before = world.pods(INGEST)
    result = world.run("sentinel", "restart", "ingest", program=mcp_runtime)
    assert result.exit_code == 0, result.output
    assert not set(before) & set(world.pods(INGEST))
    assert result.stdout.splitlines()[1].split()[:2] == ["Ingest", "Ready"]


def test_restart_all(world: World) -> None:
    """Sentinel's own, in order; a broker is restarted by its name alone."""
    kafka, ingest = world.pods(KAFKA), world.pods(INGEST)
    del world.double.told[:]
    result = world.run("restart", "--all", "--use-kube", "-o", "name")
    assert result.exit_code == 0, result.output
    assert result.stdout.split() == ["ingest", "processor"]
    began = [each for each in world.double.told if each.endswith("starts")]
    assert began == [f"{INGEST} starts"] * 2 + [f"{PROCESSOR} starts"]
    assert not set(ingest) & set(world.pods(INGEST))
    uids = {each["metadata"]["uid"] for each in world.double.pods(NAMESPACE)}
    assert world.pods(KAFKA) == kafka
    assert world.run("restart", "kafka", "--use-kube").exit_code == 0
    assert not uids >= {each["metadata"]["uid"] for each in world.double.pods(NAMESPACE)}


def test_restart_gives_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes after it is left alone."""
    monkeypatch.setattr(restart_cluster, "WAIT_SECONDS", 1.0)
    processor = world.pods(PROCESSOR)
    world.double.unready.add(INGEST)
    result = world.run("restart", "--all", "--use-kube")
    assert result.exit_code == 1
    assert "ingest does not serve again: not within 1 s: " in result.stderr
    assert "left alone: processor; see `sentinel logs ingest`" in result.stderr
    assert world.pods(PROCESSOR) == processor


async def test_the_reason_why_a_restart_does_not_end(world: World) -> None:
    """It is told while it is waited for, and in the end."""
    world.double.waiting[INGEST] = ("ImagePullBackOff", "")
    told: list[str] = []
    async with world.workloads() as workloads:
        await workloads.begin_restart("ingest")
        while not (await workloads.rollout("ingest")).fault:
            await asyncio.sleep(0.1)
        fault = await rolled_out(workloads, "ingest", told.append, 0.1)
    assert fault.startswith(f"not within 0 s: image `{IMAGE}` cannot be pulled")
    assert "of 2 updated" in told[0]
    assert "push it" in told[0]


def test_restart_of_what_is_not_there(world: World) -> None:
    """One line with the mend."""
    result = world.run("restart", "ui", "--use-kube")
    assert result.exit_code == 1
    assert "the component `ui` is not deployed here" in result.stderr


def test_events_of_kubernetes(world: World) -> None:
    """Under the name that mcp-runtime's users know; calls are in `sentinel events`."""
    result = world.run("sentinel", "events", program=mcp_runtime)
    assert result.exit_code == 0, result.output
    header, *rows = result.stdout.splitlines()
    assert header.split() == ["TIME", "TYPE", "REASON", "OBJECT", "TIMES", "MESSAGE"]
    assert any(f"Deployment/{INGEST}" in row and "ScalingReplicaSet" in row for row in rows)
    told = json.loads(world.run("kube-events", "--json").stdout)["events"]
    assert [each["at"] for each in told] == sorted(each["at"] for each in told)
