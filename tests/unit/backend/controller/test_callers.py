"""Who may follow which server."""

import pytest

from backend.controller.callers import Callers
from backend.ports.control_plane import Caller
from extauthz.core.decision import ObjectRef
from extauthz.core.errors import Forbidden, Retryable, Unauthenticated
from tests.unit.backend.controller.scripted_plane import ScriptedPlane

SHOP, OWNED = ObjectRef("team", "shop"), ObjectRef("team", "owned")


@pytest.fixture
def plane() -> ScriptedPlane:
    made = ScriptedPlane()
    made.callers = {
        "of-pod": Caller("team", "default", "shop-1", "uid"),
        "of-owned": Caller("team", "default", "owned-1", "uid"),
        "of-other": Caller("team", "default", "cart-1", "uid"),
        "listed": Caller("team", "trusted"),
        "foreign": Caller("elsewhere", "trusted", "shop-1", "uid"),
    }
    made.labels = {
        "shop-1": {"app": "shop"},
        "cart-1": {"app": "cart"},
        "owned-1": {"app": "owned"},
    }
    return made


@pytest.fixture
def callers(plane: ScriptedPlane) -> Callers:
    accounts = {OWNED: frozenset({"trusted"})}
    return Callers(
        plane,
        lambda server: accounts.get(server, frozenset()),
        remember_seconds=60,
        monotonic=lambda: 0.0,
    )


async def test_a_pod_labelled_for_it(callers: Callers) -> None:
    """A token bound to a pod with the server's name as its label `app` may follow it, no other."""
    await callers.check("Bearer of-pod", SHOP)
    with pytest.raises(Forbidden, match="pod `cart-1` may not follow `team/shop`; label the pod"):
        await callers.check("Bearer of-other", SHOP)
    with pytest.raises(Forbidden):
        await callers.check("Bearer of-pod", ObjectRef("team", "cart"))


async def test_an_account_that_the_server_lists(callers: Callers) -> None:
    """Where a server names accounts it is theirs alone, whatever a pod is labelled."""
    await callers.check("Bearer listed", OWNED)
    with pytest.raises(Forbidden):
        await callers.check("Bearer listed", SHOP)
    with pytest.raises(Forbidden, match="`default` may not follow `team/owned`; name it in"):
        await callers.check("Bearer of-owned", OWNED)


async def test_never_from_another_namespace(callers: Callers) -> None:
    """Neither label nor annotation reaches beyond the server's namespace."""
    with pytest.raises(Forbidden, match="namespace `elsewhere`"):
        await callers.check("Bearer foreign", SHOP)


@pytest.mark.parametrize("sent", ["", "Bearer ", "Bearer wrong", "of-pod", "Basic of-pod"])
async def test_what_is_no_token(callers: Callers, sent: str) -> None:
    """Without a token that counts nobody is let in, and the token is not repeated."""
    with pytest.raises(Unauthenticated) as caught:
        await callers.check(sent, SHOP)
    assert "wrong" not in str(caught.value)


async def test_a_good_token_is_remembered(callers: Callers, plane: ScriptedPlane) -> None:
    """Sidecars that come back do not cost a call each; bad tokens are asked about again."""
    for _ in range(3):
        await callers.check("Bearer of-pod", SHOP)
    assert plane.reviews == 1
    plane.fault = Retryable("away")
    await callers.check("Bearer of-pod", SHOP)
    with pytest.raises(Retryable):
        await callers.check("Bearer listed", OWNED)
