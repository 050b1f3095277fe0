"""Who an API key stands for."""

import pytest

from backend.auth.api_keys import ApiKeys, from_lists
from backend.auth.principal import Scope, credentials_of
from extauthz.core.errors import Forbidden, Unauthenticated

ADMIN = {Scope.READ, Scope.GOVERN, Scope.OPERATE}
USER = {Scope.READ, Scope.GOVERN}

LISTS = [
    # api, admin, ingest, key, scopes (None: not let in)
    (["a"], [], [], "a", ADMIN | {Scope.INGEST}),
    (["a"], [], ["i"], "a", ADMIN),
    (["a"], [], ["i"], "i", {Scope.INGEST}),
    (["a", "b"], ["b"], ["i"], "a", USER),
    (["a", "b"], ["b"], ["i"], "b", ADMIN),
    (["a"], ["b"], ["i"], "b", ADMIN),  # listed only there: signs in too
    (["a"], ["b"], [], "b", ADMIN),
    (["a"], ["b"], [], "a", USER | {Scope.INGEST}),
    ([], ["b"], ["b"], "b", ADMIN | {Scope.INGEST}),
    (["a"], [], [], "A", None),
    (["a"], [], [], "", None),
    ([], [], [], "a", None),
]


@pytest.mark.parametrize(("api", "admin", "ingest", "key", "scopes"), LISTS)
def test_lists_give_scopes(
    api: list[str], admin: list[str], ingest: list[str], key: str, scopes: set[Scope] | None
) -> None:
    """Each row of the table is one way to list keys."""
    verifier = ApiKeys(from_lists(api, admin, ingest))
    if scopes is None:
        with pytest.raises(Unauthenticated):
            verifier.verify([key])
    else:
        assert verifier.verify([key]).scopes == scopes


def test_either_credential_is_enough() -> None:
    """A wrong x-api-key beside a valid bearer token is let in, and the other way round."""
    verifier = ApiKeys(from_lists(["good"], [], []))
    for headers in (
        {"x-api-key": "bad", "Authorization": "Bearer good"},
        {"x-api-key": "good", "Authorization": "Bearer bad"},
        {"Authorization": "bearer  good "},
    ):
        assert verifier.verify(credentials_of(headers)).scopes
    with pytest.raises(Unauthenticated):
        verifier.verify(credentials_of({"Authorization": "Basic good"}))


def test_a_user_key_reaches_no_namespace() -> None:
    """A plain list names no namespaces, so a user key cannot read across them."""
    user = ApiKeys(from_lists(["u"], ["a"], [])).verify(["u"])
    user.require(Scope.READ)
    with pytest.raises(Forbidden, match="admin key"):
        user.require_everywhere(Scope.READ)
    with pytest.raises(Forbidden, match="operate"):
        user.require(Scope.OPERATE)


def test_nothing_shows_the_key() -> None:
    """The principal's name is stable, differs by key and does not hold it."""
    keys = from_lists(["secret-one", "secret-two"], [], [])
    names = {key.principal.name for key in keys}
    assert len(names) == 2
    assert names == {key.principal.name for key in from_lists(["secret-two", "secret-one"], [], [])}
    assert "secret" not in repr(keys)
