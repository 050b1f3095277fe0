"""The access folder beyond the contract: edits, faults, folders that are away."""

from pathlib import Path

import pytest

from backend.adapters.directory import DirectoryStore
from extauthz.core.errors import Retryable

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


def test_a_missing_folder_is_away(tmp_path: Path) -> None:
    """The error names the folder and the mend."""
    store = DirectoryStore(tmp_path / "nowhere")
    with pytest.raises(Retryable, match=r"nowhere.*make it readable"):
        store.ping()
