"""docs/decisions.md tells the table that the code runs."""

import re
from pathlib import Path

from extauthz.core.table import BESIDE, TABLE

DOC = (Path(__file__).parents[4] / "docs/decisions.md").read_text()


def test_rows_and_reasons_are_the_docs() -> None:
    """Row numbers, conditions and reasons stand in the document as in the table."""
    rows = re.findall(r"^\| (\d+[a-z]?) \| (.+?) \| .+? \| (.+?) \|$", DOC, re.MULTILINE)
    told = [(number, words, re.findall(r"`(\w+)`", reasons)) for number, words, reasons in rows]
    assert told == [(r.number, r.condition, [x.value for x in r.reasons]) for r in TABLE]
    assert all(f"`{reason}`" in DOC for reason in BESIDE)
