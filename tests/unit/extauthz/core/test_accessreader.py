"""An access directory is read by one rule."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from extauthz.core.accessreader import AccessReader
from extauthz.core.manifests import Placed

GRANT = """\
apiVersion: mcpruntime.org/v1alpha1
kind: MCPAccessGrant
metadata: {{name: {name}, namespace: n}}
spec: {{serverRef: {{name: shop}}, subject: {{agentID: a}}}}
"""


def name_of(placed: Placed) -> str:
    return placed.resource.name


@pytest.fixture
def reader(tmp_path: Path) -> AccessReader[str]:
    return AccessReader(tmp_path, keep=name_of, settle_seconds=0)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., None]:
    def write(file: str, *names: str, more: str = "") -> None:
        text = "---\n".join(GRANT.format(name=name) for name in names)
        (tmp_path / file).write_text(text + more)

    return write


def test_objects_come_with_their_places(
    reader: AccessReader[str], write: Callable[..., None]
) -> None:
    """In the order of files and documents, with what the reader's user keeps."""
    write("b.yaml", "b")
    write("a.yml", "x", "y")
    reading = reader.read()
    assert [(o.kept, o.file, o.line) for o in reading.objects] == [
        ("x", "a.yml", 1),
        ("y", "a.yml", 6),
        ("b", "b.yaml", 1),
    ]
    assert (reading.faults, reading.duplicates, reading.is_known) == ((), {}, True)


def test_a_broken_file_keeps_its_last_good_objects(
    reader: AccessReader[str], write: Callable[..., None], tmp_path: Path
) -> None:
    """As a whole: not what can be read of it now, which is there for those who check files."""
    write("a.yaml", "a", "b")
    written = reader.read().files[tmp_path / "a.yaml"].modified_at
    write("a.yaml", "c", more="---\nkind: MCPAccessGrant\n")
    reading = reader.read()
    file = reading.files[tmp_path / "a.yaml"]
    assert [each.kept for each in reading.objects] == ["a", "b"]
    assert [each.kept for each in file.partial] == ["c"]
    assert (len(reading.faults), reading.is_known, file.modified_at) == (1, True, written)
    write("a.yaml", "c")
    assert [each.kept for each in reader.read().objects] == ["c"]


def test_what_was_never_good_is_not_known(
    reader: AccessReader[str], write: Callable[..., None]
) -> None:
    """It may hold a denial; an empty file holds nothing."""
    write("empty.yaml")
    assert reader.read().is_known
    write("a.yaml", "a", more="kind: [")
    assert not reader.read().is_known
    write("a.yaml", "a")
    assert reader.read().is_known


def test_an_emptied_file_is_broken(reader: AccessReader[str], write: Callable[..., None]) -> None:
    """Editors that were stopped leave such; to take objects away is to delete their file."""
    write("a.yaml", "a")
    reader.read()
    write("a.yaml", more="\n")
    reading = reader.read()
    assert [each.kept for each in reading.objects] == ["a"]
    assert str(reading.faults[0]).endswith("delete the file to take its objects away")


def test_objects_that_stand_twice_are_told(
    reader: AccessReader[str], write: Callable[..., None]
) -> None:
    """In one file or in two, the last good ones of a broken file too."""
    write("a.yaml", "a")
    write("b.yaml", "b", "b")
    assert [str(fault) for fault in reader.read().faults] == [
        "b.yaml:6: metadata.name: second MCPAccessGrant `n/b` (the first is b.yaml:1); "
        "keep one of them"
    ]
    write("a.yaml", more="kind: [")
    write("b.yaml", "a")
    assert len(reader.read().duplicates) == 1


def test_an_object_that_stands_twice_stays_as_it_counted(
    reader: AccessReader[str], write: Callable[..., None], tmp_path: Path
) -> None:
    """The others change; one that never counted has no place, and is not known."""
    write("a.yaml", "a")
    first = reader.read().objects
    write("b.yaml", "b", "a")
    reading = reader.read()
    assert {each.kept for each in reading.objects} == {"a", "b"}
    assert first[0] in reading.objects
    assert reading.is_known
    write("a.yaml")
    (tmp_path / "a.yaml").unlink()
    assert [each.file for each in reader.read().objects] == ["b.yaml", "b.yaml"]
    write("c.yaml", "c", "c")
    reading = reader.read()
    assert {each.kept for each in reading.objects} == {"a", "b"}
    assert ({key.name for key in reading.unclear}, reading.is_known) == ({"c"}, False)


def test_what_has_not_changed_is_the_same_reading(
    reader: AccessReader[str], write: Callable[..., None], tmp_path: Path
) -> None:
    """Not an equal one: its user need not compare; whatever a file's times say."""
    write("a.yaml", "a")
    first = reader.read()
    assert reader.read() is first
    for seconds in (1, 1 << 33):
        os.utime(tmp_path / "a.yaml", (seconds, seconds))
        again = reader.read()
        assert again.objects == first.objects
        assert reader.read() is again


def test_two_writes_within_one_tick_are_both_seen(
    reader: AccessReader[str], write: Callable[..., None]
) -> None:
    """File times are coarse, and the size may be the same."""
    for name in "abcdefgh" * 5:
        write("a.yaml", name)
        assert [each.kept for each in reader.read().objects] == [name]


def test_a_folder_that_is_away_forgets_nothing(
    reader: AccessReader[str], write: Callable[..., None], tmp_path: Path
) -> None:
    """The next reading knows the last good objects still."""
    write("a.yaml", "a")
    reader.read()
    away = tmp_path.with_name("away")
    tmp_path.rename(away)
    with pytest.raises(OSError, match="No such file"):
        reader.read()
    away.rename(tmp_path)
    write("a.yaml", more="kind: [")
    assert [each.kept for each in reader.read().objects] == ["a"]
