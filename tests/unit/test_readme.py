"""README and the page of settings tell what the code does."""

import re
from pathlib import Path
from typing import Any

import pytest

from backend.settings import Settings as BackendSettings
from extauthz.core import config
from extauthz.settings import Settings as DecisionPointSettings
from ui.settings import Settings as DashboardSettings

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
SETTINGS = (ROOT / "docs/settings.md").read_text()


@pytest.mark.parametrize(
    ("heading", "kind"),
    [
        ("## The decision point", DecisionPointSettings),
        ("## The backend", BackendSettings),
        ("## The dashboard", DashboardSettings),
    ],
)
def test_settings_tables(heading: str, kind: Any) -> None:
    """Each settings table lists every setting with its default and help, and no other."""
    section = SETTINGS.split(heading)[1].split("\n#")[0]
    told = re.findall(r"^\| `(\w+)` \| (.*?) \| (.+) \|$", section, re.MULTILINE)
    rows = config.table(kind).values()
    expected = [(row.name, _default(row), row.help) for row in rows]
    assert told == expected


@pytest.mark.parametrize("kind", [DecisionPointSettings, BackendSettings, DashboardSettings])
def test_a_default_can_be_typed(kind: Any) -> None:
    """What is printed as a default, the setting reads as that default."""
    for row in config.table(kind).values():
        if row.default_text:
            assert row.read(row.default_text) == row.default, row.name


def _default(row: config.Setting) -> str:
    if row.required:
        return "required"
    return f"`{row.default_text}`" if row.default_text else ""


def test_commands_of_the_start_section_exist() -> None:
    """What README tells a newcomer to type, make and the command line know."""
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^    make (\w+)", README, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
