"""The access directory that a run begins with."""

from pathlib import Path

from backend.cli.access import default_access, read_access
from backend.cli.state import StateFolder


def test_own_servers_do_not_get_the_reference_servers_grants(tmp_path: Path) -> None:
    """Both kinds of run find an access directory of their own in one state folder."""
    folder = StateFolder(tmp_path)
    demo = default_access(folder, is_demo=True)
    own = default_access(folder, is_demo=False)
    assert demo == tmp_path / "access"
    assert [server.name for server in read_access(demo).servers] == ["reference-server"]
    assert [server.name for server in read_access(own).servers] == ["my-server"]


def test_edits_are_never_overwritten(tmp_path: Path) -> None:
    """A second run takes what the user has made of the example."""
    folder = StateFolder(tmp_path)
    for is_demo in (True, False):
        access = default_access(folder, is_demo=is_demo)
        for file in access.iterdir():
            file.unlink()
        assert not list(default_access(folder, is_demo=is_demo).iterdir())
