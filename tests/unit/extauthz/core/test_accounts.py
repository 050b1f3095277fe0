"""Which servers a service account speaks for."""

import pytest

from extauthz.core.accounts import ANNOTATION, ServiceAccount, Speakers, claim
from extauthz.core.decision import ObjectRef

SPEAKERS = Speakers(
    [
        claim(ObjectRef("team-a", "open"), {}),
        claim(ObjectRef("team-a", "billing"), {ANNOTATION: " billing, batch"}),
        claim(ObjectRef("team-a", "closed"), {ANNOTATION: " , "}),
        claim(ObjectRef("team-b", "open"), {"unrelated": "billing"}),
    ]
)


@pytest.mark.parametrize(
    ("account", "server", "speaks"),
    [
        ("team-a/default", "team-a/open", True),
        ("team-a/default", "team-a/new", True),
        ("team-a/default", "team-a/billing", False),
        ("team-a/default", "team-b/open", False),
        ("team-a/billing", "team-a/billing", True),
        ("team-a/batch", "team-a/billing", True),
        ("team-a/billing", "team-a/open", False),
        ("team-a/default", "team-a/closed", False),
        ("team-a/billing", "team-a/closed", False),
        ("team-b/billing", "team-b/open", True),
        ("team-b/billing", "team-a/billing", False),
        ("team-c/default", "team-c/open", True),
    ],
)
def test_who_speaks_for_what(account: str, server: str, speaks: bool) -> None:
    """A server that names accounts is theirs alone, and they are its alone; others are open."""
    bound = SPEAKERS.of(ServiceAccount(*account.split("/")))
    assert bound.holds(ObjectRef(*server.split("/"))) is speaks


def test_its_user() -> None:
    """As the API server names it."""
    assert ServiceAccount("team-a", "default").user == "system:serviceaccount:team-a:default"
