"""What every AccessStore must do, run against each adapter."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from backend.adapters.directory import DirectoryStore
from backend.adapters.kubernetes_client import CustomObjects
from backend.adapters.kubernetes_store import KubernetesStore
from backend.ports.access_store import AccessStore, Edited
from extauthz.core.decision import ObjectRef
from extauthz.core.errors import Conflict, Invalid, NotFound
from extauthz.core.model import (
    MCPAccessGrant,
    MCPAgentSession,
    MCPServer,
    Subject,
    ToolRule,
)
from extauthz.core.times import parse_instant
from tests.tools.kube_objects import Served

OBJECTS = """
apiVersion: mcpruntime.org/v1alpha1
kind: MCPServer
metadata: {name: shop, namespace: mcp-servers}
spec: {}
---
apiVersion: mcpruntime.org/v1alpha1
kind: MCPAccessGrant
metadata: {name: ops, namespace: mcp-servers}
spec: {serverRef: {name: shop}, subject: {agentID: ops-agent}, maxTrust: low}
---
apiVersion: mcpruntime.org/v1alpha1
kind: MCPAccessGrant
metadata: {name: ops, namespace: another, creationTimestamp: "2026-01-02T03:04:05Z"}
spec: {serverRef: {name: shop}, subject: {agentID: ops-agent}}
---
apiVersion: mcpruntime.org/v1alpha1
kind: MCPAgentSession
metadata: {name: s1, namespace: mcp-servers}
spec: {serverRef: {name: shop}, subject: {agentID: ops-agent}, consentedTrust: low}
"""
NEW = MCPAccessGrant(
    namespace="mcp-servers",
    name="new.1",
    server=ObjectRef("mcp-servers", "shop"),
    subject=Subject(human_id="alice: #1", agent_id="yes", team_id="0x1F"),
    max_trust="high",
    tool_rules=(ToolRule("null", "allow", ""), ToolRule("*", "deny", "medium")),
    allowed_side_effects=("read", "write"),
    policy_version="1e3",
    disabled=True,
    expires_at="2099-01-01T00:00:00Z",
)
SESSION = MCPAgentSession(
    namespace="another",
    name="s2",
    server=ObjectRef("mcp-servers", "shop"),
    subject=Subject(team_id="~"),
    consented_trust="medium",
    expires_at="2099-01-01T00:00:00Z",
    revoked=False,
    policy_version="",
    created_at="",
)
Opener = Callable[[], AccessStore]


def directory(folder: Path, _request: pytest.FixtureRequest) -> Opener:
    (folder / "objects.yaml").write_text(OBJECTS)
    return lambda: DirectoryStore(folder)


def kubernetes(_folder: Path, request: pytest.FixtureRequest) -> Opener:
    """The objects anew, in the one cluster that there is."""
    served: Served = request.getfixturevalue("served")
    for namespace in ("mcp-servers", "another"):
        served.clear(namespace)
    for each in yaml.safe_load_all(OBJECTS):
        served.create(each, each["metadata"]["namespace"])
    return lambda: KubernetesStore(CustomObjects(served.api))


@pytest.fixture(params=[directory, kubernetes], ids=lambda adapter: adapter.__name__)
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    """Opens one store of these objects, each time anew, as each process does."""
    made: Opener = request.param(tmp_path, request)
    return made


@pytest.fixture
def access(opener: Opener) -> AccessStore:
    return opener()


def unrecorded(_old: object, _new: object) -> None:
    pass


def disable(grant: MCPAccessGrant | None) -> MCPAccessGrant | None:
    return replace(grant, disabled=True) if grant else None


def edit(
    store: AccessStore,
    change: Callable[[MCPAccessGrant | None], MCPAccessGrant | None],
    name: str = "ops",
    expected: str = "",
) -> Edited[MCPAccessGrant]:
    return store.edit(
        MCPAccessGrant, "mcp-servers", name, change, before_write=unrecorded, expected=expected
    )


def all_of(store: AccessStore) -> Sequence[object]:
    return [*store.servers(), *store.grants(), *store.sessions()]


def test_objects_are_listed_by_namespace(access: AccessStore) -> None:
    """A blank namespace means all; lists are sorted."""
    access.ping()
    assert [g.namespace for g in access.grants()] == ["another", "mcp-servers"]
    assert [g.namespace for g in access.grants("mcp-servers")] == ["mcp-servers"]
    assert [s.name for s in access.servers()] == ["shop"]
    assert [s.name for s in access.sessions("mcp-servers")] == ["s1"]
    assert access.sessions("another") == []
    stored = access.objects(MCPAccessGrant)
    assert [each.resource for each in stored] == access.grants()
    assert parse_instant(stored[0].created_at, "") > 0


def test_an_object_is_got_by_name(access: AccessStore) -> None:
    """Namespace and name together name one object."""
    assert access.get(MCPAccessGrant, "another", "ops").resource.subject.agent_id == "ops-agent"
    assert access.get(MCPServer, "mcp-servers", "shop").resource.name == "shop"
    assert access.get(MCPAgentSession, "mcp-servers", "s1").resource.name == "s1"


def test_a_missing_object_is_not_found(access: AccessStore) -> None:
    """The error names the object."""
    with pytest.raises(NotFound, match="another/shop"):
        access.get(MCPServer, "another", "shop")


def test_an_edit_is_what_others_read(opener: Opener) -> None:
    """The edit's answer, and what another process gets, are the changed object."""
    before = opener().get(MCPAccessGrant, "mcp-servers", "ops")
    edited = edit(opener(), disable)
    assert edited.before == before
    assert edited.after == opener().get(MCPAccessGrant, "mcp-servers", "ops")
    assert edited.after.resource == replace(before.resource, disabled=True)


