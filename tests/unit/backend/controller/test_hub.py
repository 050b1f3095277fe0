"""Which update a sidecar is sent."""

import pytest

from backend.controller.document import LiveDocument
from backend.controller.governed import Delta, part_of
from backend.controller.hub import Follower, Hub
from backend.controller.messages import MESSAGE_BYTES, messages
from extauthz.core.decision import ObjectRef
from extauthz.core.governance import Key

SERVER = ObjectRef("ns", "srv")
GRANT = "MCPAccessGrant"
HEAD = {"server": {"namespace": "ns", "name": "srv"}}


def _grant(name: str, **members: str) -> Delta:
    key = Key("MCPAccessGrant", "ns", name)
    return Delta(SERVER, put={key: part_of(key.kind, {"name": name, "namespace": "ns", **members})})


def _gone(name: str) -> Delta:
    return Delta(SERVER, gone=frozenset({Key("MCPAccessGrant", "ns", name)}))


@pytest.fixture
def hub() -> Hub:
    made = Hub(lambda _: None)
    made.publish(Delta(SERVER, HEAD))
    made.publish(_grant("a"))
    return made


def _follow(hub: Hub, revision: str = "") -> Follower:
    found = hub.follow(SERVER, "gateway", revision, lambda: None)
    assert found is not None
    return found


def _settle(hub: Hub, follower: Follower) -> None:
    while sent := follower.due():
        hub.answered(follower, sent.nonce, sent.update.revision, "")


def _revision(hub: Hub) -> str:
    document = hub.document(SERVER)
    assert document is not None
    return document.revision


def test_a_new_sidecar_gets_everything(hub: Hub) -> None:
    """One that holds nothing is sent a full update."""
    sent = _follow(hub).due()
    assert sent is not None
    assert sent.update.is_full
    assert sent.update.head
    assert len(sent.update.grants) == 1


def test_a_known_revision_gets_an_increment(hub: Hub) -> None:
    """A sidecar that comes back with an older revision is sent what changed since, alone."""
    held = _revision(hub)
    hub.publish(_grant("b"))
    hub.publish(_gone("a"))
    sent = _follow(hub, held).due()
    assert sent is not None
    assert (sent.update.base, sent.update.head) == (held, b"")
    assert (len(sent.update.grants), sent.update.removed) == (
        1,
        (Key("MCPAccessGrant", "ns", "a"),),
    )


def test_an_unknown_revision_gets_everything(hub: Hub) -> None:
    """Of a revision that nobody remembers, nothing is assumed."""
    sent = _follow(hub, "sha256:unheard").due()
    assert sent is not None
    assert sent.update.is_full


def test_the_current_revision_is_confirmed(hub: Hub) -> None:
    """A sidecar that is up to date is sent nothing but a confirmation, when it is time."""
    follower = _follow(hub, _revision(hub))
    assert follower.due() is None
    sent = follower.due(confirm=True)
    assert sent is not None
    assert sent.update.base == sent.update.revision == _revision(hub)
    assert not follower.is_current
    hub.answered(follower, sent.nonce, sent.update.revision, "")
    assert follower.is_current


def test_one_update_at_a_time(hub: Hub) -> None:
    """What changes while an update is on its way comes with the next, all at once."""
    follower = _follow(hub)
    first = follower.due()
    assert first is not None
    hub.publish(_grant("b"))
    hub.publish(_grant("c"))
    assert follower.due() is None
    hub.answered(follower, first.nonce, first.update.revision, "")
    second = follower.due()
    assert second is not None
    assert len(second.update.grants) == 2
    assert not follower.is_current


def test_a_refused_increment_is_followed_by_everything(hub: Hub) -> None:
    """A sidecar that cannot apply an increment gets a full update, and its reason is kept."""
    follower = _follow(hub)
    _settle(hub, follower)
    hub.publish(_grant("b"))
    sent = follower.due()
    assert sent is not None
    hub.answered(follower, sent.nonce, sent.update.base, "does not fit")
    assert follower.error == "does not fit"
    again = follower.due()
    assert again is not None
    assert again.update.is_full


