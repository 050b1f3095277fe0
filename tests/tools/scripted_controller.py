"""A controller that speaks the policy stream as a test tells it, over real gRPC."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

import grpc

from extauthz.core.revision import content_digest
from protos.gen.policy_stream_pb2 import (
    Acknowledgement,
    FollowRequest,
    ObjectKey,
    PolicyUpdate,
    Subscription,
)

Document = dict[str, Any]
SERVICE = "sentinel.policy.v1.PolicyStream"
PINGS = [("grpc.http2.min_ping_interval_without_data_ms", 10)]
BOTH = ("grants", "sessions")


def revision_of(document: Document) -> str:
    return content_digest(document)


def full(document: Document, nonce: str, parts: int = 1) -> list[PolicyUpdate]:
    """A whole document, its grants and sessions spread over so many messages."""
    head = {name: value for name, value in document.items() if name not in BOTH}
    messages = [PolicyUpdate(nonce=nonce, revision=revision_of(document)) for _ in range(parts)]
    messages[0].head = json.dumps(head).encode()
    for kind in BOTH:
        for place, item in enumerate(document.get(kind, ())):
            getattr(messages[place % parts], kind).append(json.dumps(item).encode())
    messages[-1].complete = True
    return messages


def confirmation(document: Document, nonce: str) -> PolicyUpdate:
    """Nothing has changed."""
    revision = revision_of(document)
    return PolicyUpdate(nonce=nonce, revision=revision, base_revision=revision, complete=True)


def increment(before: Document, after: Document, nonce: str) -> PolicyUpdate:
    """From one document to another."""
    update = PolicyUpdate(nonce=nonce, complete=True)
    update.base_revision, update.revision = revision_of(before), revision_of(after)
    heads = [{n: v for n, v in each.items() if n not in BOTH} for each in (before, after)]
    if heads[0] != heads[1]:
        update.head = json.dumps(heads[1]).encode()
    for kind in BOTH:
        old, new = ({_key(item): item for item in each.get(kind, ())} for each in (before, after))
        put = [item for key, item in new.items() if old.get(key) != item]
        getattr(update, kind).extend(json.dumps(item).encode() for item in put)
        gone = [ObjectKey(namespace=key[0], name=key[1]) for key in old.keys() - new.keys()]
        getattr(update, f"removed_{kind}").extend(gone)
    return update


def _key(item: Document) -> tuple[str, str]:
    namespace = item["namespace"]
    return namespace, item["name"].removeprefix(f"{namespace}/")


@dataclass
class Session:
    """One stream that a sidecar opened."""

    subscription: Subscription
    token: str
    _requests: Any
    _context: Any

    async def send(self, *messages: PolicyUpdate | bytes) -> None:
        """Send messages; bytes as they are."""
        for each in messages:
            raw = each if isinstance(each, bytes) else each.SerializeToString()
            await self._context.write(raw)

    async def answer(self) -> Acknowledgement:
        """The sidecar's next acknowledgement."""
        raw = await anext(self._requests, None)
        if raw is None:  # the sidecar left
            raise asyncio.CancelledError
        request = FollowRequest.FromString(raw)
        assert request.HasField("acknowledgement")
        return request.acknowledgement

    async def tell(self, *messages: PolicyUpdate | bytes) -> Acknowledgement:
        """Send, and await the answer."""
        await self.send(*messages)
        return await self.answer()

    async def refuse(self, code: grpc.StatusCode, details: str) -> None:
        """End the stream with a status."""
        await self._context.abort(code, details)

    async def hold(self) -> None:
        """Keep the stream open, until it is torn down."""
        await asyncio.Event().wait()


Script = Callable[[Session], Awaitable[None]]


class ScriptedController:
    """Serves on loopback; each stream runs `script`, and ends with it.

    Args:
        script: what is done with a stream.
        host: a loopback address.
        port: 0 picks one.
        tls: key and certificate, PEM; None: plaintext.

    Attributes:
        sessions: the streams so far.
    """

    def __init__(
        self,
        script: Script,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        tls: tuple[bytes, bytes] | None = None,
    ) -> None:
        self.script, self.host, self.port, self.tls = script, host, port, tls
        self.sessions: list[Session] = []

    async def __aenter__(self) -> "ScriptedController":
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0), *PINGS])
        handler: Any = grpc.stream_stream_rpc_method_handler(self._follow)
        self._server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler(SERVICE, {"Follow": handler})]
        )
        host = f"[{self.host}]" if ":" in self.host else self.host
        address = f"{host}:{self.port}"
        if self.tls:
            credentials = grpc.ssl_server_credentials([self.tls])
            self.port = self._server.add_secure_port(address, credentials)
        else:
            self.port = self._server.add_insecure_port(address)
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.stop(None)

    async def _follow(self, requests: Any, context: Any) -> None:
        metadata = dict(context.invocation_metadata())
        first = FollowRequest.FromString(await anext(requests))
        token = metadata.get("authorization", "").removeprefix("Bearer ")
        session = Session(first.subscription, token, requests, context)
        self.sessions.append(session)
        await context.send_initial_metadata((("controller", f"scripted-{self.port}"),))
        await self.script(session)


class Publisher:
    """A script that does it right: what a sidecar lacks, then every change.

    Args:
        document: the current one.

    Attributes:
        answers: all acknowledgements.
    """

    def __init__(self, document: Document) -> None:
        self._history = {revision_of(document): document}
        self._nonces = count(1)
        self._changed = asyncio.Condition()
        self.current = document
        self.answers: list[Acknowledgement] = []

    async def publish(self, document: Document) -> None:
        """Another document from here on."""
        async with self._changed:
            self.current = document
            self._history[revision_of(document)] = document
            self._changed.notify_all()

    async def __call__(self, session: Session) -> None:
        held = self._history.get(session.subscription.revision)
        while True:
            current, nonce = self.current, str(next(self._nonces))
            if held is None:
                messages = full(current, nonce, parts=2)
            elif held is current:
                messages = [confirmation(current, nonce)]
            else:
                messages = [increment(held, current, nonce)]
            answer = await session.tell(*messages)
            self.answers.append(answer)
            held = None if answer.error else current
            async with self._changed:
                while held is self.current:
                    await self._changed.wait()