def test_versions_follow_changes(access: AccessStore) -> None:
    """Another version after each change of the object, and the same one until then."""
    first = access.get(MCPAccessGrant, "mcp-servers", "ops").version
    beside = access.get(MCPAccessGrant, "another", "ops").version
    second = edit(access, disable).after
    assert second is not None
    assert second.version != first
    assert access.get(MCPAccessGrant, "another", "ops").version == beside
    assert access.get(MCPAccessGrant, "mcp-servers", "ops").version == second.version


def test_objects_are_made_changed_and_deleted(access: AccessStore) -> None:
    """Every field arrives; the rest of the store stays as it was."""
    there = all_of(access)
    made = edit(access, lambda _: NEW, "new.1")
    assert made.before is None
    assert access.get(MCPAccessGrant, "mcp-servers", "new.1").resource == NEW
    plain = replace(
        NEW,
        subject=Subject(agent_id="b"),
        tool_rules=(),
        allowed_side_effects=(),
        policy_version="",
        disabled=False,
        expires_at="",
        max_trust="low",
    )
    edit(access, lambda _: plain, "new.1")
    assert access.get(MCPAccessGrant, "mcp-servers", "new.1").resource == plain
    edit(access, lambda _: NEW, "new.1")
    assert access.get(MCPAccessGrant, "mcp-servers", "new.1").resource == NEW
    gone = edit(access, lambda _: None, "new.1")
    assert gone.before is not None
    assert gone.after is None
    assert all_of(access) == there


def test_the_store_sets_the_creation_time(access: AccessStore) -> None:
    """Of what it makes; it stays as it is, whatever a change makes of it."""
    grant = edit(access, lambda _: NEW, "new.1").after
    assert grant is not None
    assert parse_instant(grant.created_at, "") > 0
    changed = edit(access, lambda _: replace(NEW, disabled=False), "new.1").after
    assert changed is not None
    assert changed.created_at == grant.created_at

    def put(_: MCPAgentSession | None) -> MCPAgentSession:
        return replace(SESSION, revoked=_ is not None)

    made = access.edit(MCPAgentSession, "another", "s2", put, before_write=unrecorded).after
    assert made is not None
    assert made.created_at == made.resource.created_at != ""
    revoked = access.edit(MCPAgentSession, "another", "s2", put, before_write=unrecorded).after
    assert revoked is not None
    assert revoked.resource == replace(made.resource, revoked=True)


def test_an_equal_object_is_not_written(access: AccessStore) -> None:
    """Nothing is recorded, and both sides are the same; nor for none where there was none."""
    told: list[object] = []

    def record(old: object, new: object) -> None:
        told.append((old, new))

    for name, there in (("ops", True), ("nobody", False)):
        edited = access.edit(
            MCPAccessGrant, "mcp-servers", name, lambda same: same, before_write=record
        )
        assert edited.before == edited.after
        assert (edited.before is not None) is there
    assert told == []


def test_it_is_recorded_before_it_is_written(opener: Opener) -> None:
    """`before_write` sees old and new, while the old one still stands."""
    told: list[object] = []

    def record(old: MCPAccessGrant | None, new: MCPAccessGrant | None) -> None:
        assert opener().get(MCPAccessGrant, "mcp-servers", "ops").resource == old
        told.append((old, new))

    store = opener()
    edited = store.edit(MCPAccessGrant, "mcp-servers", "ops", disable, before_write=record)
    assert edited.before is not None
    assert edited.after is not None
    assert told == [(edited.before.resource, edited.after.resource)]


@pytest.mark.parametrize("name", ["ops", "new.1"])
def test_what_cannot_be_recorded_is_not_written(access: AccessStore, name: str) -> None:
    """An error of `before_write` comes out, and everything is as it was."""
    there = all_of(access)

    def refuse(_old: object, _new: object) -> None:
        raise RuntimeError("the log is away")

    for change in (lambda _: replace(NEW, name=name), lambda _: None):
        if name == "new.1" and change(None) is None:
            continue
        with pytest.raises(RuntimeError, match="the log is away"):
            access.edit(MCPAccessGrant, "mcp-servers", name, change, before_write=refuse)
    assert all_of(access) == there


