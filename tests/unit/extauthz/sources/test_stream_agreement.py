"""What the controller sends is what a sidecar takes: both ends of the protocol, without a wire."""

import asyncio
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from backend.controller.governed import Governed
from backend.controller.hub import Hub
from backend.controller.messages import messages
from extauthz.core.decision import ObjectRef, PolicyFacts
from extauthz.core.governance import Key
from extauthz.core.model import MCPAccessGrant, MCPAgentSession, MCPServer
from extauthz.core.resources import parse_object
from extauthz.sources.policies import Policies
from extauthz.sources.stream.counts import Counts, Kind, Result
from extauthz.sources.stream.intake import Intake
from extauthz.sources.stream.options import StreamOptions
from protos.gen.policy_stream_pb2 import PolicyUpdate
from tests.unit.extauthz.core.objects import grant, server, session

SERVER = ObjectRef("ns", "srv")
NAMES, PLACES = st.sampled_from(["a", "b", "c"]), st.sampled_from(["ns", "other"])
PUTS = st.one_of(
    st.builds(lambda *of: ("MCPAccessGrant", *of), NAMES, PLACES, st.booleans()),
    st.builds(lambda *of: ("MCPAgentSession", *of), NAMES, PLACES, st.booleans()),
)
Rounds = list[tuple[list[tuple[tuple[str, str, str, bool], bool]], bool]]
CHANGES = st.lists(st.tuples(PUTS, st.booleans()), max_size=4)


class Controller:
    """The controller's documents, and one sidecar that follows."""

    def __init__(self) -> None:
        self.hub, self._governed = Hub(lambda _: None), Governed("")
        made = parse_object(server(policy={"allowedNamespaces": ["other"]}))
        assert isinstance(made, MCPServer)
        self.hub.publish(self._governed.put_server(made, "2026-01-01T00:00:00.000Z"))

    def change(self, kind: str, name: str, namespace: str, flag: bool, *, gone: bool) -> None:
        made = None
        if not gone:
            is_grant = kind == "MCPAccessGrant"
            value = (
                grant(name, namespace, disabled=flag)
                if is_grant
                else session(name, namespace, revoked=flag)
            )
            found = parse_object(value)
            assert isinstance(found, MCPAccessGrant | MCPAgentSession)
            made = found
        for delta in self._governed.put(Key(kind, namespace, name), made):
            self.hub.publish(delta)


@settings(derandomize=True, max_examples=40, deadline=None)
@given(st.lists(st.tuples(CHANGES, st.booleans()), min_size=1, max_size=5))
def test_both_ends_agree(rounds: Rounds) -> None:
    """After any changes and breaks both hold one revision, nothing was refused, and one whole
    document was enough."""
    with TemporaryDirectory() as folder:
        asyncio.run(_follow(rounds, Path(folder)))


async def _follow(rounds: Rounds, folder: Path) -> None:
    controller, counts = Controller(), Counts()
    policies = Policies(PolicyFacts(server="srv", namespace="ns"))
    options = StreamOptions(
        address="127.0.0.1:1",
        server="srv",
        namespace="ns",
        gateway="gw",
        store=folder / "last-policy.db",
    )
    taking = Intake(options, policies, time.time, counts)
    await taking.load()
    follower = None
    for changes, breaks in rounds:
        for change, gone in changes:
            controller.change(*change, gone=gone)
        if follower is None or breaks:
            if follower:
                controller.hub.leave(follower)
            taking.begin()
            follower = controller.hub.follow(SERVER, "gw", taking.revision, lambda: None)
        assert follower
        while (sent := follower.due(confirm=not taking.revision)) is not None:
            for message in messages(sent):
                wire = PolicyUpdate.FromString(message.SerializeToString())
                answer = await taking.take(wire)
            assert answer
            assert answer.error == ""
            controller.hub.answered(follower, answer.nonce, answer.revision, answer.error)
        document = controller.hub.document(SERVER)
        assert document
        assert taking.revision == document.revision == policies.current.facts.revision
    assert counts.updates[Kind.FULL, Result.SUCCESS] == 1
    await taking.close()
