"""docs/scale.md agrees with itself."""

import re

from tests.perf.scale import DOCUMENT, MEASURED, NEEDS, inputs, results, rewritten


def test_every_result_follows_from_the_inputs_beside_it() -> None:
    """No number in a table of results stands by itself."""
    text = DOCUMENT.read_text()
    assert rewritten(text) == text, "run `python -m tests.perf.scale`"


def test_every_input_is_measured_or_assumed_once() -> None:
    """The first table holds what the benchmarks give and nothing else; no input is idle."""
    text = DOCUMENT.read_text()
    measured, _, assumed = text.partition("\nAssumed:")
    assert list(inputs(measured)) == [each.name for each in MEASURED]
    assert not inputs(measured).keys() & inputs(assumed).keys()
    used = {name for part in NEEDS.values() for line in part for name in _names(line.sum)}
    assert inputs(text).keys() <= used


def test_a_call_costs_what_the_benchmarks_page_says() -> None:
    """Both pages are of one run; the row of Envoy's CPU, the decision point's, and its memory."""
    pages = (DOCUMENT.parent / "benchmarks.md").read_text()
    found = re.search(r"^\| besteffort \| 1 \| 10 \| allowed \|(.*)\|$", pages, re.MULTILINE)
    assert found
    cells = [cell.strip() for cell in found[1].split("|")]
    told = inputs(DOCUMENT.read_text())
    assert [told[name] for name in ("envoy_us", "check_us", "sidecar_mb")] == [
        float(cells[at]) for at in (3, 4, 7)
    ]


def test_another_load_gives_other_results() -> None:
    """A reader who changes an input sees what follows."""
    given = inputs(DOCUMENT.read_text())
    more = results(given | {"calls": 2 * given["calls"]})
    assert more["events"] > results(given)["events"]
    assert more["heartbeats"] == given["sidecars"] / given["heartbeat_seconds"]
    assert results(given | {"days": 2 * given["days"]})["cost"] > results(given)["cost"]


def test_measured_inputs_replace_those_of_the_document() -> None:
    """What a benchmark found comes into the table and into every result."""
    changed = rewritten(DOCUMENT.read_text(), {"stored_bytes": 200.0})
    assert inputs(changed)["stored_bytes"] == 200
    assert rewritten(changed) == changed


def _names(text: str) -> set[str]:
    return set(re.findall(r"[a-z]\w+", text))
