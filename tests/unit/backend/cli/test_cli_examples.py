"""The commands that `up` prints: an allowed and a denied call."""

from pathlib import Path
from typing import Any

from backend.cli.access import choose_server, read_access
from backend.cli.examples import find_examples

NOW = 1_780_000_000.0
DEMO = Path(__file__).parents[4] / "backend" / "demo" / "access"
STARTER = Path(__file__).parents[4] / "backend" / "cli" / "starter.yaml"


def document(path: Path) -> dict[str, Any]:
    access = read_access(path)
    assert not access.faults
    return access.document(choose_server(access, "", path), NOW)


def test_the_demo_shows_one_agent_allowed_and_denied() -> None:
    """The same caller reads invoices and may not refund."""
    examples = find_examples(document(DEMO), NOW)
    assert examples.allowed is not None
    assert examples.denied is not None
    assert examples.allowed.arguments == ["call", "list_invoices", "--agent", "ops-agent"]
    assert examples.denied.arguments == ["call", "refund_invoice", "--agent", "ops-agent"]


def test_a_policy_that_denies_one_caller_nothing_shows_a_stranger() -> None:
    """Somebody without a grant is denied."""
    examples = find_examples(document(STARTER), NOW)
    assert examples.allowed is not None
    assert examples.denied is not None
    assert "my-agent" in examples.allowed.arguments
    assert "unknown-agent" in examples.denied.arguments


def test_a_required_session_is_part_of_the_command() -> None:
    """The allowed call names a live session of the caller's."""
    required = document(DEMO) | {"session": {"required": True}}
    for name in ("content_digest", "revision"):
        required.pop(name)
    examples = find_examples(required, NOW)
    assert examples.allowed is not None
    assert "alice-reviews" in examples.allowed.arguments


def test_what_does_not_compile_shows_nothing() -> None:
    """`status` tells what is wrong."""
    examples = find_examples({}, NOW)
    assert examples.allowed is None
    assert examples.denied is None
