"""A sidecar's end of the policy stream, for tests: follows one server, as the protocol says."""

import asyncio
from typing import Any

import grpc
import orjson

from extauthz.core.compile import compile_document
from protos.gen import policy_stream_pb2 as wire
from protos.gen.policy_stream_pb2_grpc import PolicyStreamStub
from tests.tools.waiting import SECONDS


class PolicyFollower:
    """Puts updates together, and acknowledges them.

    Args:
        port: of a controller on this machine.
        authority: PEM of who signed its certificate; empty where it has none.

    Attributes:
        document: what runs; empty before there is one.
        revision: its content digest.
        updates: the revision and base of each that came.
        refuses: why updates are refused; empty where they are taken.
    """

    def __init__(self, port: int, authority: bytes, *, token: str = "") -> None:
        self._token = token
        address, credentials = f"127.0.0.1:{port}", grpc.ssl_channel_credentials(authority or None)
        self._channel = (
            grpc.aio.secure_channel(address, credentials)
            if authority
            else grpc.aio.insecure_channel(address)
        )
        self._head: dict[str, Any] = {}
        self._parts: dict[str, dict[tuple[str, str], Any]] = {"grants": {}, "sessions": {}}
        self.document: dict[str, Any] = {}
        self.revision, self.refuses = "", ""
        self.updates: list[tuple[str, str]] = []

    async def follow(self, namespace: str, name: str, gateway: str = "gateway") -> None:
        """Until the controller ends it. Raises: grpc.aio.AioRpcError: unless it ends well."""
        metadata = (("authorization", f"Bearer {self._token}"),) if self._token else ()
        call = PolicyStreamStub(self._channel).Follow(metadata=metadata)
        asked = wire.Subscription(
            namespace=namespace, name=name, gateway=gateway, revision=self.revision
        )
        await call.write(wire.FollowRequest(subscription=asked))
        async for update in call:
            self._take(update)
            if not update.complete:
                continue
            self.updates.append((update.revision, update.base_revision))
            if not self.refuses and update.base_revision != update.revision:
                self.document = self._head | {k: [*p.values()] for k, p in self._parts.items()}
                self.revision = compile_document(self.document).facts.revision
            answer = wire.Acknowledgement(
                nonce=update.nonce, revision=self.revision, error=self.refuses
            )
            await call.write(wire.FollowRequest(acknowledgement=answer))

    async def close(self) -> None:
        await self._channel.close()

    def names(self, kind: str) -> set[str]:
        """Of the grants or sessions that run."""
        return {item["name"] for item in self.document.get(kind, ())}

    def _take(self, update: wire.PolicyUpdate) -> None:
        if not update.base_revision and update.head:
            self._parts = {"grants": {}, "sessions": {}}
        if update.head:
            self._head = orjson.loads(update.head)
        for kind, parts in self._parts.items():
            for raw in getattr(update, kind):
                value = orjson.loads(raw)
                parts[value["namespace"], value["name"].rpartition("/")[2]] = value
            for ref in getattr(update, f"removed_{kind}"):
                parts.pop((ref.namespace, ref.name), None)


async def refusal(follower: PolicyFollower, namespace: str, name: str) -> grpc.aio.AioRpcError:
    """How the controller ends a stream that it refuses."""
    try:
        async with asyncio.timeout(SECONDS):
            await follower.follow(namespace, name)
    except grpc.aio.AioRpcError as error:
        return error
    raise AssertionError("the stream was let in")
