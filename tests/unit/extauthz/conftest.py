"""What tests of the decision point share."""

from collections.abc import Iterator

import pytest

from extauthz.core.logline import LineFormatter


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What is logged, its text as the process writes it: with the members of each record."""
    before = caplog.handler.formatter
    caplog.handler.setFormatter(LineFormatter(as_json=False))
    yield caplog
    caplog.handler.setFormatter(before)
