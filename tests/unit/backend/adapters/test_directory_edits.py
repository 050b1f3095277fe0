"""Edits of the access folder beyond the contract: whole files, and other people's edits."""

import fcntl
import os
import resource
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from backend.adapters.directory import DirectoryStore
from backend.adapters.directory_file import locked
from extauthz.core.errors import Invalid, Retryable
from extauthz.core.model import MCPAccessGrant

GRANT = """\
# {name} may
apiVersion: mcpruntime.org/v1alpha1
kind: MCPAccessGrant
metadata: {{name: {name}, namespace: n}}
spec: {{serverRef: {{name: shop}}, subject: {{agentID: a}}, maxTrust: low}}
"""
Change = Callable[[MCPAccessGrant | None], MCPAccessGrant | None]


def disable(grant: MCPAccessGrant | None) -> MCPAccessGrant | None:
    assert grant is not None
    return replace(grant, disabled=True)


def delete(_: MCPAccessGrant | None) -> None:
    return None


def create(_: MCPAccessGrant | None) -> MCPAccessGrant:
    return replace(MADE, name="new")


def nothing(_old: object, _new: object) -> None:
    pass


def never(_old: object, _new: object) -> None:
    raise AssertionError("recorded what cannot be written")


def edit(
    folder: Path,
    change: Change,
    name: str = "g",
    before_write: Callable[[object, object], None] = nothing,
) -> None:
    DirectoryStore(folder).edit(MCPAccessGrant, "n", name, change, before_write=before_write)


def made() -> MCPAccessGrant:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "g.yaml").write_text(GRANT.format(name="g"))
        return DirectoryStore(Path(folder)).get(MCPAccessGrant, "n", "g").resource


MADE = made()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "g.yaml").write_text(GRANT.format(name="g"))
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    """But for the lock."""
    files = (path for path in folder.iterdir() if path.name != ".sentinel.lock")
    return {path.name: path.read_bytes() for path in files}


@contextmanager
def unchanged(folder: Path) -> Iterator[None]:
    """Nothing is written, and nothing is left behind."""
    before = contents(folder)
    yield
    assert contents(folder) == before


def grants(folder: Path) -> list[str]:
    return [grant.name for grant in DirectoryStore(folder).grants()]


def test_a_new_object_has_a_file_of_its_own(folder: Path) -> None:
    """Named as a person would, with the creation time; it is never another's name."""
    store = DirectoryStore(folder, clock=lambda: 1767323045.678)
    (folder / "grant-new.yaml").write_text("# mine\n")
    (folder / "grant-n-new.yaml").mkdir()
    for _ in range(2):
        stored = store.edit(MCPAccessGrant, "n", "new", create, before_write=nothing).after
        assert stored is not None
        assert stored.created_at == "2026-01-02T03:04:05Z"
    assert (folder / "grant-new.yaml").read_text() == "# mine\n"
    assert (folder / "grant-n-new-2.yaml").read_text() == (
        "apiVersion: mcpruntime.org/v1alpha1\n"
        "kind: MCPAccessGrant\n"
        "metadata:\n"
        "  name: new\n"
        '  namespace: "n"\n'
        '  creationTimestamp: "2026-01-02T03:04:05Z"\n'
        "spec:\n"
        "  serverRef:\n"
        "    name: shop\n"
        '    namespace: "n"\n'
        "  subject:\n"
        "    agentID: a\n"
        "  maxTrust: low\n"
    )
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE((folder / "grant-n-new-2.yaml").stat().st_mode) == 0o666 & ~umask


def test_long_names_make_files(folder: Path) -> None:
    """A Kubernetes name may be as long as a file's, without its ending."""
    for end in "ab":
        name = "n" * 252 + end
        edit(folder, lambda _, name=name: replace(MADE, name=name), name)
    assert len(grants(folder)) == 3


def test_the_last_object_takes_its_file_along(folder: Path) -> None:
    """One of several leaves the others as they are."""
    both = folder / "both.yaml"
    both.write_text(f"{GRANT.format(name='x')}---\n{GRANT.format(name='y')}")
    edit(folder, delete, "y")
    assert both.read_text() == GRANT.format(name="x")
    edit(folder, delete, "x")
    assert contents(folder).keys() == {"g.yaml"}


def test_a_file_keeps_its_mode(folder: Path) -> None:
    """Whoever could read it still can, and nobody else."""
    (folder / "g.yaml").chmod(0o640)
    edit(folder, disable)
    assert stat.S_IMODE((folder / "g.yaml").stat().st_mode) == 0o640


