"""The committed code is what the sources say."""

from pathlib import Path

import pytest

from protos.generate import SOURCES, generate

GENERATED = SOURCES / "gen"


def contents(folder: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in folder.glob("*_pb2*.py*")}


def test_generating_again_changes_nothing(tmp_path: Path) -> None:
    """protos/gen is the output of `python -m protos.generate`, file by file."""
    generate(tmp_path)
    assert contents(tmp_path / "protos" / "gen") == contents(GENERATED)


def test_generate_says_when_it_fails(tmp_path: Path) -> None:
    """A folder that cannot be written to is an error, not an empty success."""
    with pytest.raises(RuntimeError, match="protoc refused"):
        generate(tmp_path / "absent")
