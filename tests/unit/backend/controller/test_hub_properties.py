"""Whatever happens, every sidecar comes to run the document that the objects make."""

from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.controller.governed import Governed
from backend.controller.hub import Follower, Hub
from backend.controller.messages import messages
from backend.controller.rendering import Rendering
from extauthz.core.compile import compile_document
from extauthz.core.decision import ObjectRef
from extauthz.core.governance import Key
from extauthz.core.model import MCPAccessGrant, MCPAgentSession, MCPServer
from extauthz.core.render import render
from extauthz.core.resources import parse_object
from tests.unit.extauthz.core.objects import grant, server, session

SERVER = ObjectRef("ns", "srv")
NOW = "2026-01-01T00:00:00.000Z"
PLACES = st.sampled_from(["ns", "other", "foreign"])
NAMES = st.sampled_from(["a", "b", "c"])


class Sidecar:
    """Puts updates together as the protocol says, and compiles what comes of them."""

    def __init__(self) -> None:
        self.head: dict[str, Any] = {}
        self.parts: dict[str, dict[tuple[str, str], Any]] = {"grants": {}, "sessions": {}}
        self.revision = ""
        self.fulls = 0

    def take(self, follower: Follower, hub: Hub, *, refuse: bool = False) -> bool:
        """Whether anything was due; with `refuse`, keep what runs."""
        sent = follower.due(confirm=not self.revision)
        if sent is None:
            return False
        told = list(messages(sent))
        assert [each.complete for each in told] == [False] * (len(told) - 1) + [True]
        if refuse:
            hub.answered(follower, sent.nonce, self.revision, "no room")
            return True
        if not told[0].base_revision:
            self.head, self.parts = {}, {"grants": {}, "sessions": {}}
            self.fulls += 1
        for message in told:
            self._apply(message)
        hub.answered(follower, sent.nonce, self.revision, "")
        return True

    def _apply(self, message: Any) -> None:
        if message.head:
            self.head = orjson.loads(message.head)
        for kind, parts in self.parts.items():
            for raw in getattr(message, kind):
                value = orjson.loads(raw)
                parts[value["namespace"], value["name"].rpartition("/")[2]] = value
            for ref in getattr(message, f"removed_{kind}"):
                parts.pop((ref.namespace, ref.name), None)
        if message.complete:
            whole = self.head | {name: [*parts.values()] for name, parts in self.parts.items()}
            self.revision = compile_document(whole).facts.revision


class World:
    """Objects, the hub, and sidecars that come and go."""

    def __init__(self) -> None:
        self.hub, self.governed = Hub(lambda _: None), Governed("")
        self.rendering: Rendering | None = None
        self.sidecars = [Sidecar(), Sidecar()]
        self.streams: list[Follower | None] = [None, None]
        self.put_server({})

    def put_server(self, spec: dict[str, Any]) -> None:
        made = parse_object(server(**spec))
        assert isinstance(made, MCPServer)
        self.rendering = None
        self.hub.publish(self.governed.put_server(made, NOW))

    def begin(self, spec: dict[str, Any]) -> None:
        """Take a server step by step."""
        made = parse_object(server(**spec))
        assert isinstance(made, MCPServer)
        self.rendering = Rendering(self.governed, made, NOW)

    def step(self) -> None:
        if self.rendering and self.rendering.step(1):
            self.hub.publish(self.rendering.finish())
            self.rendering = None

    def put(self, value: Any) -> None:
        made = parse_object(value)
        assert isinstance(made, MCPAccessGrant | MCPAgentSession)
        key = Key(value["kind"], made.namespace, made.name)
        self.touch(key)
        for delta in self.governed.put(key, made):
            self.hub.publish(delta)

    def drop(self, kind: str, namespace: str, name: str) -> None:
        self.touch(Key(kind, namespace, name))
        for delta in self.governed.put(Key(kind, namespace, name), None):
            self.hub.publish(delta)

    def touch(self, key: Key) -> None:
        if self.rendering:
            self.rendering.touch([key])

    def connect(self, place: int) -> None:
        if self.streams[place] is None:
            held = self.sidecars[place].revision
            self.streams[place] = self.hub.follow(SERVER, f"g{place}", held, lambda: None)

    def disconnect(self, place: int) -> None:
        stream = self.streams[place]
        if stream is not None:
            self.hub.leave(stream)
            self.streams[place] = None

    def talk(self, place: int, refuse: bool) -> None:
        stream = self.streams[place]
        if stream is not None:
            self.sidecars[place].take(stream, self.hub, refuse=refuse)

    def revision(self) -> str:
        """Of the document as rendering it from nothing gives it."""
        items = self.governed.bindings.values()
        document = render(
            self.governed.servers[SERVER],
            [item for item in items if isinstance(item, MCPAccessGrant)],
            [item for item in items if isinstance(item, MCPAgentSession)],
            generated_at=NOW,
        )
        return str(document["content_digest"])


HAPPENS = st.one_of(
    st.builds(
        lambda ns, name, trust: lambda world: world.put(grant(name, ns, maxTrust=trust)),
        PLACES,
        NAMES,
        st.sampled_from(["low", "high"]),
    ),
    st.builds(
        lambda ns, name, gone: lambda world: world.put(session(name, ns, revoked=gone)),
        PLACES,
        NAMES,
        st.booleans(),
    ),
    st.builds(
        lambda kind, ns, name: lambda world: world.drop(kind, ns, name),
        st.sampled_from(["MCPAccessGrant", "MCPAgentSession"]),
        PLACES,
        NAMES,
    ),
    st.builds(
        lambda take, team, allowed: (
            lambda world: take(world, {"teamID": team, "policy": {"allowedNamespaces": allowed}})
        ),
        st.sampled_from([World.put_server, World.begin]),
        st.sampled_from(["", "t"]),
        st.sampled_from([[], ["other"]]),
    ),
    st.just(World.step),
    st.builds(
        lambda place, refuse: lambda world: world.talk(place, refuse),
        st.integers(0, 1),
        st.booleans(),
    ),
    st.builds(lambda place: lambda world: world.connect(place), st.integers(0, 1)),
    st.builds(lambda place: lambda world: world.disconnect(place), st.integers(0, 1)),
)


@settings(derandomize=True, max_examples=150, deadline=None)
@given(st.lists(HAPPENS, max_size=40))
def test_every_sidecar_comes_to_the_document(happens: list[Any]) -> None:
    """After any changes, breaks, refusals and resumptions, a sidecar that listens runs it."""
    world = World()
    for happen in happens:
        happen(world)
    while world.rendering:
        world.step()
    for place, sidecar in enumerate(world.sidecars):
        world.disconnect(place)
        world.connect(place)
        stream = world.streams[place]
        assert stream is not None
        while sidecar.take(stream, world.hub):
            pass
        told = stream.due(confirm=True)
        assert told is not None
        world.hub.answered(stream, told.nonce, sidecar.revision, "")
        assert sidecar.revision == world.revision()
        assert stream.is_current
