"""Calls of an API server on the event loop, and endless answers, line by line."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final

import aiohttp
import orjson
from kubernetes.aio import client, config
from kubernetes.aio.config import ConfigException
from kubernetes.config import KUBE_CONFIG_DEFAULT_LOCATION

from backend.ports.control_plane import Expired
from extauthz.core.errors import Conflict, Invalid, NotFound, Retryable

Raw = dict[str, Any]

WATCH_SECONDS: Final = 290  # then the API server ends a watch, and it is asked for again
QUIET_SECONDS: Final = 1.0  # what is wrong with a watch, and what it has missed, come at once
_BOUNDED: Final = aiohttp.ClientTimeout(total=15.0, sock_connect=3.0)
_UNBOUNDED: Final = aiohttp.ClientTimeout(total=WATCH_SECONDS + 30.0, sock_connect=3.0)
_ENDLESS: Final = aiohttp.ClientTimeout(total=None, sock_connect=3.0)
_IN_POD: Final = "KUBERNETES_SERVICE_HOST"  # set in every pod
# A connection whose other end vanished is noticed within some 20 s: nothing is lost meanwhile
# but time, in which nobody would be revoked.
_ALIVE: Final = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 3),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
)


class ApiCalls:
    """One connection pool. Close it in the end.

    Args:
        configuration: the address and credentials.
        counted: called with the verb and the resource of each call.
    """

    def __init__(
        self, configuration: client.Configuration, counted: Callable[[str, str], None]
    ) -> None:
        configuration.retries = False  # who asks decides whether to ask again
        self._api, self._counted = client.ApiClient(configuration), counted
        rest = self._api.rest_client
        self._connector = aiohttp.TCPConnector(ssl=rest.ssl_context, socket_factory=_socket)
        rest.configuration.client_session_kwargs = {"connector": self._connector}

    async def close(self) -> None:
        await self._api.close()  # type: ignore[no-untyped-call]
        await self._connector.close()

    async def ask(
        self,
        method: str,
        path: str,
        body: Raw | None = None,
        *,
        query: Mapping[str, str] | None = None,
        content: str = "application/json",
    ) -> Raw:
        """Raises: NotFound, Conflict, Expired, Invalid, Retryable."""
        self._counted(method.lower(), _resource(path))
        try:
            answer = await self._send(method, path, body, query or {}, content, _BOUNDED)
            raw = await answer.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _away(error) from error
        if answer.status >= 300:
            raise _meant(answer.status, raw, path)
        found = orjson.loads(raw)
        assert isinstance(found, dict)
        return found

    async def watch(self, path: str, query: Mapping[str, str]) -> AsyncIterator[Raw | None]:
        """Events of a watch; ends with it, or where the connection breaks. Raises: as `ask`.

        None where the API server follows, and has nothing to tell yet: in a quiet cluster even
        the first bookmark takes minutes.
        """
        self._counted("watch", _resource(path))
        asked = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        try:
            async with asyncio.timeout(_BOUNDED.total):
                answer = await self._send("GET", path, None, asked | dict(query), "", _UNBOUNDED)
            async with answer:
                if answer.status >= 300:
                    raise _meant(answer.status, await answer.read(), path)
                first = asyncio.ensure_future(answer.content.readline())
                try:
                    if not (await asyncio.wait({first}, timeout=QUIET_SECONDS))[0]:
                        yield None
                    line = await first
                finally:
                    first.cancel()
                while line:
                    yield _event(line, path)
                    line = await answer.content.readline()
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise _away(error) from error

    async def chunks(self, path: str, query: Mapping[str, str]) -> AsyncIterator[bytes]:
        """An answer as it comes, however long that takes. Raises: as `ask`."""
        self._counted("get", _resource(path))
        try:
            answer = await self._send("GET", path, None, query, "", _ENDLESS)
            async with answer:
                if answer.status >= 300:
                    raise _meant(answer.status, await answer.read(), path)
                async for chunk in answer.content.iter_any():
                    yield chunk
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _away(error) from error

    async def connect(
        self, path: str, query: Mapping[str, str], protocol: str
    ) -> aiohttp.ClientWebSocketResponse:
        """A WebSocket. Close it in the end. Raises: NotFound, Invalid, Retryable."""
        self._counted("connect", _resource(path))
        _, url, headers, _, _ = await self._prepared("GET", path, query, {})
        rest = self._api.rest_client
        session = rest.pool_manager = rest.pool_manager or rest._create_pool_manager()
        try:
            return await session.ws_connect(
                url, headers=headers, protocols=[protocol], max_msg_size=0, proxy=rest.proxy
            )
        except aiohttp.WSServerHandshakeError as error:
            raise _meant(error.status, b"", path) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _away(error) from error

    async def _send(
        self,
        method: str,
        path: str,
        body: Raw | None,
        query: Mapping[str, str],
        content: str,
        bound: aiohttp.ClientTimeout,
    ) -> aiohttp.ClientResponse:
        headers = {"Accept": "application/json", "Content-Type": content or "application/json"}
        made = await self._prepared(method, path, query, headers, body)
        answer = await self._api.call_api(*made, _request_timeout=bound)
        found = answer.response
        assert isinstance(found, aiohttp.ClientResponse)
        return found

    async def _prepared(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        headers: dict[str, str],
        body: Raw | None = None,
    ) -> tuple[str, str, dict[str, str], Any, Any]:
        """With the credential, which may be fetched anew for it."""
        method, url, made, sent, posted = await self._api.param_serialize(
            method=method,
            resource_path=path,
            query_params=list(query.items()),
            header_params=headers,
            body=body,
            auth_settings=["BearerToken"],
        )
        return method, url, made, sent, posted


async def new_calls(
    context: str, counted: Callable[[str, str], None], kubeconfig: str = ""
) -> ApiCalls:
    """By the kubeconfig (`KUBECONFIG`, or kubectl's own), in a pod by its account.

    Args:
        context: of the kubeconfig; empty for its current one.
        counted: called with the verb and the resource of each call.
        kubeconfig: a file instead.

    Raises:
        Invalid: there is no such context, and no other credential.
    """
    made = client.Configuration()
    try:
        named = kubeconfig or os.environ.get("KUBECONFIG")
        if os.environ.get(_IN_POD) and not named and not context:
            config.load_incluster_config(client_configuration=made)  # type: ignore[no-untyped-call]
        else:
            await config.load_kube_config(  # type: ignore[no-untyped-call]
                config_file=named or KUBE_CONFIG_DEFAULT_LOCATION,
                context=context or None,
                client_configuration=made,
                persist_config=False,
            )
    except (ConfigException, OSError) as error:
        mend = "set KUBECONFIG, or name a context of it: kubernetes://CONTEXT"
        raise Invalid("ACCESS_URL", f"finds no cluster: {error}", mend) from error
    return ApiCalls(made, counted)


def _socket(address: Any) -> socket.socket:
    family, kind, protocol = address[:3]
    made = socket.socket(family, kind, protocol)
    for option in _ALIVE:
        made.setsockopt(*option)
    return made


def _event(line: bytes, path: str) -> Raw:
    """One event of a watch. Raises: what an error among them means."""
    event: Raw = orjson.loads(line)
    if event["type"] == "ERROR":
        code = int(event["object"].get("code") or 500)
        raise _meant(code, orjson.dumps(event["object"]), path)
    return event


def _away(error: Exception) -> Retryable:
    return Retryable(f"the API server does not answer ({type(error).__name__})")


def _meant(status: int, raw: bytes, path: str) -> Exception:
    message = _message(raw) or str(status)
    if status == 404:
        return NotFound(f"the API server knows no `{path}`: {message}")
    if status == 409:
        return Conflict(message)
    if status == 410:
        return Expired(message)
    if status in {400, 422}:
        return Invalid("", message)
    if status in {401, 403}:
        return Retryable(f"the API server refuses this account: {message}; grant it the role")
    return Retryable(f"the API server answers {status}: {message}")


def _message(raw: bytes) -> str:
    try:
        found = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return ""
    return str(found.get("message") or "") if isinstance(found, dict) else ""


def _resource(path: str) -> str:
    """The plural that a path is about: `/apis/G/V/namespaces/N/PLURAL/NAME`."""
    parts = path.strip("/").split("/")
    parts = parts[2:] if parts[0] == "api" else parts[3:]
    if len(parts) > 2 and parts[0] == "namespaces":
        parts = parts[2:]
    return "/".join((parts[0], *parts[2:3]))
