"""What is recorded of a directory, and what the api lists, is what the decision point runs."""

import asyncio
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from backend.adapters.directory import DirectoryStore
from backend.history.differences import differences
from backend.history.folder import Folder
from extauthz.core.compile import compile_document
from extauthz.core.decision import PolicyFacts
from extauthz.core.governance import Action, Key
from extauthz.core.history import Recorded
from extauthz.core.model import MCPAccessGrant, MCPServer, Resource
from extauthz.core.render import render
from extauthz.core.resources import parse_object
from extauthz.sources.directory import DirectorySource
from extauthz.sources.policies import Policies

SERVER = """\
apiVersion: mcpruntime.org/v1alpha1
kind: MCPServer
metadata: {name: shop, namespace: n}
spec: {}
"""
REFUSED = SERVER.replace("{}", "{auth: {humanIDHeader: X-A, agentIDHeader: X-A}}")
OBSERVED = SERVER.replace("{}", "{policy: {mode: observe}}")


def grant(name: str, trust: str) -> str:
    return (
        "---\napiVersion: mcpruntime.org/v1alpha1\nkind: MCPAccessGrant\n"
        f"metadata: {{name: {name}, namespace: n}}\n"
        f"spec: {{serverRef: {{name: shop}}, subject: {{agentID: {name}}}, maxTrust: {trust}}}\n"
    )


GRANTS = [grant(name, trust) for name in "abc" for trust in ("low", "high")]
CONTENT = st.one_of(
    st.none(),  # the file is removed
    st.sampled_from(["", "kind: [", "# nothing\n", grant("a", "huge"), GRANTS[0] + "kind: x\n"]),
    st.lists(st.sampled_from(GRANTS), min_size=1, max_size=3).map("".join),
)
EDITS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["1.yaml", "2.yml", "sub/3.yaml"]), CONTENT),
        st.tuples(st.just("server.yaml"), st.sampled_from([SERVER, REFUSED, OBSERVED])),
    ),
    max_size=8,
)


class History:
    """The last recorded change of each object."""

    def __init__(self, folder: Path) -> None:
        self.folder = Folder(folder, settle_seconds=0)
        self.recorded: dict[Key, Recorded] = {}

    def look(self) -> list[Resource]:
        changes = list(differences(self.recorded, self.folder.read(), 0))
        self.recorded |= {change.key: Recorded(1, change) for change in changes}
        last = [self.recorded[key].change for key in sorted(self.recorded)]
        return [
            parse_object(change.after)
            for change in last
            if change.after is not None and change.action is not Action.DELETED
        ]


def revision(resources: list[Resource]) -> str:
    """Of the policy that these objects make."""
    server = next(each for each in resources if isinstance(each, MCPServer))
    grants = [each for each in resources if isinstance(each, MCPAccessGrant)]
    document = render(server, grants, [], generated_at="2026-01-01T00:00:00Z")
    return compile_document(document).facts.revision


@settings(derandomize=True, deadline=None, max_examples=40)
@given(EDITS)
def test_whatever_is_edited_all_three_agree(edits: list[tuple[str, str | None]]) -> None:
    """Files that break, are emptied, contradict each other, make no policy, go and come back."""
    with tempfile.TemporaryDirectory() as name, asyncio.Runner() as runner:
        folder = Path(name)
        (folder / "sub").mkdir()
        (folder / "server.yaml").write_text(SERVER)
        policies, history, store = Policies(PolicyFacts()), History(folder), DirectoryStore(folder)
        source = DirectorySource(
            folder, policies, expected=PolicyFacts(), clock=lambda: 1.0, settle_seconds=0
        )
        for file, content in [("server.yaml", SERVER), *edits]:
            if content is None:
                (folder / file).unlink(missing_ok=True)
            else:
                (folder / file).write_text(content)
            runner.run(source.look())
            runs = policies.current.facts.revision
            assert revision(history.look()) == runs
            if policies.faults and (folder / "server.yaml").read_text() == REFUSED:
                continue  # the api lists what stands there, so that it can be mended
            assert revision([*store.servers(), *store.grants()]) == runs
