"""Questions to the pods themselves, of what the API server does not know: lag, faults, policies."""

import asyncio
import http.client
import io
import json
import math
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple, TypeVar

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from backend.adapters.kubernetes_cluster_states import METRICS, Raw, is_ready
from backend.metrics import Name
from backend.ports.workloads import Tunnel
from extauthz.core.errors import Retryable, SentinelError

SECONDS: Final = 5.0
MOST_BYTES: Final = 4 << 20
AT_ONCE: Final = 8


class Answer(NamedTuple):
    """Of a pod, to a GET."""

    status: int
    body: bytes


Ask = Callable[[Raw, int, str], Awaitable[Answer]]  # a pod's port and path; raises SentinelError
Connect = Callable[[Raw, int], Awaitable[Tunnel]]
T = TypeVar("T")


def by_address(session: aiohttp.ClientSession) -> Ask:
    """As pods ask each other. Args: session: an open one."""

    async def ask(pod: Raw, port: int, path: str) -> Answer:
        url = f"http://{_host(pod)}:{port}{path}"
        try:
            async with asyncio.timeout(SECONDS), session.get(url) as answer:
                return Answer(answer.status, await _bounded(answer))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Retryable("the pod does not answer") from error

    return ask


def by_tunnel(connect: Connect) -> Ask:
    """From outside; NetworkPolicies do not stand between."""

    async def ask(pod: Raw, port: int, path: str) -> Answer:
        try:
            async with asyncio.timeout(SECONDS):
                tunnel = await connect(pod, port)
                try:
                    # Of this version, the end of the answer is the end of the connection.
                    await tunnel.send(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
                    return _parsed(await _all_of(tunnel))
                finally:
                    await tunnel.close()
        except TimeoutError as error:
            raise Retryable("the pod does not answer") from error

    return ask


async def lag_of(ask: Ask, pods: Sequence[Raw]) -> int | None:
    """Events that wait for these processors; None where one of them cannot tell."""
    answers = await _each(pods, lambda pod: _metric(ask, pod, Name.LAG))
    told = [each for each in answers if each is not None and not math.isnan(each)]
    return int(sum(told)) if told and len(told) == len(pods) else None


async def fault_of(ask: Ask, pods: Iterable[Raw]) -> str:
    """What the first one that runs and does not serve says of it; empty for nothing."""
    for pod in pods:
        if is_ready(pod) or (pod.get("status") or {}).get("phase") != "Running":
            continue
        port = port_of(pod)
        try:
            told = json.loads((await ask(pod, port, "/ready")).body) if port else None
        except (SentinelError, ValueError):
            continue
        if isinstance(told, dict):
            faults = (f"{name}: {fault}" for name, fault in told.items() if name != "ok")
            return "; ".join(faults)
    return ""


async def policy_of(ask: Ask, pods: Sequence[Raw]) -> list[Raw]:
    """What each sidecar tells of its policy; nothing of one that does not answer."""

    async def told(pod: Raw) -> Raw | None:
        port = port_of(pod)
        try:
            found = json.loads((await ask(pod, port, "/config/status")).body) if port else None
        except (SentinelError, ValueError):
            return None
        policy = found.get("policy") if isinstance(found, dict) else None
        return policy if isinstance(policy, dict) else None

    return [each for each in await _each(pods, told) if each is not None]


def port_of(pod: Raw) -> int:
    """Where its component answers operators; 0 for nowhere."""
    spec = pod["spec"]
    for container in (*(spec.get("initContainers") or ()), *spec["containers"]):
        for port in container.get("ports") or ():
            if port.get("name") == METRICS:
                return int(port["containerPort"])
    return 0


async def _each(pods: Sequence[Raw], asked: Callable[[Raw], Awaitable[T]]) -> list[T]:
    some = asyncio.Semaphore(AT_ONCE)

    async def one(pod: Raw) -> T:
        async with some:
            return await asked(pod)

    return await asyncio.gather(*map(one, pods))


async def _metric(ask: Ask, pod: Raw, name: str) -> float | None:
    try:
        port = port_of(pod)
        text = (await ask(pod, port, "/metrics")).body.decode() if port else ""
        families = text_string_to_metric_families(text)
        return next((s.value for each in families for s in each.samples if s.name == name), None)
    except (SentinelError, ValueError):
        return None


def _host(pod: Raw) -> str:
    address = str((pod.get("status") or {}).get("podIP") or "")
    if not address:
        raise Retryable("the pod has no address yet")
    return f"[{address}]" if ":" in address else address


async def _bounded(answer: aiohttp.ClientResponse) -> bytes:
    found = await answer.content.read(MOST_BYTES)
    while len(found) < MOST_BYTES and (more := await answer.content.read(MOST_BYTES - len(found))):
        found += more
    return found


async def _all_of(tunnel: Tunnel) -> bytes:
    found = bytearray()
    while len(found) < MOST_BYTES and (chunk := await tunnel.receive()):
        found += chunk
    return bytes(found)


class _Sent(io.BytesIO):
    """What http.client takes for a socket."""

    def makefile(self, *_: Any) -> io.BytesIO:
        return self


def _parsed(raw: bytes) -> Answer:
    response = http.client.HTTPResponse(_Sent(raw))  # type: ignore[arg-type]
    try:
        response.begin()
        return Answer(response.status, response.read())
    except (http.client.HTTPException, OSError, ValueError) as error:
        raise Retryable("the pod answers no HTTP") from error
