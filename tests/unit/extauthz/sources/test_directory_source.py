"""The directory source: what a folder of custom resources lets callers do."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from extauthz.core.decision import PolicyFacts
from extauthz.core.request import Call, Identity
from extauthz.sources.directory import DirectorySource
from extauthz.sources.policies import Policies, Reload

SERVER = """\
apiVersion: mcpruntime.org/v1alpha1
kind: MCPServer
metadata: {name: demo, namespace: home}
spec:
  policy: {defaultDecision: deny, allowedNamespaces: [friends]}
  tools:
  - {name: echo, sideEffect: read}
"""
GRANT = """\
apiVersion: mcpruntime.org/v1alpha1
kind: MCPAccessGrant
metadata: {name: ops, namespace: home}
spec:
  serverRef: {name: demo, namespace: home}
  subject: {agentID: ops}
  toolRules:
  - {name: echo, decision: allow}
"""
DENY = GRANT.replace("name: ops", "name: stop").replace("decision: allow", "decision: deny")

Look = Callable[[], object]


class World:
    """A folder, the source that reads it, and a clock."""

    def __init__(self, folder: Path, expected: PolicyFacts) -> None:
        self.folder, self.now = folder, 1000.0
        self.policies = Policies(expected)
        self.source = DirectorySource(
            folder,
            self.policies,
            expected=expected,
            clock=lambda: self.now,
            settle_seconds=0.01,
        )

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    async def look(self) -> str:
        """Look once; then the reason why `ops` may or may not call `echo`."""
        self.now += 1
        await self.source.look()
        call = Call(method="tools/call", tool="echo", rpc_id=1)
        identity = Identity(agent_id="ops")
        return self.policies.current.decide_call(call, identity, None, self.now).reason.value

    @property
    def faults(self) -> list[str]:
        return [str(fault) for fault in self.policies.faults]


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path, PolicyFacts())
    made.write("server.yaml", SERVER)
    made.write("team/grant.yml", GRANT)
    return made


async def test_runs(world: World) -> None:
    """Objects of all YAML files make the policy, subfolders too; other files are left out."""
    world.write("notes.txt", "a: [")
    world.write(".hidden.yaml", "a: [")
    world.write("..data/copy.yaml", GRANT)
    assert await world.look() == "allowed"
    facts = world.policies.current.facts
    assert (facts.namespace, facts.server, facts.mode) == ("home", "demo", "allow-list")
    assert (world.faults, world.policies.is_ready) == ([], True)


async def test_edit(world: World) -> None:
    """An edit changes the next decision, a deletion too."""
    assert await world.look() == "allowed"
    world.write("deny.yaml", DENY)
    assert await world.look() == "tool_denied"
    (world.folder / "deny.yaml").unlink()
    assert await world.look() == "allowed"
    (world.folder / "team/grant.yml").unlink()
    assert await world.look() == "no_matching_grant"


async def test_unchanged(world: World) -> None:
    """While nothing changes the compiled policy stays; that it is current is noted each time."""
    await world.look()
    before = world.policies.current
    await world.look()
    world.write("team/grant.yml", "# a comment\n" + GRANT)
    await world.look()
    after = world.policies.current
    assert after.policy is before.policy
    assert (before.confirmed_at, after.confirmed_at) == (1001, 1003)
    assert world.policies.reloads[Reload.SUCCESS] == 1


async def test_broken_file_keeps_last_good(world: World) -> None:
    """A file that breaks keeps its last good objects; the fault names line, field and mend."""
    world.write("deny.yaml", DENY)
    assert await world.look() == "tool_denied"
    world.write("deny.yaml", DENY.replace("decision: deny", "decision: dny"))
    world.write("team/grant.yml", GRANT.replace("agentID: ops", "agentID: other"))
    assert await world.look() == "tool_denied"
    assert world.policies.current.confirmed_at == 1002  # the other file's change runs
    (fault,) = world.faults
    assert fault == (
        "deny.yaml:8: spec.toolRules[0].decision: unknown value `dny`; use allow or deny"
    )
    assert world.policies.current.fault == fault
    await world.look()
    assert world.policies.current.confirmed_at == world.now
    assert world.policies.reloads[Reload.FAILURE] == 1
    world.write("deny.yaml", DENY)
    assert await world.look() == "tool_denied"
    assert (world.faults, world.policies.current.fault) == ([], "")


async def test_broken_from_the_start(world: World) -> None:
    """A file that was never good may hold a denial: no policy until it is mended."""
    world.write("deny.yaml", DENY + "oops: [")
    assert await world.look() == "policy_unavailable"
    assert "deny.yaml" in world.policies.current.fault
    assert not world.policies.is_ready
    world.write("deny.yaml", DENY)
    assert await world.look() == "tool_denied"


async def test_new_broken_file(world: World) -> None:
    """A broken file that appears while a policy runs holds nothing up."""
    assert await world.look() == "allowed"
    world.write("new.yaml", "a: [")
    assert await world.look() == "allowed"
    assert len(world.faults) == 1
    world.write("deny.yaml", DENY)
    assert await world.look() == "tool_denied"


async def test_emptied_file(world: World) -> None:
    """A file emptied by an accident keeps its objects; deleting it takes them away."""
    world.write("deny.yaml", DENY)
    await world.look()
    world.write("deny.yaml", "\n")
    assert await world.look() == "tool_denied"
    assert world.faults == ["deny.yaml: is empty now; delete the file to take its objects away"]


async def test_unreadable_file(world: World) -> None:
    """A link to nowhere is a fault, not a deletion."""
    world.write("deny.yaml", DENY)
    await world.look()
    (world.folder / "deny.yaml").unlink()
    (world.folder / "deny.yaml").symlink_to("nowhere")
    assert await world.look() == "tool_denied"
    assert world.faults[0].startswith("deny.yaml: cannot be read (No such file or directory)")


async def test_duplicates(world: World) -> None:
    """An object that stands twice stays as it was, and its places are named."""
    await world.look()
    world.write("copy.yaml", "---\n" + GRANT.replace("allow}", "deny}"))
    assert await world.look() == "allowed"
    assert world.faults == [
        "team/grant.yml:1: metadata.name: second MCPAccessGrant `home/ops` "
        "(the first is copy.yaml:2); keep one of them"
    ]
    (world.folder / "copy.yaml").unlink()
    assert await world.look() == "allowed"
    assert world.faults == []


async def test_another_object_stands_twice(world: World) -> None:
    """Rights are taken back all the same."""
    copy = GRANT.replace("name: ops", "name: other").replace("agentID: ops", "agentID: other")
    world.write("b.yaml", copy)
    await world.look()
    world.write("b-copy.yaml", copy)
    world.write("team/grant.yml", GRANT + "  disabled: true\n")
    assert await world.look() == "grant_disabled"
    assert "second MCPAccessGrant `home/other`" in world.faults[0]


async def test_stands_twice_from_the_start(world: World) -> None:
    """Nobody knows which is meant: no policy."""
    world.write("copy.yaml", GRANT.replace("allow}", "deny}"))
    assert await world.look() == "policy_unavailable"
    assert "second MCPAccessGrant `home/ops`" in world.faults[0]


async def test_what_is_broken_and_known_is_confirmed(world: World) -> None:
    """With `maxStaleness`, another team's typing error stops nobody."""
    world.write("other.yaml", DENY.replace("agentID: ops", "agentID: other"))
    await world.look()
    world.write("other.yaml", "kind: [")
    assert await world.look() == "allowed"
    assert world.policies.current.confirmed_at == world.now
    assert len(world.faults) == 1


