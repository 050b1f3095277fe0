"""Files of others that the dashboard serves are theirs, to the byte."""

from pathlib import Path

import pytest

NPM = Path("tests/tools/vendored/node_modules")
SERVED = Path("ui/static/vendor")
FILES = {
    "htmx.min.js": "htmx.org/dist/htmx.min.js",
    "htmx.LICENSE": "htmx.org/LICENSE",
    "uPlot.iife.min.js": "uplot/dist/uPlot.iife.min.js",
    "uPlot.min.css": "uplot/dist/uPlot.min.css",
    "uPlot.LICENSE": "uplot/LICENSE",
}


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_vendored_file_is_the_packages_own(name: str) -> None:
    """`make vendor` copies them."""
    assert (SERVED / name).read_bytes() == (NPM / FILES[name]).read_bytes()


def test_nothing_else_is_vendored() -> None:
    assert {path.name for path in SERVED.iterdir()} == set(FILES)
