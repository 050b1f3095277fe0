"""API_KEYS_FILE changes while it is in use."""

import logging
from hashlib import sha256
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from backend.auth.api_keys import ApiKeys
from backend.auth.key_file import read_keys
from backend.auth.rotation import KeysOfFile
from backend.metrics import AuthMetrics, new_registry
from extauthz.core.errors import Invalid, Unauthenticated


def entry(name: str, *keys: str) -> str:
    digests = ", ".join(sha256(key.encode()).hexdigest() for key in keys)
    return f"  - {{name: {name}, scopes: [read], namespaces: [a], sha256: [{digests}]}}\n"


class Rotation:
    """A file of keys, its verifier, and what they tell."""

    def __init__(self, path: Path) -> None:
        self.path, self.registry = path, new_registry()
        self.write(entry("one", "old"))
        self.keys = KeysOfFile(
            path, lambda raw: ApiKeys(read_keys(raw, str(path))), AuthMetrics(self.registry)
        )

    def write(self, *entries: str) -> None:
        self.path.write_text("keys:\n" + "".join(entries))

    def lets_in(self, key: str) -> bool:
        try:
            self.keys.verify([key])
        except Unauthenticated:
            return False
        return True

    def settle(self) -> None:
        self.keys.look()
        self.keys.look()

    def tells(self, line: str) -> bool:
        return line in generate_latest(self.registry).decode().splitlines()


@pytest.fixture
def rotation(tmp_path: Path) -> Rotation:
    return Rotation(tmp_path / "keys.yaml")


def test_a_key_is_replaced_without_a_gap(rotation: Rotation) -> None:
    """First both count, then the new one alone."""
    rotation.write(entry("one", "old", "new"))
    rotation.settle()
    assert rotation.lets_in("old")
    assert rotation.lets_in("new")
    rotation.write(entry("one", "new"))
    rotation.settle()
    assert not rotation.lets_in("old")
    assert rotation.lets_in("new")
    assert rotation.tells("auth_key_file_changes_total 2.0")


def test_a_file_that_is_being_written_does_not_count_yet(rotation: Rotation) -> None:
    """Half of it may be a valid file with fewer keys."""
    rotation.write(entry("two", "other"))
    rotation.keys.look()
    assert rotation.lets_in("old")
    rotation.write(entry("one", "old"), entry("two", "other"))
    rotation.settle()
    assert rotation.lets_in("old")
    assert rotation.lets_in("other")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("keys: []", "holds no entry"),
        ("keys: [", "is not YAML"),
        (entry("x", "k").replace("  - ", "keys: [") + "]x", "keys.yaml"),
        (None, "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_used_leaves_the_keys(
    rotation: Rotation, caplog: pytest.LogCaptureFixture, content: str | None, why: str
) -> None:
    """The log says so once, with the reason, and a metric until it is mended."""
    if content is None:
        rotation.path.unlink()
    else:
        rotation.path.write_text(content)
    with caplog.at_level(logging.ERROR):
        rotation.settle()
        rotation.settle()
    assert rotation.lets_in("old")
    (record,) = caplog.records
    assert why in vars(record)["error"]
    assert rotation.tells("auth_key_file_refused 1.0")
    rotation.write(entry("one", "old"))
    rotation.settle()
    assert rotation.tells("auth_key_file_refused 0.0")
    assert rotation.tells("auth_key_file_changes_total 0.0")


def test_a_file_that_cannot_be_used_stops_the_start(tmp_path: Path) -> None:
    """There are no keys before it that could count."""
    metrics = AuthMetrics(new_registry())
    with pytest.raises(Invalid, match="cannot be read"):
        KeysOfFile(tmp_path / "none", lambda raw: ApiKeys(read_keys(raw, "none")), metrics)
