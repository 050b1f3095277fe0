"""The access folder beyond the contract: edits, faults, folders that are away."""

from pathlib import Path

import pytest

from backend.adapters.directory import DirectoryStore
from extauthz.core.errors import Invalid, Retryable
from extauthz.core.model import MCPAccessGrant

GRANT = """
apiVersion: mcpruntime.org/v1alpha1
kind: MCPAccessGrant
metadata: {{name: {name}, namespace: n}}
spec: {{serverRef: {{name: shop}}, subject: {{agentID: a}}}}
"""


def names(store: DirectoryStore) -> list[str]:
    return [grant.name for grant in store.grants()]


def test_an_edit_shows_at_once(tmp_path: Path) -> None:
    """Files of subfolders count, and what was removed is gone."""
    store = DirectoryStore(tmp_path)
    assert names(store) == []
    (tmp_path / "team").mkdir()
    (tmp_path / "team" / "a.yaml").write_text(GRANT.format(name="a"))
    (tmp_path / "b.yml").write_text(GRANT.format(name="b"))
    assert names(store) == ["a", "b"]
    (tmp_path / "b.yml").unlink()
    assert names(store) == ["a"]


def test_a_broken_file_hides_no_other(tmp_path: Path) -> None:
    """What does not validate is left out."""
    (tmp_path / "a.yaml").write_text(GRANT.format(name="a"))
    (tmp_path / "b.yaml").write_text("kind: [")
    assert names(DirectoryStore(tmp_path)) == ["a"]


def test_a_file_that_breaks_keeps_its_last_good_objects(tmp_path: Path) -> None:
    """As at the decision point: all of them or, where it was never good, none."""
    store, file = DirectoryStore(tmp_path), tmp_path / "a.yaml"
    file.write_text(f"{GRANT.format(name='a')}---\n{GRANT.format(name='b')}")
    assert names(store) == ["a", "b"]
    for broken in (f"{GRANT.format(name='c')}---\nkind: MCPAccessGrant\n", "", "kind: ["):
        file.write_text(broken)
        assert names(store) == ["a", "b"]
    assert names(DirectoryStore(tmp_path)) == []
    file.unlink()
    assert names(store) == []


def test_an_object_that_stands_twice_stays_as_it_was(tmp_path: Path) -> None:
    """As at the decision point; who looks for the first time is told."""
    store = DirectoryStore(tmp_path)
    (tmp_path / "b.yaml").write_text(GRANT.format(name="b"))
    assert names(store) == ["b"]
    (tmp_path / "a.yaml").write_text(f"{GRANT.format(name='a')}---\n{GRANT.format(name='b')}")
    assert names(store) == ["a", "b"]
    fresh = DirectoryStore(tmp_path)
    assert names(fresh) == ["a"]
    with pytest.raises(Invalid, match="stands twice"):
        fresh.get(MCPAccessGrant, "n", "b")
    (tmp_path / "b.yaml").unlink()
    assert names(store) == ["a", "b"]


def test_an_edit_of_the_same_size_in_the_same_moment_shows(tmp_path: Path) -> None:
    """File times are coarse: what was just written is read once more."""
    store, file = DirectoryStore(tmp_path), tmp_path / "a.yaml"
    for name in "abcdefgh" * 5:
        file.write_text(GRANT.format(name=name))
        assert names(store) == [name]


def test_a_missing_folder_is_away(tmp_path: Path) -> None:
    """The error names the folder and the mend."""
    store = DirectoryStore(tmp_path / "nowhere")
    with pytest.raises(Retryable, match=r"nowhere.*make it readable"):
        store.ping()
