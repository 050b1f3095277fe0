"""What the api advises about losses."""

import pytest

from backend.api.advice import next_step
from extauthz.core.events import Cause
from tests.unit.backend.api.test_completeness import ending, gap, judged, stored


@pytest.mark.parametrize("cause", Cause)
def test_each_cause_has_its_advice(cause: Cause) -> None:
    """Whatever a gateway of this version tells as a cause is explained to people."""
    (start,) = judged(stored([1, 4]), tellings=[gap(2, 3, cause=cause), ending(5)])
    advice = next_step(start)
    assert advice
    assert "told as" not in advice


def test_a_cause_of_another_version_is_named() -> None:
    """It is not understood here, and said as it came."""
    (start,) = judged(stored([1, 4]), tellings=[gap(2, 3, cause="moonlight"), ending(5)])
    assert next_step(start) == "told as `moonlight`"
