"""What the programs of `sentinel up` inherit."""

import pytest

from backend.cli.stack import own_environ


def test_only_chosen_settings_are_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A person's choice of audit and server reaches the programs; stray settings do not."""
    chosen = {"AUDIT_MODE": "durable", "CHECK_SERVER": "grpcio", "LOG_LEVEL": "debug"}
    for name, value in (chosen | {"POLICY_FILE": "/x", "API_KEYS": "k"}).items():
        monkeypatch.setenv(name, value)
    environ = own_environ("token")
    assert chosen.items() <= environ.items()
    assert environ.keys().isdisjoint({"POLICY_FILE", "API_KEYS"})
