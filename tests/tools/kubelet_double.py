"""A stand-in for a kubelet: one node whose pods run in name alone.

It is real for the API server: a Node, with the endpoints for logs and connections that the API
server itself calls. Pods are bound to it (no scheduler runs) and said to run; their logs are what a
test writes, and their ports lead to ports of this machine.
"""

import asyncio
import ssl
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from aiohttp import WSMsgType, web
from kubernetes import client, config

from tests.tools.kube_cluster import KubeCluster
from tests.tools.log_thread import LogThread
from tests.tools.ports import HOST
from tests.tools.scripted_authority import ScriptedAuthority

NODE: Final = "kubelet-double"
PROTOCOL: Final = "v4.channel.k8s.io"
EVERY_SECONDS: Final = 0.1
Pod = dict[str, Any]


@dataclass
class Log:
    """What one container wrote, and who waits for more."""

    lines: list[tuple[float, str]] = field(default_factory=list)
    previous: list[tuple[float, str]] = field(default_factory=list)
    more: asyncio.Condition = field(default_factory=asyncio.Condition)


class KubeletDouble:
    """Runs from `start` to `stop`. Apps are the values of the label `app`.

    Attributes:
        waiting: apps whose containers wait, for a reason and with a message.
        unready: apps that run and do not serve.
        draining: apps whose pods do not end when they are told to.
        ports: by app and port in the pod, where it leads to on this machine.
        told: what happened to apps, in order, like `web starts`, `web ends`.
    """

    def __init__(self, cluster: KubeCluster, folder: Path) -> None:
        self._folder, self._thread = folder, LogThread()
        api = config.new_client_from_config(config_file=str(cluster.kubeconfig))
        self._core = client.CoreV1Api(api)
        self.waiting: dict[str, tuple[str, str]] = {}
        self.unready: set[str] = set()
        self.draining: set[str] = set()
        self.ports: dict[tuple[str, int], int] = {}
        self.told: list[str] = []
        self._logs: dict[tuple[str, str, str], Log] = defaultdict(Log)
        self._tunnels: set[web.WebSocketResponse] = set()
        self._serving: set[asyncio.Task[Any]] = set()
        self._apps: dict[str, str] = {}  # by namespace/pod
        self._ended, self._addresses = threading.Event(), 0
        self._started = datetime.fromtimestamp(0, UTC)
        self._living = threading.Thread(target=self._live)

    def start(self) -> None:
        """Join the cluster."""
        port = self._thread.run(self._serve())
        self._core.create_node(
            {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}}  # type: ignore[arg-type]
        )
        status = {
            "addresses": [{"type": "InternalIP", "address": HOST}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
            "conditions": [{"type": "Ready", "status": "True"}],
        }
        self._core.patch_node_status(NODE, {"status": status})
        self._living.start()

    def stop(self) -> None:
        """Leave it."""
        self._ended.set()
        self._living.join()
        self._thread.run(self._leave())
        self._thread.stop()

    def write_log(
        self, namespace: str, pod: str, container: str, line: str, *, at: float = 0.0
    ) -> None:
        """A container writes a line. Args: at: seconds since the epoch; 0 for now."""
        self._thread.run(self._write((namespace, pod, container), line, at))

    def set_previous_log(self, namespace: str, pod: str, container: str, *lines: str) -> None:
        """What it wrote before it started again."""
        self._logs[namespace, pod, container].previous = [(0.0, line) for line in lines]

    def break_tunnels(self) -> None:
        """All connections into pods end."""
        self._thread.run(self._break())

    def pods(self, namespace: str) -> list[Pod]:
        """As the API server has them."""
        found = self._core.list_namespaced_pod(namespace).items
        return [self._core.api_client.sanitize_for_serialization(each) for each in found]

    def _live(self) -> None:
        while not self._ended.wait(EVERY_SECONDS):
            with suppress(client.ApiException):  # it was changed meanwhile: the next time
                for pod in self._core.list_pod_for_all_namespaces().items:
                    self._treat(self._core.api_client.sanitize_for_serialization(pod))

    def _treat(self, pod: Pod) -> None:
        meta, spec = pod["metadata"], pod["spec"]
        place = (meta["name"], meta["namespace"])
        app = (meta.get("labels") or {}).get("app", "")
        if "deletionTimestamp" in meta:
            if app not in self.draining:
                self._core.delete_namespaced_pod(*place, grace_period_seconds=0)
                self.told.append(f"{app} ends")
        elif not spec.get("nodeName"):
            target = {"target": {"kind": "Node", "name": NODE}, "metadata": {"name": meta["name"]}}
            # Its answer is a Status, which the client cannot read as a Binding.
            with suppress(ValueError):
                self._core.create_namespaced_pod_binding(*place, target)  # type: ignore[arg-type]
        else:
            self._apps[f"{meta['namespace']}/{meta['name']}"] = app
            self._report(pod, app)

    def _report(self, pod: Pod, app: str) -> None:
        """Say how the pod is, where that is not what is said already."""
        meta, before = pod["metadata"], pod.get("status") or {}
        is_job = any(each["kind"] == "Job" for each in meta.get("ownerReferences") or ())
        waiting, is_ready = self.waiting.get(app), app not in self.unready
        if waiting:
            phase, state = "Pending", {"waiting": {"reason": waiting[0], "message": waiting[1]}}
        elif is_job:
            phase, state = "Succeeded", {"terminated": {"exitCode": 0, "reason": "Completed"}}
        else:
            phase, state = "Running", {"running": {}}
        serves = phase == "Running" and is_ready
        known = {each["type"]: each["status"] for each in before.get("conditions") or ()}
        said = (before.get("phase"), known.get("Ready"), _reason(before))
        if said == (phase, str(serves), waiting[0] if waiting else ""):
            return
        self._addresses += 1
        ready = {"ready": serves, "started": serves, "restartCount": 0, "imageID": ""}
        status = {
            "phase": phase,
            "startTime": before.get("startTime") or self._start_time(),
            "podIP": before.get("podIP")
            or f"10.77.{self._addresses // 250}.{self._addresses % 250}",
            "conditions": [
                {"type": kind, "status": str(holds)}
                for kind, holds in (
                    *(("PodScheduled", True), ("Initialized", True)),
                    *(("ContainersReady", serves), ("Ready", serves)),
                )
            ],
            "containerStatuses": [
                {"name": each["name"], "image": each["image"], "state": state, **ready}
                for each in pod["spec"]["containers"]
            ],
        }
        self._core.patch_namespaced_pod_status(meta["name"], meta["namespace"], {"status": status})
        if serves:
            self.told.append(f"{app} starts")

    def _start_time(self) -> str:
        """In whole seconds; no two pods start in the same one."""
        self._started = max(datetime.now(UTC), self._started + timedelta(seconds=1))
        return self._started.isoformat(timespec="seconds")

    async def _serve(self) -> int:
        @web.middleware
        async def noted(request: web.Request, handler: Any) -> Any:
            task = asyncio.ensure_future(handler(request))
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)
            return await task

        app = web.Application(middlewares=[noted])
        app.add_routes(
            [
                web.get("/containerLogs/{namespace}/{pod}/{container}", self._log),
                web.get("/portForward/{namespace}/{pod}", self._forward),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        key, certificate = self._folder / "kubelet.key", self._folder / "kubelet.pem"
        for file, pem in zip((key, certificate), ScriptedAuthority().sign(HOST), strict=True):
            file.touch(mode=0o600)
            file.write_bytes(pem)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate, key)
        await web.TCPSite(self._runner, HOST, 0, ssl_context=context).start()
        return int(self._runner.addresses[0][1])

    async def _write(self, place: tuple[str, str, str], line: str, at: float) -> None:
        log = self._logs[place]
        async with log.more:
            log.lines.append((at or datetime.now(UTC).timestamp(), line))
            log.more.notify_all()

    async def _log(self, request: web.Request) -> web.StreamResponse:
        place, asked = request.match_info, request.query
        log = self._logs[place["namespace"], place["pod"], place["container"]]
        lines, seen = log.lines, len(log.lines)
        if since := asked.get("sinceSeconds"):
            oldest = datetime.now(UTC).timestamp() - int(since)
            lines = [line for line in lines if line[0] >= oldest]
        if asked.get("previous") == "true":
            lines = log.previous
        if tail := asked.get("tailLines"):
            lines = lines[max(0, len(lines) - int(tail)) :]
        answer = web.StreamResponse()
        await answer.prepare(request)
        await answer.write(_written(lines))
        while asked.get("follow") == "true":
            async with log.more:
                while len(log.lines) == seen:
                    await log.more.wait()
                lines, seen = log.lines[seen:], len(log.lines)
            await answer.write(_written(lines))
        return answer

    async def _forward(self, request: web.Request) -> web.WebSocketResponse:
        """Two channels: the data's and the errors'; each begins with the port's number."""
        socket = web.WebSocketResponse(protocols=[PROTOCOL], max_msg_size=0)
        await socket.prepare(request)
        app = self._apps[f"{request.match_info['namespace']}/{request.match_info['pod']}"]
        port = int(request.query["port"])
        for channel in (0, 1):
            await socket.send_bytes(bytes([channel]) + port.to_bytes(2, "little"))
        try:
            reader, writer = await asyncio.open_connection(HOST, self.ports.get((app, port), 1))
        except OSError:
            await socket.send_bytes(b"\x01connection refused")
            return socket
        self._tunnels.add(socket)
        sending = asyncio.create_task(_send(reader, socket))
        async for message in socket:
            if message.type is WSMsgType.BINARY and message.data[0] == 0:
                writer.write(message.data[1:])
                await writer.drain()
        sending.cancel()
        writer.close()
        self._tunnels.discard(socket)
        return socket

    async def _leave(self) -> None:
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        await self._runner.cleanup()

    async def _break(self) -> None:
        for socket in list(self._tunnels):
            await socket.close()


def _written(lines: list[tuple[float, str]]) -> bytes:
    """With timestamps, as they are always asked for here."""
    told = (f"{datetime.fromtimestamp(at, UTC).isoformat()} {line}\n" for at, line in lines)
    return "".join(told).encode()


async def _send(reader: asyncio.StreamReader, socket: web.WebSocketResponse) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(1 << 16):
            await socket.send_bytes(b"\x00" + data)
        await socket.close()


def _reason(status: dict[str, Any]) -> str:
    for each in status.get("containerStatuses") or ():
        return str((each["state"].get("waiting") or {}).get("reason") or "")
    return ""


@contextmanager
def joined(cluster: KubeCluster, folder: Path) -> Iterator[KubeletDouble]:
    """A started one, as long as the block lasts."""
    double = KubeletDouble(cluster, folder)
    double.start()
    try:
        yield double
    finally:
        double.stop()
