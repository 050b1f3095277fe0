"""How long a disk that failed is left alone."""

from extauthz.emitter.rest import REST_SECONDS, SAY_EVERY_SECONDS, Rest


def test_a_failure_makes_it_rest_for_a_while() -> None:
    """Then it may be tried again, at once where it is known to take something."""
    now = 100.0
    rest = Rest(lambda: now)
    assert rest.is_over
    rest.failed()
    assert not rest.is_over
    now += REST_SECONDS
    assert rest.is_over
    rest.failed()
    rest.end()
    assert rest.is_over
    assert rest.faults == 2


def test_it_is_said_once_in_a_while() -> None:
    """However often it fails."""
    now = 100.0
    rest = Rest(lambda: now)
    assert [rest.failed() for _ in range(3)] == [True, False, False]
    now += SAY_EVERY_SECONDS
    assert [rest.failed() for _ in range(2)] == [True, False]