async def test_what_was_never_good_is_not_confirmed(world: World) -> None:
    """It may hold a denial, whatever else changes meanwhile."""
    await world.look()
    confirmed_at = world.policies.current.confirmed_at
    world.write("other.yaml", "kind: [")
    await world.look()
    world.write("team/grant.yml", GRANT + "  maxTrust: high\n")
    await world.look()
    assert world.policies.current.confirmed_at == confirmed_at


async def test_server_gone(world: World) -> None:
    """Without the server's own object the running policy goes on, as a fault."""
    await world.look()
    (world.folder / "server.yaml").unlink()
    assert await world.look() == "allowed"
    assert "holds no MCPServer; add the MCPServer" in world.faults[0]


async def test_folder_gone(world: World) -> None:
    """A folder that is away changes nothing, and the policy is no longer confirmed."""
    await world.look()
    world.folder.rename(world.folder.with_name("away"))
    assert await world.look() == "allowed"
    assert "cannot be read (No such file or directory)" in world.faults[0]
    assert world.policies.current.confirmed_at == 1001
    world.folder.with_name("away").rename(world.folder)
    assert await world.look() == "allowed"
    assert world.faults == []


async def test_namespaces(world: World) -> None:
    """Objects count in the server's own namespace and in those it allows, nowhere else."""
    world.write(
        "team/grant.yml", GRANT.replace("name: ops, namespace: home", "name: ops, namespace: foes")
    )
    assert await world.look() == "no_matching_grant"
    world.write(
        "team/grant.yml",
        GRANT.replace("name: ops, namespace: home", "name: ops, namespace: friends"),
    )
    assert await world.look() == "allowed"


