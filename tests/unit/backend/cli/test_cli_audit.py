"""`sentinel audit completeness`: how a report looks, and how the command ends."""

import re
from typing import Any

import pytest
from click.testing import CliRunner

from backend.cli.audit import show, span
from backend.cli.main import sentinel


def start(verdict: str = "complete", **members: Any) -> dict[str, Any]:
    return {
        "producer": "mcp-servers/demo",
        "namespace": "mcp-servers",
        "server": "demo",
        "gateway": "sidecar",
        "gateway_start": "0199-…",
        "undecided": False,
        "began_at": "2026-11-22T11:00:00.000Z",
        "first": 1,
        "last": 40,
        "end": 42,
        "present": 40,
        "missing": 2,
        "duplicates": 0,
        "verdict": verdict,
        "tail": "told",
        "holes": [],
        "next_step": "",
    } | members


def report(*starts: dict[str, Any], **members: Any) -> dict[str, Any]:
    counts = ("explained", "settling", "unexplained", "duplicates", "silent", "unnumbered")
    totals = dict.fromkeys(counts, 0) | {"starts": len(starts), "present": 40, "missing": 0}
    return {
        "verdict": "complete",
        "alarm": False,
        "since": "2026-11-22T11:00:00.000Z",
        "until": "2026-11-22T12:00:00.000Z",
        "totals": totals | members.pop("totals", {}),
        "starts": list(starts),
        "starts_left_off": 0,
        "holes_left_off": False,
        "gaps_of_unknown_starts": [],
        "unnumbered": [],
    } | members


HOLES = [
    {"first": 3, "last": 3, "count": 1, "state": "unexplained"},
    {"first": 41, "last": 42, "count": 2, "state": "explained", "cause": "crash"},
]


def lines(capsys: pytest.CaptureFixture[str], shown: dict[str, Any]) -> list[str]:
    show(shown)
    return [re.sub(r"\s+", " ", line).strip() for line in capsys.readouterr().out.splitlines()]


def test_a_report_tells_verdict_ranges_and_what_to_do(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The worst first, each range with its cause, each step once."""
    shown = report(
        start("holes", holes=HOLES, next_step="look for it"),
        start("holes", holes=HOLES[:1], next_step="look for it", undecided=True, tail="unknown"),
        start(),
        verdict="holes",
        totals={"explained": 2, "unexplained": 2},
    )
    assert lines(capsys, shown) == [
        "holes: 40 events of 3 starts, 2 told as lost, 2 missing without a word;"
        " 2026-11-22T11:00:00Z to 2026-11-22T12:00:00Z",
        "",
        "# VERDICT TAIL SERVER GATEWAY PRODUCER BEGAN NUMBERS STORED MISSING TWICE",
        "1 holes told mcp-servers/demo sidecar mcp-servers/demo 2026-11-22T11:00:00Z 1-42 40 2 0",
        "2 holes unknown mcp-servers/demo sidecar (undecided) mcp-servers/demo"
        " 2026-11-22T11:00:00Z 1-42 40 2 0",
        "3 complete told mcp-servers/demo sidecar mcp-servers/demo"
        " 2026-11-22T11:00:00Z 1-42 40 2 0",
        "",
        "# MISSING COUNT WHY",
        "1 3 1 unexplained",
        "1 41-42 2 crash",
        "2 3 1 unexplained",
        "",
        "# NEXT STEP",
        "1, 2 look for it",
    ]


def test_a_whole_trail_is_two_lines_and_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is said that need not be."""
    assert len(lines(capsys, report(start()))) == 4


def test_what_is_not_proven_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Events of producers that number nothing, lists that were cut, and losses of nobody known."""
    found = "\n".join(
        lines(
            capsys,
            report(
                starts_left_off=7,
                holes_left_off=True,
                gaps_of_unknown_starts=[{"at": "2026-11-22T11:30:00.000Z", "cause": "spool_lost"}],
                unnumbered=[{"events": 12, "producer": "key-\x1b[2J"}],
            ),
        )
    )
    assert "no gateway sent a numbered event in this time" in found
    assert "7 further starts are not listed" in found
    assert "more holes than were looked at" in found
    assert "of an unknown start, at 2026-11-22T11:30:00Z: spool_lost" in found
    assert "12 events of `key-\\x1b[2J` are not numbered" in found


def test_many_ranges_are_cut(capsys: pytest.CaptureFixture[str]) -> None:
    """--json has them all."""
    found = lines(capsys, report(start("explained", holes=HOLES[1:] * 25)))
    assert found[-1] == "1 … 5 ranges more; see --json"
    assert len(found) == 4 + 2 + 20 + 1


@pytest.mark.parametrize("width", [80, 100, 160])
def test_it_fits_the_terminal(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The verdict and the numbers are always there."""
    monkeypatch.setattr("backend.cli.console.PIPED_WIDTH", width)
    show(report(start("holes", holes=HOLES)))
    text = capsys.readouterr().out
    table = text.splitlines()[2:4]
    assert all(len(line.rstrip()) <= width for line in table)
    assert table[1].split()[:3] == ["1", "holes", "told"]
    assert table[1].split()[-4:] == ["1-42", "40", "2", "0"]


@pytest.mark.parametrize(
    ("ends", "shown"), [((1, 9), "1-9"), ((4, 4), "4"), ((0, 0), "-"), ((0, 3), "-")]
)
def test_ranges_are_short(ends: tuple[int, int], shown: str) -> None:
    """One number is one number."""
    assert span(*ends) == shown


@pytest.mark.parametrize("words", [["--since", "1x"], ["--until", "soon"]])
def test_a_wrong_moment_is_a_wrong_option(words: list[str]) -> None:
    """Nobody is asked."""
    api = ["--api", "http://127.0.0.1:1"]
    result = CliRunner().invoke(sentinel, ["audit", "completeness", *words, *api])
    assert result.exit_code == 2
    assert "write it like 1h30m" in result.stderr
