"""The policy stream over gRPC: who is served when, and what is said."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import grpc
import pytest
from prometheus_client import CollectorRegistry

from backend.controller.governed import Delta, part_of
from backend.controller.hub import Hub
from backend.controller.stream import PolicyStream
from backend.metrics import ControllerMetrics
from extauthz.core.decision import ObjectRef
from extauthz.core.errors import Forbidden, Retryable, Unauthenticated
from extauthz.core.governance import Key
from protos.gen import policy_stream_pb2 as wire
from protos.gen.policy_stream_pb2_grpc import (
    PolicyStreamStub,
    add_PolicyStreamServicer_to_server,
)
from tests.tools.policy_follower import PolicyFollower, refusal
from tests.tools.waiting import soon

SERVER = ObjectRef("ns", "srv")
HEAD = {"schema_version": "v1", "server": {"namespace": "ns", "name": "srv"}}


def _grant(name: str) -> Delta:
    key = Key("MCPAccessGrant", "ns", name)
    value = {"name": name, "namespace": "ns", "agent_id": name}
    return Delta(SERVER, put={key: part_of(key.kind, value)})


class World:
    """A stream on one port, with all that it asks about."""

    def __init__(self) -> None:
        self.hub = Hub(lambda _: None)
        self.hub.publish(Delta(SERVER, HEAD))
        self.fault, self.is_sure, self.staleness = "", True, ""
        self.refusal: Exception | None = None
        self.stream = PolicyStream(
            self.hub,
            self,
            fault=lambda: self.fault,
            is_sure=lambda: self.is_sure,
            staleness=lambda _: self.staleness,
            metrics=ControllerMetrics(CollectorRegistry()),
            name="one",
        )
        self.port = 0

    async def check(self, authorization: str, server: ObjectRef) -> None:
        if self.refusal:
            raise self.refusal

    @asynccontextmanager
    async def following(self, revision: str = "") -> AsyncIterator[PolicyFollower]:
        follower = PolicyFollower(self.port, b"")
        follower.revision = revision
        task = asyncio.create_task(follower.follow("ns", "srv"))
        try:
            yield follower
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError, grpc.aio.AioRpcError):
                await task
            await follower.close()

    async def refuses(self, revision: str = "", name: str = "srv") -> grpc.aio.AioRpcError:
        """How it ends the stream of a sidecar that holds a revision."""
        follower = PolicyFollower(self.port, b"")
        follower.revision = revision
        try:
            return await refusal(follower, "ns", name)
        finally:
            await follower.close()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    server = grpc.aio.server()
    add_PolicyStreamServicer_to_server(made.stream, server)  # type: ignore[no-untyped-call]
    made.port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield made
    await server.stop(0)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Unauthenticated("no token"), grpc.StatusCode.UNAUTHENTICATED),
        (Forbidden("not yours"), grpc.StatusCode.PERMISSION_DENIED),
        (Retryable("nobody can be asked"), grpc.StatusCode.UNAVAILABLE),
    ],
)
async def test_who_is_not_let_in(world: World, error: Exception, code: grpc.StatusCode) -> None:
    """Each refusal has the protocol's status, and its words."""
    world.refusal = error
    ended = await world.refuses()
    assert (ended.code(), ended.details()) == (code, str(error))


async def test_nobody_is_served_before_all_is_known(world: World) -> None:
    """A replica that does not lead, or does not know the objects, says so."""
    world.fault = "this replica does not lead"
    ended = await world.refuses()
    assert ended.code() is grpc.StatusCode.UNAVAILABLE
    assert ended.details() == world.fault


async def test_a_server_that_is_not_there(world: World) -> None:
    """It is told as such."""
    assert (await world.refuses(name="none")).code() is grpc.StatusCode.NOT_FOUND


async def test_the_first_message_subscribes(world: World) -> None:
    """Anything else ends the stream."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{world.port}") as channel:
        call = PolicyStreamStub(channel).Follow()
        await call.write(wire.FollowRequest(acknowledgement=wire.Acknowledgement(nonce="1")))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_change_is_sent_at_once(world: World) -> None:
    """It comes without anything being asked, and its acknowledgement is known."""
    async with world.following() as follower:
        await soon(lambda: follower.revision)
        world.hub.publish(_grant("a"))
        await soon(lambda: follower.names("grants") == {"a"})
        await soon(lambda: all(each.is_current for each in world.hub.followers(SERVER)))
    await soon(lambda: not world.hub.followers(SERVER))


async def test_confirmations_keep_a_policy_fresh(world: World) -> None:
    """Three come within the time after which the server's policy is stale."""
    world.staleness = "1s"
    async with world.following() as follower:
        await soon(lambda: len(follower.updates) > 3)
    revision = follower.revision
    assert set(follower.updates[1:]) == {(revision, revision)}


async def test_in_doubt_nobody_is_led_back(world: World) -> None:
    """A replica in doubt serves who has nothing, confirms nothing, and turns others away."""
    world.staleness, world.is_sure = "1s", False
    ended = await world.refuses("sha256:newer-perhaps")
    assert ended.code() is grpc.StatusCode.UNAVAILABLE
    async with world.following() as follower:
        await soon(lambda: follower.revision)
        async with world.following(follower.revision) as same:
            world.is_sure = True
            await soon(lambda: len(follower.updates) > 1)
            await soon(lambda: same.updates)
    assert follower.updates[0][1] == ""
    assert {base for _, base in same.updates} == {follower.revision}


async def test_a_replica_that_stops_leading_ends_its_streams(world: World) -> None:
    """So that its sidecars find the one that leads."""
    follower = PolicyFollower(world.port, b"")
    task = asyncio.create_task(follower.follow("ns", "srv"))
    await soon(lambda: follower.revision)
    world.fault = "this replica does not lead"
    world.stream.end()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await task
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    await follower.close()


async def test_a_sidecars_words_are_bounded(world: World) -> None:
    """Why it refuses an update is kept without what would move a terminal, and not for ever."""
    follower = PolicyFollower(world.port, b"")
    follower.refuses = "\x1b[2Jno room" + "!" * 10_000
    task = asyncio.create_task(follower.follow("ns", "srv"))
    await soon(lambda: any(each.error for each in world.hub.followers(SERVER)))
    [kept] = world.hub.followers(SERVER)
    assert kept.error.startswith("\ufffd[2Jno room!")
    assert len(kept.error) == 500
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    await follower.close()
