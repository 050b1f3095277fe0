"""Which servers a service account speaks for."""

import pytest

from extauthz.core.accounts import ANNOTATION, Claim, ServiceAccount, Speakers, named
from extauthz.core.decision import ObjectRef

CLAIMS = [
    Claim(ObjectRef("team-a", "open"), named({})),
    Claim(ObjectRef("team-a", "billing"), named({ANNOTATION: " billing, batch"})),
    Claim(ObjectRef("team-a", "blank"), named({ANNOTATION: " , "})),
    Claim(ObjectRef("team-b", "open"), named({"unrelated": "billing"})),
]


@pytest.mark.parametrize(
    ("account", "server", "speaks"),
    [
        ("team-a/default", "team-a/open", True),
        ("team-a/default", "team-a/blank", True),
        ("team-a/default", "team-a/billing", False),
        ("team-a/default", "team-b/open", False),
        ("team-a/billing", "team-a/billing", True),
        ("team-a/batch", "team-a/billing", True),
        ("team-a/billing", "team-a/open", True),
        ("team-b/billing", "team-b/open", True),
        ("team-b/billing", "team-a/billing", False),
    ],
)
def test_who_speaks_for_what(account: str, server: str, speaks: bool) -> None:
    """A server that names accounts is theirs alone; others are their namespace's."""
    who, ref = ServiceAccount(*account.split("/")), ObjectRef(*server.split("/"))
    (claim,) = (each for each in CLAIMS if each.server == ref)
    assert claim.admits(who) is speaks
    closed = Speakers(CLAIMS).closed_to(who)
    assert (ref.namespace == who.namespace and ref not in closed) is speaks


def test_its_user() -> None:
    """As the API server names it."""
    assert ServiceAccount("team-a", "default").user == "system:serviceaccount:team-a:default"
