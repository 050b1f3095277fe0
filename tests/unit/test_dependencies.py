"""What is imported is named in pyproject.toml, with the reason why."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("extauthz", "backend", "envoy/envoy_bootstrap", "k8s", "protos", "ui", "tests")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"].values()
DECLARED = {
    re.split(r"[\[=<>!~ ]", each)[0].lower().replace("_", "-") for extra in EXTRAS for each in extra
}
OWN = {"extauthz", "backend", "envoy_bootstrap", "k8s", "protos", "ui", "tests"}
BROUGHT_BY = packages_distributions()


def _modules() -> list[Path]:
    found = (path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
    return [path for path in found if not {"node_modules", "gen"} & set(path.parts)]


def _imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Import(names=names):
                yield from (each.name.split(".")[0] for each in names)
            case ast.ImportFrom(module=str(module), level=0):
                yield module.split(".")[0]


PACKAGES = sorted({name for path in _modules() for name in _imported(path)} & set(BROUGHT_BY) - OWN)


@pytest.mark.parametrize("package", PACKAGES)
def test_what_is_imported_is_declared(package: str) -> None:
    """Not only brought along by another: that one may do without it some day."""
    if package not in sys.stdlib_module_names:
        assert {each.lower().replace("_", "-") for each in BROUGHT_BY[package]} & DECLARED
