"""Changes of a compiled policy, against compiling the changed document."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extauthz.core.compile import compile_document
from extauthz.core.decision import ObjectRef
from extauthz.core.errors import Invalid
from extauthz.core.incremental import IncrementalPolicy
from extauthz.core.policy import Policy

HEAD = {"schema_version": "v1", "server": {"name": "demo", "namespace": "home"}}
NAMES = st.sampled_from(["a", "b", "away/c", "d"])
SUBJECTS = st.sampled_from([{}, {"human_id": "ann"}, {"agent_id": "ops"}])


def place(name: str) -> dict[str, str]:
    """An object's name as rendered, and its namespace."""
    return {"name": name, "namespace": name.rpartition("/")[0] or "home"}


def ref(name: str) -> ObjectRef:
    return ObjectRef(place(name)["namespace"], name.rpartition("/")[2])


@st.composite
def objects(draw: st.DrawFn, **members: Any) -> list[dict[str, Any]]:
    names = draw(st.lists(NAMES, unique=True, max_size=3))
    return [
        place(name) | draw(SUBJECTS) | {key: draw(value) for key, value in members.items()}
        for name in names
    ]


GRANTS = objects(max_trust=st.sampled_from(["low", "high"]), disabled=st.booleans())
SESSIONS = objects(revoked=st.booleans())
CHANGES = st.tuples(GRANTS, SESSIONS, st.lists(NAMES), st.lists(NAMES))


def described(policy: Policy) -> list[Any]:
    """All that decides, in a form that compares."""
    grants = {subject: found.grants for subject, found in policy.grants.items()}
    return [policy.facts, grants, policy.sessions]


@given(GRANTS, SESSIONS, st.lists(CHANGES, max_size=4))
def test_same_as_compiling(
    grants: list[dict[str, Any]], sessions: list[dict[str, Any]], changes: list[Any]
) -> None:
    """After any changes the policy and its revision are those of the changed document."""
    incremental = IncrementalPolicy.of(HEAD | {"grants": grants, "sessions": sessions})
    kept = [{item["name"]: item for item in items} for items in (grants, sessions)]
    for *put, gone_grants, gone_sessions in changes:
        before = incremental.policy
        seen = described(before)
        for index, items, gone in zip(kept, put, (gone_grants, gone_sessions), strict=True):
            for name in gone:
                index.pop(name, None)
            index |= {item["name"]: item for item in items}
        incremental.change(
            grants=put[0],
            sessions=put[1],
            gone_grants=map(ref, gone_grants),
            gone_sessions=map(ref, gone_sessions),
        )
        assert described(before) == seen
    document = HEAD | {"grants": [*kept[0].values()], "sessions": [*kept[1].values()]}
    assert described(incremental.policy) == described(compile_document(document))


def test_an_invalid_change_changes_nothing() -> None:
    """It is refused with its path, and the policy is the one before."""
    incremental = IncrementalPolicy.of(HEAD | {"grants": [place("a") | {"human_id": "ann"}]})
    before = incremental.policy
    with pytest.raises(Invalid, match=r"\$\.grants\[1\]\.max_trust: unknown value `huge`"):
        incremental.change(grants=[place("b"), place("d") | {"max_trust": "huge"}])
    assert incremental.policy is before
    assert described(incremental.change()) == described(before)


def test_a_session_never_takes_the_place_of_another() -> None:
    """Refused as compiling refuses it: one may be revoked, and the other not."""
    incremental = IncrementalPolicy.of(
        HEAD | {"sessions": [place("a") | {"agent_id": "ops", "revoked": True}]}
    )
    before = incremental.policy
    with pytest.raises(Invalid, match="second session `a`"):
        incremental.change(sessions=[{"name": "a", "namespace": "away", "agent_id": "ops"}])
    assert incremental.policy is before
    assert described(incremental.change()) == described(before)
