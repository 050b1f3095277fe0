"""Each source folder's README says what lives there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOTS = ("extauthz", "backend", "protos", "envoy", "ui")
UNTOLD = {"__init__.py", "__main__.py"}
GENERATED = {"protos/gen"}
FILE = re.compile(r"`(\w[\w/-]*\.(?:py|proto|sql|yaml))`")
FOLDER = re.compile(r"`(\w[\w/-]*/)`")
PATTERNS = (
    *("*.md", "docs/*.md", "tests/e2e/*/README.md"),
    *(f"{root}/{below}README.md" for root in (*ROOTS, "k8s", "tests") for below in ("", "*/")),
)
PAGES = sorted(str(path.relative_to(ROOT)) for each in PATTERNS for path in ROOT.glob(each))


def _folders() -> list[str]:
    """Every folder that has modules, its subfolders included."""
    found = {path.parent for root in ROOTS for path in (ROOT / root).rglob("*.py")}
    names = {str(folder.relative_to(ROOT)) for folder in found}
    return sorted(names - GENERATED)


def _readmes(folder: Path) -> list[Path]:
    """Its own, and its parent's."""
    return [each / "README.md" for each in (folder, folder.parent) if (each / "README.md").exists()]


def _words(readme: Path) -> set[str]:
    """What stands in backticks, one name each, without the ends of file names."""
    quoted = re.findall(r"`([^`\n]+)`", readme.read_text())
    return {
        re.sub(r"\.py$|/$", "", word).split("/")[-1] for span in quoted for word in span.split()
    }


@pytest.mark.parametrize("name", _folders())
def test_all_that_lives_there_is_named(name: str) -> None:
    """Every module and folder of a source folder is named in its README, or its parent's."""
    folder = ROOT / name
    readmes = _readmes(folder)
    assert readmes, f"{name} has no README"
    words = set[str]().union(*map(_words, readmes))
    modules = {path.stem for path in folder.glob("*.py") if path.name not in UNTOLD}
    folders = {path.parent.name for path in folder.glob("*/*.py")}
    assert not (modules | folders) - words


@pytest.mark.parametrize(
    "name",
    sorted(
        str(path.relative_to(ROOT)) for root in ROOTS for path in (ROOT / root).rglob("README.md")
    ),
)
def test_all_that_is_named_exists(name: str) -> None:
    """Every file that a README names is there, and every folder in front of its tables' rows."""
    readme = ROOT / name
    text = readme.read_text()
    cells = "".join(re.findall(r"^\| ([^|]*) \|", text, re.MULTILINE))
    for named in FILE.findall(text) + FOLDER.findall(cells):
        assert _is_there(readme.parent, named), f"{name} names {named}"


@pytest.mark.parametrize("name", PAGES)
def test_links_of_all_pages_lead_somewhere(name: str) -> None:
    """Every relative link names a file or folder, every part of a page one of its headings."""
    page = ROOT / name
    for target, part in re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)]*))?\)", page.read_text()):
        linked = page.parent / target if target else page
        assert linked.exists(), f"{name} links to {target}"
        headings = re.findall(r"^#+ (.*)$", linked.read_text(), re.MULTILINE) if part else []
        anchors = [re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings]
        assert not part or part in anchors, f"{name} links to {target}#{part}"


def _is_there(folder: Path, name: str) -> bool:
    """Below the README's folder, or from a folder above it on."""
    above = [each for each in (folder, *folder.parents) if each == ROOT or ROOT in each.parents]
    return any((each / name).exists() for each in above) or any(folder.rglob(name.rstrip("/")))