def test_a_byte_order_mark_stays(folder: Path) -> None:
    """As some editors of Windows write it."""
    (folder / "g.yaml").write_bytes(b"\xef\xbb\xbf" + GRANT.format(name="g").encode())
    edit(folder, disable)
    assert (folder / "g.yaml").read_bytes().startswith(b"\xef\xbb\xbf# g may\n")
    assert DirectoryStore(folder).grants()[0].disabled


def test_unknown_fields_stay(folder: Path) -> None:
    """What is mcp-runtime's alone, a status too; they count for the version."""
    text = GRANT.format(name="g").replace("n}", "n, annotations: {a: b}}")
    (folder / "g.yaml").write_text(f"{text}status: {{phase: Active}}\n")
    store = DirectoryStore(folder)
    first = store.get(MCPAccessGrant, "n", "g").version
    edit(folder, disable)
    done = (folder / "g.yaml").read_text()
    assert "annotations: {a: b}" in done
    assert "status: {phase: Active}" in done
    second = store.get(MCPAccessGrant, "n", "g").version
    (folder / "g.yaml").write_text(done.replace("Active", "Ended"))
    assert len({first, second, store.get(MCPAccessGrant, "n", "g").version}) == 3


def test_a_link_is_followed(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The file is written, the link stays; deleting the object removes both."""
    real = tmp_path_factory.mktemp("elsewhere") / "real.yaml"
    real.write_text(GRANT.format(name="x"))
    link = folder / "link.yaml"
    link.symlink_to(real)
    edit(folder, disable, "x")
    assert link.is_symlink()
    assert "disabled: true" in real.read_text()
    edit(folder, delete, "x")
    assert not real.exists()
    assert not link.is_symlink()


def test_a_mounted_config_map_is_refused(tmp_path: Path) -> None:
    """It is read-only, and its files would be taken back."""
    (tmp_path / "..2026_01_01").mkdir()
    (tmp_path / "..2026_01_01" / "g.yaml").write_text(GRANT.format(name="g"))
    (tmp_path / "..data").symlink_to("..2026_01_01")
    (tmp_path / "g.yaml").symlink_to("..data/g.yaml")
    for name, change in (("g", disable), ("g", delete), ("new", create)):
        with pytest.raises(Retryable, match=r"is a mounted ConfigMap .*; change the ConfigMap"):
            edit(tmp_path, change, name, before_write=never)
    assert grants(tmp_path) == ["g"]


@pytest.mark.parametrize("change", [disable, delete])
def test_a_broken_file_is_not_edited(folder: Path, change: Change) -> None:
    """It does not count until it is mended, whatever is written to it."""
    with (folder / "g.yaml").open("a") as file:
        file.write("---\nkind: MCPAccessGrant\n")
    with unchanged(folder), pytest.raises(Invalid, match=r"g\.yaml:7: .*mend the file first"):
        edit(folder, change, before_write=never)


def test_a_name_that_a_broken_file_may_hold_is_not_made(folder: Path) -> None:
    """Mended, the object would stand twice."""
    (folder / "broken.yaml").write_text(GRANT.format(name="new").replace("kind:", "kind"))
    with unchanged(folder), pytest.raises(Invalid, match=r"broken\.yaml:4"):
        edit(folder, create, "new", before_write=never)
    edit(folder, lambda _: replace(MADE, name="other"), "other")


def test_a_broken_file_holds_no_other_edit_up(folder: Path) -> None:
    """Even where it names the object; nor does what is no file at all."""
    (folder / "broken.yaml").write_text("kind: [ # like g")
    (folder / "nowhere.yaml").symlink_to("nowhere")
    os.mkfifo(folder / "pipe.yaml")
    edit(folder, disable)
    edit(folder, create, "new")
    assert grants(folder) == ["g", "new"]


def test_an_object_that_stands_twice_is_not_edited(folder: Path) -> None:
    """Both places are named. All others are."""
    (folder / "h.yaml").write_text(GRANT.format(name="g"))
    with unchanged(folder), pytest.raises(Invalid, match=r"h\.yaml:2: .*g\.yaml:2.*keep one"):
        edit(folder, disable, before_write=never)
    edit(folder, create, "new")
    assert (folder / "grant-new.yaml").exists()


def test_anchors_are_left_alone(folder: Path) -> None:
    """The error names file and mend."""
    text = GRANT.format(name="g").replace("low", "&trust low")
    (folder / "g.yaml").write_text(text)
    with unchanged(folder), pytest.raises(Invalid, match=r"g\.yaml: holds .*`trust`.*by hand"):
        edit(folder, disable, before_write=never)


@pytest.mark.parametrize("when", ["change", "before_write"])
@pytest.mark.parametrize("wanted", [disable, delete])
def test_a_persons_edit_in_between_is_kept(folder: Path, when: str, wanted: Change) -> None:
    """An editor asks for no lock: what it saved meanwhile is what is changed at last."""
    path, seen = folder / "g.yaml", list[str]()
    theirs = f"{GRANT.format(name='h')}---\n{GRANT.format(name='g').replace('low', 'high')}"

    def save() -> None:
        if path.read_text() != theirs:
            path.write_text(theirs)

    def change(grant: MCPAccessGrant | None) -> MCPAccessGrant | None:
        assert grant is not None
        seen.append(grant.max_trust)
        if when == "change":
            save()
        return wanted(grant)

    def record(_old: object, _new: object) -> None:
        if when == "before_write":
            save()

    edit(folder, change, before_write=record)
    assert seen == ["low", "high"]
    if wanted is delete:
        assert path.read_text() == GRANT.format(name="h")
    else:
        assert path.read_text() == theirs.replace("high}", "high, disabled: true}")
    assert contents(folder).keys() == {"g.yaml"}


@pytest.mark.parametrize("half", ["", "kind: ", GRANT.format(name="g")[:100]])
def test_a_file_that_is_being_saved_is_waited_for(folder: Path, half: str) -> None:
    """Editors empty a file before they write it: that is no broken file yet."""
    theirs = GRANT.format(name="g").replace("low", "high")
    path = folder / "g.yaml"
    store = DirectoryStore(folder, pause=lambda _: path.write_text(theirs) and None)
    store.grants()
    path.write_text(half)
    store.edit(MCPAccessGrant, "n", "g", disable, before_write=nothing)
    assert path.read_text() == theirs.replace("high}", "high, disabled: true}")


def test_an_object_that_a_person_makes_meanwhile_is_changed(folder: Path) -> None:
    """It does not stand twice then."""

    def change(grant: MCPAccessGrant | None) -> MCPAccessGrant:
        (folder / "theirs.yml").write_text(GRANT.format(name="new"))
        return replace(MADE, name="new", disabled=True)

    edit(folder, change, "new")
    assert contents(folder).keys() == {"g.yaml", "theirs.yml"}
    assert "# new may" in (folder / "theirs.yml").read_text()
    assert DirectoryStore(folder).get(MCPAccessGrant, "n", "new").resource.disabled


def test_a_file_that_a_person_removes_meanwhile_stays_away(folder: Path) -> None:
    """Its object is gone, and the change is told so."""
    seen: list[object] = []

    def change(grant: MCPAccessGrant | None) -> MCPAccessGrant | None:
        seen.append(grant)
        (folder / "g.yaml").unlink(missing_ok=True)
        return replace(grant, disabled=True) if grant else None

    edit(folder, change)
    assert seen == [MADE, None]
    assert contents(folder) == {}


def test_an_editor_that_never_rests_is_given_up(folder: Path) -> None:
    """The call ends, and nothing of theirs is lost."""
    saved: list[str] = []

    def change(grant: MCPAccessGrant | None) -> MCPAccessGrant | None:
        saved.append(f"# {len(saved)}\n{GRANT.format(name='g')}")
        (folder / "g.yaml").write_text(saved[-1])
        return disable(grant)

    with pytest.raises(Retryable, match="all the time; try again"):
        edit(folder, change, before_write=never)
    assert contents(folder) == {"g.yaml": saved[-1].encode()}


EDITOR = """
import os, signal, sys
from dataclasses import replace
from pathlib import Path
from backend.adapters.directory import DirectoryStore
from extauthz.core.model import MCPAccessGrant, ToolRule

store, who, times = DirectoryStore(Path(sys.argv[1])), sys.argv[2], int(sys.argv[3])

def before_write(old, new):
    if who == "killed":
        os.kill(os.getpid(), signal.SIGKILL)

for number in range(times):
    def change(grant):
        rule = ToolRule(f"{who}-{number}", "allow", "")
        return replace(grant, tool_rules=(*grant.tool_rules, rule))
    store.edit(MCPAccessGrant, "n", "g", change, before_write=before_write)
    print(number, flush=True)
"""


def editor(folder: Path, who: str, times: int) -> subprocess.Popen[str]:
    """A process that adds so many rules to the grant."""
    command = [sys.executable, "-c", EDITOR, str(folder), who, str(times)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def rules(folder: Path) -> list[str]:
    return [r.name for r in DirectoryStore(folder).grants()[0].tool_rules]


def test_processes_at_once_lose_nothing(folder: Path) -> None:
    """Two that edit the same object."""
    editors = [editor(folder, who, 20) for who in "ab"]
    for each in editors:
        each.communicate()
        assert each.returncode == 0
    assert sorted(rules(folder)) == sorted(f"{who}-{n}" for who in "ab" for n in range(20))


def test_killed_in_the_middle_the_file_is_whole(folder: Path) -> None:
    """The old one stands; what was left behind is not read, and goes with the next edit."""
    before = (folder / "g.yaml").read_bytes()
    killed = editor(folder, "killed", 1)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    assert (folder / "g.yaml").read_bytes() == before
    assert len(contents(folder)) == 2
    assert grants(folder) == ["g"]
    edit(folder, disable)
    assert contents(folder).keys() == {"g.yaml"}


def test_killed_at_any_time_the_file_is_whole(folder: Path) -> None:
    """All that was answered stands there, and at most one more; the lock is free."""
    busy = editor(folder, "a", 10_000)
    assert busy.stdout is not None
    for line in busy.stdout:
        if line == "30\n":
            busy.kill()
            break
    told = 31 + len(busy.stdout.readlines())
    busy.communicate()
    assert len(rules(folder)) in {told, told + 1}
    edit(folder, disable)


@pytest.mark.parametrize(("name", "change"), [("g", disable), ("new", create)])
def test_a_full_disk_leaves_all_as_it_was(folder: Path, name: str, change: Change) -> None:
    """The error names what is full and the mend; room again, the edit works."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, hard))
    try:
        with unchanged(folder), pytest.raises(Retryable, match=r"cannot be written .*; "):
            edit(folder, change, name, before_write=never)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    edit(folder, change, name)


@contextmanager
def powerless() -> Iterator[None]:
    """As nobody, where it is root who tests."""
    mine = os.geteuid()
    if mine == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(mine)


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that everybody can reach, unlike those of pytest."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "g.yaml").write_text(GRANT.format(name="g"))
        yield folder
        folder.chmod(0o700)


@pytest.mark.parametrize(("name", "change"), [("g", disable), ("g", delete), ("new", create)])
def test_a_read_only_folder_is_told(shared: Path, name: str, change: Change) -> None:
    """Nothing is recorded of what cannot be written."""
    shared.chmod(0o555)
    with unchanged(shared), powerless(), pytest.raises(Retryable, match="; make it writable"):
        edit(shared, change, name, before_write=never)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files of others")
def test_another_users_file_is_not_taken(shared: Path) -> None:
    """Replaced, it would be ours, and they might not read it any more."""
    shared.chmod(0o777)
    (shared / "g.yaml").chmod(0o666)
    with unchanged(shared), powerless(), pytest.raises(Retryable, match="another user; edit it as"):
        edit(shared, disable, before_write=never)


def test_a_folder_that_is_away_is_told(tmp_path: Path) -> None:
    """It may come back."""
    with pytest.raises(Retryable, match=r"away` cannot be written .*; bring it back"):
        edit(tmp_path / "away", create, "new", before_write=never)


def test_readers_hold_no_edit_up(folder: Path) -> None:
    """Whoever can only read the folder cannot open what editors lock."""
    handle = os.open(folder, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_SH)
    edit(folder, disable)
    os.close(handle)
    assert stat.S_IMODE((folder / ".sentinel.lock").stat().st_mode) == 0o600


def test_who_may_write_in_the_folder_may_lock_it(folder: Path) -> None:
    """Also those of its group."""
    folder.chmod(0o775)
    edit(folder, disable)
    assert stat.S_IMODE((folder / ".sentinel.lock").stat().st_mode) == 0o660


def test_a_lock_that_is_held_too_long_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that hangs does not make the others hang."""
    monkeypatch.setattr("backend.adapters.directory_file.LOCK_SECONDS", 0.05)
    with locked(folder), pytest.raises(Retryable, match="by another process; try again"):
        edit(folder, disable, before_write=never)
    edit(folder, disable)
