"""Records that no processor can store as they are, each wrong in one place."""

import json
from typing import Any

from backend.ports.event_log import Message
from tests.chaos.check import POISON_SOURCE

_GOOD: dict[str, Any] = {
    "event_id": "01890a5d-ac96-774b-bcce-b302099a8057",
    "timestamp": "2026-01-01T00:00:00Z",
    "trace_id": "",
    "source": POISON_SOURCE,
    "event_type": "foreign.note",
    "payload": {},
}
_WRONG: dict[str, list[Any]] = {
    "event_id": [7, None, {}, []],
    "timestamp": [7, True, "yesterday", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", {}],
    "trace_id": [7, [], {}],
    "source": ["", "  ", 7, None, [], {}],
    "event_type": ["", 7, None, [], {}],
    "payload": [None],
}
_RAW = [
    b"",
    b"\0",
    b"not JSON",
    b"\xff\xfe{}",
    b"[]",
    b"null",
    b'"text"',
    b'{"source": "chaos-poison"',
    b"[" * 5000,
]


def records() -> list[Message]:
    """One of each kind: every field wrong in every type, or missing; and what is no envelope."""
    bodies = [
        json.dumps(_GOOD | {name: value}).encode()
        for name, values in _WRONG.items()
        for value in values
    ]
    for name in ("source", "event_type", "payload"):
        bodies.append(json.dumps({k: v for k, v in _GOOD.items() if k != name}).encode())
    return [Message(body) for body in [*bodies, *_RAW]]