def test_an_error_of_the_change_comes_out(access: AccessStore) -> None:
    """Nothing is written then."""
    there = all_of(access)

    def refuse(_: MCPAccessGrant | None) -> MCPAccessGrant | None:
        raise Invalid("spec.maxTrust", "unknown value `hihg`", "use high")

    with pytest.raises(Invalid, match="hihg"):
        edit(access, refuse)
    assert all_of(access) == there


def test_an_edit_of_another_version_conflicts(access: AccessStore) -> None:
    """Nothing is written over what the caller has not seen; nor is what is gone made again."""
    seen = access.get(MCPAccessGrant, "mcp-servers", "ops").version
    edit(access, disable, expected=seen)
    with pytest.raises(Conflict, match="mcp-servers/ops"):
        edit(access, lambda _: None, expected=seen)
    assert access.get(MCPAccessGrant, "mcp-servers", "ops").resource.disabled
    edit(access, lambda _: None)
    with pytest.raises(Conflict, match="gone"):
        edit(access, lambda _: replace(NEW, name="ops"), expected=seen)
    with pytest.raises(NotFound):
        access.get(MCPAccessGrant, "mcp-servers", "ops")


def test_a_change_keeps_the_name(access: AccessStore) -> None:
    """An object of another name, or namespace, is another object."""
    for other in (NEW, replace(NEW, name="ops", namespace="another")):
        with pytest.raises(Invalid, match=r"metadata\.name"):
            edit(access, lambda _, other=other: other)


def test_what_would_not_validate_is_not_written(access: AccessStore) -> None:
    """The store holds only what can be read again."""
    there = all_of(access)
    for broken in (
        replace(NEW, subject=Subject()),
        replace(NEW, max_trust="hihg"),
        replace(NEW, tool_rules=(ToolRule("a", "allow", ""), ToolRule("a", "deny", ""))),
        replace(NEW, expires_at="tomorrow"),
    ):
        with pytest.raises(Invalid):
            edit(access, lambda _, broken=broken: broken, "new.1")
        with pytest.raises(Invalid):
            edit(access, lambda _, broken=broken: replace(broken, name="ops"))
    assert all_of(access) == there


def test_an_object_stays_what_it_is_about(access: AccessStore) -> None:
    """Another server, another subject of a session: create another object; nothing is recorded."""
    there, told = all_of(access), list[object]()
    elsewhere = ObjectRef("mcp-servers", "other")

    def record(_old: object, new: object) -> None:
        told.append(new)

    moves: list[tuple[type[Any], Callable[[Any], Any], str]] = [
        (MCPAccessGrant, lambda g: replace(g, server=elsewhere), "serverRef"),
        (MCPAgentSession, lambda s: replace(s, server=elsewhere), "serverRef"),
        (MCPAgentSession, lambda s: replace(s, subject=Subject(agent_id="thief")), "subject"),
    ]
    for kind, move, field in moves:
        name = "ops" if kind is MCPAccessGrant else "s1"
        with pytest.raises(Invalid, match=rf"spec\.{field}.*create another"):
            access.edit(kind, "mcp-servers", name, move, before_write=record)
    edit(access, lambda g: g and replace(g, subject=Subject(agent_id="other")))  # a grant's may
    assert told == []
    assert len(all_of(access)) == len(there)


def test_a_trust_that_is_never_reached_is_not_written(access: AccessStore) -> None:
    """Of a new grant; one that is there may be narrowed, whatever its rules are worth then."""
    broken = replace(NEW, max_trust="low", tool_rules=(ToolRule("pay", "allow", "high"),))
    there = all_of(access)
    with pytest.raises(Invalid, match=r"never allows `pay`.*raise maxTrust"):
        edit(access, lambda _: replace(broken, name="new.1"), "new.1")
    assert all_of(access) == there
    edit(access, lambda _: replace(broken, name="ops"), "ops")
    assert all_of(access) != there


def test_edits_at_once_lose_nothing(opener: Opener) -> None:
    """Four editors add ten rules each to one grant, and a grant each: all are there."""

    def add(editor: int) -> None:
        store = opener()
        for number in range(10):
            rule = ToolRule(f"tool-{editor}-{number}", "allow", "")
            edit(store, lambda g, rule=rule: replace(g, tool_rules=(*g.tool_rules, rule)))  # type: ignore[type-var, union-attr]
        edit(store, lambda _: replace(NEW, name=f"new-{editor}"), f"new-{editor}")

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(add, range(4)))
    rules = opener().get(MCPAccessGrant, "mcp-servers", "ops").resource.tool_rules
    assert {rule.name for rule in rules} == {f"tool-{e}-{n}" for e in range(4) for n in range(10)}
    assert len(rules) == 40
    assert {f"new-{e}" for e in range(4)} < {grant.name for grant in opener().grants()}
