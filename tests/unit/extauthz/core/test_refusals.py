"""Reasons of what never reached Check: in events as in Envoy's answers and in the docs."""

import re
from pathlib import Path

import pytest
from envoy_bootstrap.replies import _OTHERWISE, REPLIES

from extauthz.core.reasons import Reason
from extauthz.core.refusals import Refusal, refusal

DOC = (Path(__file__).parents[4] / "docs/decisions.md").read_text()
SECTION = DOC.split("## What never reaches the table")[1].split("\n## ")[0]


def test_reasons_are_envoys() -> None:
    """A status gives the event the reason that Envoy's answer has; no answer has another."""
    assert {reply.status: refusal(reply.status, "", "") for reply in REPLIES} == {
        reply.status: reply.reason for reply in REPLIES
    }
    answered = {reply.reason for reply in (*REPLIES, _OTHERWISE)}
    assert set(Refusal) == answered | {Refusal.CLIENT_DISCONNECTED}


def test_reasons_are_the_docs() -> None:
    """Each reason stands in the document, once and in order, and none is the decision table's."""
    told = re.findall(r"^\| `(\w+)` \| ", SECTION, re.MULTILINE)
    assert told == [reason.value for reason in Refusal]
    assert not {reason.value for reason in Refusal} & {reason.value for reason in Reason}


@pytest.mark.parametrize(
    ("status", "flags", "details", "reason"),
    [
        (502, "UPE", "upstream_protocol_error", "gateway_error"),
        (0, "DR", "http2.unexpected_underscore", "malformed_http"),
        (0, "DPE", "", "malformed_http"),
        (0, "DR", "http2.too_many_headers", "headers_too_large"),
        (0, "DR", "http2.remote_reset", "client_disconnected"),
        (0, "UAEX,DC", "downstream_remote_disconnect", "client_disconnected"),
        (0, "", "", "gateway_error"),
    ],
)
def test_what_was_not_answered(status: int, flags: str, details: str, reason: str) -> None:
    """Without an answer, details and flags tell."""
    assert refusal(status, flags, details) == reason
