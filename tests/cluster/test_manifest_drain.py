"""How the sidecar's manifest has Envoy let go of its clients, done to a real Envoy."""

import http.client
import subprocess
import sys

from tests.tools.envoy_process import RunningEnvoy, running_sidecar
from tests.tools.kube_manifests import EXAMPLE, rendered, workloads
from tests.tools.waiting import eventually

SOCKET = "/var/run/sentinel/admin.sock"


def drain_command(envoy: RunningEnvoy) -> list[str]:
    """What the decision point's container runs before it is told to end, for this Envoy."""
    (example,) = workloads(rendered(EXAMPLE))
    (point,) = (each for each in example.containers if each["name"] == "decision-point")
    python, *words, code = point["lifecycle"]["preStop"]["exec"]["command"]
    assert python == "/app/bin/python"
    assert SOCKET in code
    return [sys.executable, *words, code.replace(SOCKET, str(envoy.folder / "admin.sock"))]


def asks_to_leave(connection: http.client.HTTPConnection) -> bool:
    """Whether the answer to a request says that the connection ends with it."""
    connection.request("GET", "/mcp")
    with connection.getresponse() as answer:
        answer.read()
        return answer.headers.get("connection") == "close"


def test_clients_are_asked_to_leave() -> None:
    """Connections end with an answer each, and new ones are served while there are any."""
    with running_sidecar("http://127.0.0.1:1") as envoy:
        client = http.client.HTTPConnection("127.0.0.1", envoy.port)
        assert not asks_to_leave(client)
        done = subprocess.run(drain_command(envoy), capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        eventually(lambda: asks_to_leave(client), "the client is asked to leave")
        later = http.client.HTTPConnection("127.0.0.1", envoy.port)
        eventually(lambda: asks_to_leave(later), "who comes later is served, and asked as well")
        assert envoy.process.poll() is None
