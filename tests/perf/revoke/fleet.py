"""Sidecars as processes, and what they say."""

import os
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec
from kubernetes import client

from extauthz.sources.stream.options import StreamOptions
from tests.perf.pipeline.processes import Usage, usage
from tests.tools.kube_binaries import ROOT
from tests.tools.waiting import eventually

AUDIENCE: Final = "mcp-sentinel-controller"
WAIT_SECONDS: Final = 120.0


class Fleet:
    """All sidecars of a server.

    Args:
        processes: each printing as `sidecar.py` does.
    """

    def __init__(self, processes: Sequence[subprocess.Popen[bytes]]) -> None:
        self._processes = processes
        self._said = [("", 0)] * len(processes)
        self._news = threading.Condition()
        self._selector = selectors.DefaultSelector()
        for number, process in enumerate(processes):
            assert process.stdout
            os.set_blocking(process.stdout.fileno(), False)
            self._selector.register(process.stdout, selectors.EVENT_READ, number)
        threading.Thread(target=self._listen, daemon=True).start()

    def until(self, effect: str) -> int:
        """Wait until all decide so; when the last of them did, nanoseconds.

        Raises:
            TimeoutError: some do not.
        """
        with self._news:
            if not self._news.wait_for(lambda: self._all(effect), WAIT_SECONDS):
                raise TimeoutError(f"not all sidecars {effect} within {WAIT_SECONDS:.0f} s")
            return max(when for _, when in self._said)

    @property
    def effect(self) -> str:
        """What all decide now; empty where they differ."""
        found = {said for said, _ in self._said}
        return found.pop() if len(found) == 1 else ""

    def usage(self) -> Usage:
        """Of all together."""
        return usage([each.pid for each in self._processes])

    def _all(self, effect: str) -> bool:
        return all(said == effect for said, _ in self._said)

    def _listen(self) -> None:
        while self._selector.get_map():
            for key, _ in self._selector.select():
                raw = os.read(key.fd, 4096)
                if not raw:
                    self._selector.unregister(key.fileobj)
                    continue
                said, when = raw.decode().splitlines()[-1].split()
                with self._news:
                    self._said[key.data] = (said, int(when))
                    self._news.notify_all()


class Pods:
    """Makes the pods of a server, and what each of them mounts.

    Args:
        api: a client that may do all.
        place: namespace and name of the server.
        folder: where it lies.
    """

    def __init__(self, api: client.ApiClient, place: tuple[str, str], folder: Path) -> None:
        self._core, self._folder = client.CoreV1Api(api), folder
        self._namespace, self._server = place
        meta = client.V1ObjectMeta(name=self._server)
        self._core.create_namespaced_service_account(
            self._namespace, client.V1ServiceAccount(metadata=meta)
        )
        self._count = 0

    def options(self, address: str) -> StreamOptions:
        """Those of one more sidecar, in a pod of its own."""
        name = f"{self._server}-{self._count}"
        self._count += 1
        folder = self._folder / name
        folder.mkdir()
        token = folder / "token"
        token.write_text(self._token(name))
        return StreamOptions(
            address=address,
            server=self._server,
            namespace=self._namespace,
            gateway=name,
            store=folder / "last-policy.db",
            token_file=token,
            ca_file=self._authority(),
        )

    def _token(self, name: str) -> str:
        container = client.V1Container(name="c", image="none")
        pod = client.V1Pod(
            metadata=client.V1ObjectMeta(name=name, labels={"app": self._server}),
            spec=client.V1PodSpec(service_account_name=self._server, containers=[container]),
        )
        self._core.create_namespaced_pod(self._namespace, pod)
        bound = client.V1BoundObjectReference(api_version="v1", kind="Pod", name=name)
        spec = client.V1TokenRequestSpec(audiences=[AUDIENCE], bound_object_ref=bound)
        made = self._core.create_namespaced_service_account_token(
            self._server, self._namespace, client.AuthenticationV1TokenRequest(spec=spec)
        )
        assert made.status
        return str(made.status.token)

    def _authority(self) -> Path:
        """As the controller publishes it beside the server."""
        file = self._folder / "ca.crt"
        if not file.exists():
            file.write_text(eventually(self._published, "the authority is published"))
        return file

    def _published(self) -> str:
        try:
            found = self._core.read_namespaced_config_map(f"{AUDIENCE}-ca", self._namespace)
        except client.ApiException:
            return ""
        return str((found.data or {}).get("ca.crt", ""))


@contextmanager
def running_fleet(all_options: Sequence[StreamOptions]) -> Iterator[Fleet]:
    """A process for each; ended with the block."""
    module, listed = "tests.perf.revoke.sidecar", map(_argument, all_options)
    with running([[module, each] for each in listed]) as fleet:
        yield fleet


def _argument(options: StreamOptions) -> str:
    return msgspec.json.encode(options, enc_hook=str).decode()


@contextmanager
def running(commands: Sequence[Sequence[str]]) -> Iterator[Fleet]:
    """Python modules with their arguments, as processes; ended with the block."""
    processes = [
        subprocess.Popen([sys.executable, "-m", *each], cwd=ROOT, stdout=subprocess.PIPE)
        for each in commands
    ]
    try:
        yield Fleet(processes)
    finally:
        for each in processes:
            each.terminate()
        deadline = time.monotonic() + WAIT_SECONDS
        for each in processes:
            try:
                each.wait(max(deadline - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                each.kill()
                each.wait()
