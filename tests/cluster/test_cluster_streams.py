"""`logs` and `port-forward` on a real API server; a stand-in for a kubelet answers it."""

import asyncio
import json
import subprocess
import time
import urllib.request

import pytest

from backend.cli.logs import Following
from backend.cli.main import mcp_runtime
from backend.cli.port_forward import Forwarder
from backend.metrics import Name
from backend.ports.workloads import LogRange
from tests.tools.operated_cluster import INGEST, NAMESPACE, PROCESSOR, World
from tests.tools.ports import HOST
from tests.tools.sentinel_up import SENTINEL
from tests.tools.waiting import eventually

pytestmark = pytest.mark.usefixtures("mended")


def test_logs_of_all_pods_are_one(world: World) -> None:
    """In the order in which lines were written, each with its pod; `--tail` counts for each."""
    first, second = world.pods(INGEST)
    for at, pod in enumerate((first, second, first, second), 1):
        world.double.write_log(NAMESPACE, pod, "main", f"line {at} \x1b[31m", at=1000.0 + at)
    result = world.run("logs", "ingest")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        f"{pod} main line {at} \\x1b[31m"
        for at, pod in enumerate((first, second, first, second), 1)
    ]
    told = [json.loads(line) for line in world.run("logs", "ingest", "--json").stdout.splitlines()]
    assert [each["line"][:6] for each in told] == ["line 1", "line 2", "line 3", "line 4"]
    assert world.run("logs", "ingest", "--tail", "1").stdout.count("line") == 2
    assert world.run("logs", "ingest", "--since", "1h").stdout == ""
    again = world.run("sentinel", "logs", "ingest", program=mcp_runtime)
    assert again.stdout == result.stdout


def test_the_log_before_a_restart(world: World) -> None:
    """`--previous`."""
    [pod] = world.pods(PROCESSOR)
    world.double.set_previous_log(NAMESPACE, pod, "main", "the end")
    assert world.run("logs", "processor", "--previous").stdout == f"{pod} main the end\n"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("nothing",), 2, "unknown component `nothing`; known: ingest, processor"),
        (("ui",), 1, "the component `ui` is not deployed here; install it: `kubectl apply -k k8s`"),
        (("sidecar",), 1, "`sidecar` runs in your MCP servers' own pods; use kubectl on these"),
        (("ingest", "--since", "soon"), 2, "Invalid value for '--since'"),
        (("ingest", "--follow", "--previous"), 2, "give one of the two"),
    ],
)
def test_logs_that_cannot_be(world: World, words: tuple[str, ...], code: int, said: str) -> None:
    """One sentence."""
    result = world.run("logs", *words)
    assert result.exit_code == code
    assert said in result.stderr


async def test_following_goes_on_with_new_pods(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line comes once, whatever ended meanwhile; a pod that is new is read from its beginning."""
    monkeypatch.setattr("backend.cli.logs.LOOK_SECONDS", 0.1)
    [before] = world.pods(PROCESSOR)
    async with world.workloads() as workloads:
        lines = Following(workloads, "processor", LogRange(follow=True)).lines()
        coming = asyncio.ensure_future(anext(lines))
        for number in range(2):
            text = f"of the first pod {number}"
            await asyncio.to_thread(world.double.write_log, NAMESPACE, before, "main", text)
            written = await coming
            assert (written.source.pod, written.line.text) == (before, text)
            coming = asyncio.ensure_future(anext(lines))
        await workloads.begin_restart("processor")
        [after] = await asyncio.to_thread(
            eventually,
            lambda: (found := world.pods(PROCESSOR)) and before not in found and found,
            "another pod runs",
        )
        await asyncio.to_thread(world.double.write_log, NAMESPACE, after, "main", "of the next")
        written = await coming
        assert (written.source.pod, written.line.text) == (after, "of the next")
        await lines.aclose()


def test_port_forward(world: World) -> None:
    """It tells where, and answers there until it is ended."""
    words = [*SENTINEL, "port-forward", "ingest", "--json", "--port", "0"]
    words += ["--kubeconfig", str(world.cluster.kubeconfig)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = json.loads(process.stdout.readline())["url"]
        try:
            with urllib.request.urlopen(f"{url}/metrics", timeout=60) as answer:
                assert answer.read().decode() == f"{Name.LAG} 12.0\n"
        finally:
            process.terminate()


async def test_port_forward_reconnects(world: World) -> None:
    """After a break the next connection leads to a pod that serves; bytes come whole."""
    payload = bytes(range(256)) * 4096

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(data)
        writer.close()

    behind = await asyncio.start_server(echo, HOST, 0)
    world.double.ports[INGEST, 7] = behind.sockets[0].getsockname()[1]
    async with behind, world.workloads() as workloads:
        forwarder = Forwarder(workloads, "ingest", 7, time.monotonic)
        await forwarder.check()
        front = await asyncio.start_server(forwarder.serve, HOST, 0)
        port = front.sockets[0].getsockname()[1]
        async with front:
            for _ in range(2):
                reader, writer = await asyncio.open_connection(HOST, port)
                writer.write(payload)
                assert await reader.readexactly(len(payload)) == payload
                await asyncio.to_thread(world.double.break_tunnels)
                assert await reader.read() == b""
                writer.close()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("kafka",), 2, "`kafka` has nothing to reach; known: ui, api"),
        (("ui",), 1, "the component `ui` is not deployed here"),
        (("ingest", "--address", "203.0.113.1"), 1, "cannot be listened on"),
    ],
)
def test_what_cannot_be_forwarded(
    world: World, words: tuple[str, ...], code: int, said: str
) -> None:
    """One sentence."""
    result = world.run("port-forward", *words)
    assert result.exit_code == code
    assert said in result.stderr
