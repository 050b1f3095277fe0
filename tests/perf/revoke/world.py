"""The cluster under measurement: what is governed there, controllers, and who revokes."""

import http.client
import json
import re
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests.perf.revoke.fleet import Pods
from tests.perf.revoke.sidecar import AGENT, TOOL
from tests.tools.controller_process import ControllerProcess, running_controller
from tests.tools.kube_cluster import KubeCluster, governed_cluster
from tests.tools.kube_objects import PLURALS, Served
from tests.tools.kube_rights import install
from tests.tools.waiting import eventually
from tests.unit.extauthz.core.objects import grant, server

HOME: Final = "mcp-sentinel"
NAMESPACE, SERVER = "default", "shop"
WAIT_SECONDS: Final = 600.0
CALLS: Final = re.compile(r"^controller_api_server_calls_total\{.*\} (\S+)$", re.MULTILINE)


class Writer:
    """Writes as kubectl does, over one connection. Args: kubeconfig: the admin's."""

    def __init__(self, kubeconfig: Path) -> None:
        config = json.loads(kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        context = ssl.create_default_context(cafile=cluster["certificate-authority"])
        context.load_cert_chain(user["client-certificate"], user["client-key"])
        address = cluster["server"].removeprefix("https://")
        self._connection = http.client.HTTPSConnection(address, context=context)

    def is_followed(self, kind: str) -> bool:
        """Whether the API server serves watches of a kind; after its start that takes a while."""
        path = f"/apis/mcpruntime.org/v1alpha1/{PLURALS[kind]}"
        listed = self._get(f"{path}?limit=1")
        if listed is None:
            return False
        version = json.loads(listed)["metadata"]["resourceVersion"]
        return self._get(f"{path}?watch=1&timeoutSeconds=1&resourceVersion={version}") is not None

    def _get(self, path: str) -> bytes | None:
        self._connection.request("GET", path)
        answer = self._connection.getresponse()
        text = answer.read()
        return text if answer.status == 200 else None

    def patch(self, kind: str, name: str, spec: Any) -> int:
        """Change an object; when the API server had answered, nanoseconds."""
        path = f"/apis/mcpruntime.org/v1alpha1/namespaces/{NAMESPACE}/{PLURALS[kind]}/{name}"
        headers = {"Content-Type": "application/merge-patch+json"}
        self._connection.request("PATCH", path, json.dumps({"spec": spec}), headers)
        answer = self._connection.getresponse()
        answered = time.monotonic_ns()
        text = answer.read()
        assert answer.status == 200, text
        return answered

    def grant(self, *, disabled: bool) -> int:
        """Revoke what the sidecars look at, or give it back; when that was answered."""
        return self.patch("MCPAccessGrant", AGENT, {"disabled": disabled})


class World:
    """A server with grants for `agent-0000` and so on.

    Attributes:
        cluster: as its admin.
        pods: of the server.
        account: the controller's kubeconfig.
        served: the custom resources.
    """

    def __init__(self, cluster: KubeCluster, folder: Path, grants: int) -> None:
        self.cluster, self._folder = cluster, folder
        install(cluster)
        self.account = cluster.kubeconfig_of(HOME, "mcp-sentinel-controller")
        served = self.served = Served(cluster)
        served.create(server(SERVER, tools=[{"name": TOOL}]), NAMESPACE)
        place = {"name": SERVER, "namespace": NAMESPACE}
        for number in range(grants):
            name = f"agent-{number:04}"
            served.create(grant(name, serverRef=place, subject={"agentID": name}), NAMESPACE)
        self.pods = self.pods_of(SERVER)
        self.writer = Writer(cluster.kubeconfig)

    def pods_of(self, name: str) -> Pods:
        """Those of a server."""
        folder = self._folder / name
        folder.mkdir()
        return Pods(self.served.api, (NAMESPACE, name), folder)

    @contextmanager
    def controller(self, name: str, **settings: str) -> Iterator[ControllerProcess]:
        """One with the lease as it is by default."""
        lease = {"CONTROLLER_LEASE_SECONDS": "15"}
        with running_controller(
            self.account, HOME, name, self._folder, **lease, **settings
        ) as process:
            eventually(process.is_ready, "it knows the objects", WAIT_SECONDS)
            yield process


@contextmanager
def running_world(folder: Path, grants: int = 100) -> Iterator[World]:
    """A cluster with a server and its grants; ended with the block."""
    with governed_cluster(folder / "cluster") as cluster:
        yield World(cluster, folder, grants)


def api_calls(process: ControllerProcess) -> float:
    """How many it has made since its start."""
    return sum(map(float, CALLS.findall(process.metrics())))