@pytest.mark.parametrize(
    ("expected", "outcome"),
    [
        (PolicyFacts(), "holds several MCPServers (away/demo, home/demo); set MCP_SERVER_NAME"),
        (PolicyFacts(server="demo", namespace="home"), "allowed"),
        (PolicyFacts(namespace="home"), "allowed"),
        (PolicyFacts(server="demo", namespace="away"), "no_matching_grant"),
        (PolicyFacts(server="demo"), "holds several MCPServers"),
        (PolicyFacts(server="none"), "holds no MCPServer `*/none` (there is away/demo, home/demo)"),
    ],
)
async def test_choice_of_server(tmp_path: Path, expected: PolicyFacts, outcome: str) -> None:
    """The server is the one that is named, else the only one there is."""
    world = World(tmp_path, expected)
    world.write("a.yaml", SERVER.replace("home", "away") + "---\n" + SERVER + "---\n" + GRANT)
    reason = await world.look()
    assert reason == outcome or (
        reason == "policy_unavailable" and outcome in world.policies.current.fault
    )


async def test_in_place_rewrite(world: World) -> None:
    """A file that is empty for a moment while it is rewritten never counts as empty."""
    world.write("deny.yaml", DENY)
    await world.look()
    path, sizes = world.folder / "deny.yaml", [0, 10, len(DENY)]
    reader = world.source._reader
    scan = reader._scan

    def scan_while_writing() -> object:
        if sizes:
            path.write_text(DENY[: sizes.pop(0)])
        return scan()

    reader._scan = scan_while_writing  # type: ignore[assignment,method-assign]
    assert await world.look() == "tool_denied"
    assert world.policies.reloads[Reload.FAILURE] == 0
    assert not sizes


async def test_links(world: World, tmp_path: Path) -> None:
    """A ConfigMap's link swap is seen; a link that leads back ends the walk."""
    for version, text in (("v1", DENY), ("v2", DENY.replace("deny}", "allow}"))):
        world.write(f"..{version}/deny.yaml", text)
    (tmp_path / "..data").symlink_to("..v1")
    (tmp_path / "deny.yaml").symlink_to("..data/deny.yaml")
    (tmp_path / "loop").symlink_to(".")
    assert await world.look() == "tool_denied"
    (tmp_path / "..new").symlink_to("..v2")
    (tmp_path / "..new").rename(tmp_path / "..data")
    assert await world.look() == "allowed"


async def test_a_pipe_does_not_hold_the_others_up(world: World) -> None:
    """What is no regular file is a fault; changes of other files go on to count."""
    assert await world.look() == "allowed"
    os.mkfifo(world.folder / "pipe.yaml")
    world.write("deny.yaml", DENY)
    assert await world.look() == "tool_denied"
    assert world.faults[0].startswith("pipe.yaml: cannot be read (is no regular file)")


async def test_no_more_is_read_than_a_file_may_hold(world: World) -> None:
    """A file without end costs no memory."""
    (world.folder / "zeros.yaml").touch()
    os.truncate(world.folder / "zeros.yaml", 1 << 40)
    assert await world.look() == "policy_unavailable"
    assert "is larger than" in world.faults[0]
