"""The custom resource definitions are what the tables say."""

from pathlib import Path

import pytest

from k8s.generate import FOLDER, definitions


@pytest.mark.parametrize(("name", "text"), list(definitions()))
def test_definitions_are_generated(name: str, text: str) -> None:
    """Each file in k8s/crds is what `make generate` writes."""
    assert (FOLDER / name).read_text() == text, "run `make generate`"


def test_no_others_lie_there() -> None:
    """What lies in k8s/crds is generated, all of it."""
    assert {path.name for path in Path(FOLDER).iterdir()} == {name for name, _ in definitions()}