def test_a_refused_document_is_not_sent_again(hub: Hub) -> None:
    """A full update that was refused comes again only once the document has changed."""
    follower = _follow(hub)
    sent = follower.due()
    assert sent is not None
    hub.answered(follower, sent.nonce, "", "too new for me")
    assert follower.due(confirm=True) is None
    hub.publish(_grant("b"))
    again = follower.due()
    assert again is not None
    assert again.update.is_full


def test_another_revision_than_sent_counts_as_refused(hub: Hub) -> None:
    """A sidecar that says it runs something else has not taken the update."""
    follower = _follow(hub)
    sent = follower.due()
    assert sent is not None
    hub.answered(follower, sent.nonce, "sha256:other", "")
    assert follower.error
    assert not follower.is_current


def test_answers_to_nothing_do_not_count(hub: Hub) -> None:
    """An answer with a nonce that is not on its way changes nothing."""
    follower = _follow(hub)
    sent = follower.due()
    assert sent is not None
    hub.answered(follower, "77", sent.update.revision, "")
    assert follower.is_answering
    assert follower.holds == ""


def test_what_is_put_again_changes_nothing(hub: Hub) -> None:
    """The same object once more makes no other revision, and wakes nobody."""
    woken: list[int] = []
    hub.follow(SERVER, "gateway", "", lambda: woken.append(1))
    assert not hub.publish(_grant("a"))
    assert not woken


def test_who_was_never_away_runs_what_came_back(hub: Hub) -> None:
    """A document that changed and changed back needs no update: it runs already."""
    follower = _follow(hub)
    _settle(hub, follower)
    hub.publish(_grant("b"))
    hub.publish(_gone("b"))
    assert follower.is_current
    assert follower.due() is None


def test_no_server_nobody_follows(hub: Hub) -> None:
    """A server that does not exist cannot be followed, nor one that is gone."""
    assert hub.follow(ObjectRef("ns", "none"), "g", "", lambda: None) is None
    follower = _follow(hub)
    assert hub.withdraw(SERVER) == (follower,)
    assert hub.follow(SERVER, "g", "", lambda: None) is None


def test_what_is_remembered_is_bounded() -> None:
    """Of more changes than are remembered, the oldest are forgotten, and lead to a full update."""
    document = LiveDocument(most_remembered=10)
    document.apply(Delta(SERVER, HEAD))
    revisions = []
    for number in range(20):
        revisions.append(document.revision)
        document.apply(_grant("a", human_id=str(number)))
    assert document.since(revisions[0]).is_full
    assert not document.since(revisions[-1]).is_full
    assert sum(not document.since(each).is_full for each in revisions) == 5


def test_many_changes_at_once_lead_to_the_same_revision() -> None:
    """A thousand and more objects at once make the same revision as one after the other."""
    at_once, one_by_one = LiveDocument(), LiveDocument()
    values = {
        Key(GRANT, "ns", f"g{n}"): part_of(GRANT, {"name": f"g{n}", "namespace": "ns"})
        for n in range(1500)
    }
    at_once.apply(Delta(SERVER, HEAD, values))
    one_by_one.apply(Delta(SERVER, HEAD))
    for key, value in values.items():
        one_by_one.apply(Delta(SERVER, put={key: value}))
    assert at_once.revision == one_by_one.revision


def test_large_updates_are_split(hub: Hub) -> None:
    """No message is larger than agreed, all carry one nonce, the last alone is complete."""
    text = "x" * 1000
    for number in range(600):
        hub.publish(_grant(f"g{number}", human_id=text))
    sent = _follow(hub).due()
    assert sent is not None
    told = list(messages(sent))
    assert len(told) > 2
    assert {each.nonce for each in told} == {sent.nonce}
    assert [each.complete for each in told] == [False] * (len(told) - 1) + [True]
    assert max(each.ByteSize() for each in told) < MESSAGE_BYTES + 10_000
    assert sum(len(each.grants) for each in told) == 601
