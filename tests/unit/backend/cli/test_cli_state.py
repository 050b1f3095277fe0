"""The state folder: keys, lock and record."""

import os
import stat
from pathlib import Path

import pytest

from backend.cli.state import Component, Endpoints, Running, StateFolder, claim, read_running
from extauthz.core.errors import Conflict, Invalid

RUNNING = Running(
    pid=os.getpid(),
    started_at="2026-01-01T00:00:00.000Z",
    server="mcp-servers/demo",
    endpoints=Endpoints(mcp="http://m", ingest="http://i", api="http://a"),
    access_dir="/access",
    admin_key_file="/admin.key",
    operations="http://o",
    upstream="http://u",
    components=(Component("envoy", 7, 1),),
)


def test_keys_are_secret_random_and_kept(tmp_path: Path) -> None:
    """Each key is made once, for their owner's eyes alone."""
    folder, lock = claim(tmp_path / "state")
    folder.prepare()
    keys = (folder.admin_key, folder.ingest_key, folder.digest_key)
    first = [key.read_text() for key in keys]
    folder.prepare()
    os.close(lock)
    assert [key.read_text() for key in keys] == first
    assert len(set(first)) == len(keys)
    assert all(len(key.strip()) >= 32 for key in first)
    for key in keys:
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.root.stat().st_mode) == 0o700


def test_a_second_claim_names_the_first(tmp_path: Path) -> None:
    """Two runs on one folder: the second is told who has it and what to do."""
    _, lock = claim(tmp_path)
    with pytest.raises(Conflict, match=rf"pid {os.getpid()}\); stop it, or .* --state"):
        claim(tmp_path)
    os.close(lock)
    _, lock = claim(tmp_path)
    os.close(lock)


def test_a_folder_that_cannot_be_made_is_told_with_the_mend(tmp_path: Path) -> None:
    """One line, no traceback."""
    (tmp_path / "file").touch()
    with pytest.raises(Invalid, match=r"cannot be written .*; choose another folder"):
        claim(tmp_path / "file" / "state")


def test_the_record_comes_back_while_the_lock_is_held(tmp_path: Path) -> None:
    """A record counts as long as its run lives; a killed run's does not."""
    folder, lock = claim(tmp_path)
    folder.prepare()
    RUNNING.write(folder.record)
    assert read_running(folder) == RUNNING
    os.close(lock)
    assert folder.record.exists()
    assert read_running(folder) is None


def test_what_a_killed_run_left_is_swept_out(tmp_path: Path) -> None:
    """Stale sockets and records go; spooled events and logs stay."""
    folder, lock = claim(tmp_path)
    folder.prepare()
    RUNNING.write(folder.record)
    (tmp_path / "run" / "check.sock").touch()
    (tmp_path / "spool" / "events").touch()
    folder.log("envoy").write_text("the last words")
    folder.prepare()
    os.close(lock)
    assert not folder.record.exists()
    assert list((tmp_path / "run").iterdir()) == []
    assert (tmp_path / "spool" / "events").exists()
    assert (folder.logs / "envoy.log.1").read_text() == "the last words"


def test_no_folder_means_nothing_runs(tmp_path: Path) -> None:
    """Asking does not make the folder."""
    assert read_running(StateFolder(tmp_path / "none")) is None
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770])
def test_a_folder_that_others_can_write_is_refused(tmp_path: Path, mode: int) -> None:
    """They could put keys there that they know, and sockets of their own."""
    tmp_path.chmod(mode)
    with pytest.raises(Invalid, match="they can write it; choose a folder of your own"):
        claim(tmp_path)
    assert not list(tmp_path.iterdir())
