"""What an entry is written down as."""

import hashlib
import hmac
import json
from pathlib import Path

from extauthz.core.canonical import digest
from extauthz.core.decision import Decision, Effect, PolicyFacts
from extauthz.core.events import Asked
from extauthz.core.reasons import Reason
from extauthz.core.request import Call
from extauthz.emitter.entries import Call as Decided
from extauthz.emitter.entries import Encoder
from extauthz.emitter.options import EmitterOptions

FACTS = PolicyFacts("billing", "team-a")
PLAIN = digest(b'{"number":"INV-1"}')


def _told(key: bytes, arguments_digest: str) -> str:
    """The `arguments_digest` of the event."""
    called = Call(method="tools/call", tool="echo", arguments_digest=arguments_digest)
    decision = Decision(Effect.ALLOW, Reason.ALLOWED, FACTS, call=called, id="an-id")
    call = Decided(
        sequence=1, at=0.0, since=0.0, asked=Asked("POST", "/"), decision=decision, runs=False
    )
    options = EmitterOptions("http://127.0.0.1/events", Path(), digest_key=key)
    found = json.loads(Encoder(options, "a-start").encode(call))["payload"]
    return str(found.get("arguments_digest", ""))


def test_a_key_keeps_arguments_from_being_guessed() -> None:
    """Equal arguments stay equal for whoever reads events; only the key tells which they are."""
    assert _told(b"", PLAIN) == PLAIN
    found = _told(b"key", PLAIN)
    assert found == "hmac-sha256:" + hmac.new(b"key", PLAIN.encode(), hashlib.sha256).hexdigest()
    assert found == _told(b"key", PLAIN) != _told(b"other", PLAIN)
    assert _told(b"key", "") == ""


def test_the_key_is_never_shown() -> None:
    assert "s3cret" not in repr(EmitterOptions("", Path(), digest_key=b"s3cret"))
