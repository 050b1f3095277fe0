"""Routes as values: what serves a request and what describes it in OpenAPI are one declaration."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus
from typing import Any, Final, Generic, TypeVar

from flask import Blueprint, Response, g, request

from backend.api.bodies import read_body
from backend.api.parameters import Given, Parameter, read
from backend.auth.principal import Principal, Scope
from extauthz.core.errors import Unauthenticated

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Needs:
    """What a caller must have.

    Args:
        scope: None where any valid credential will do.
        everywhere: in every namespace; else its answers are limited to those it has.
        credential: False where strangers are answered.
    """

    scope: Scope | None = None
    everywhere: bool = False
    credential: bool = True

    def check(self, principal: Principal) -> None:
        """Raises: Forbidden."""
        if self.scope and self.everywhere:
            principal.require_everywhere(self.scope)
        elif self.scope:
            principal.require(self.scope)


NOTHING: Final = Needs(credential=False)
ANY_CREDENTIAL: Final = Needs()
READ: Final = Needs(Scope.READ)
READ_EVERYWHERE: Final = Needs(Scope.READ, everywhere=True)
GOVERN: Final = Needs(Scope.GOVERN)
OPERATE_EVERYWHERE: Final = Needs(Scope.OPERATE, everywhere=True)


@dataclass(frozen=True, slots=True)
class Answer:
    """What comes back when nothing is wrong.

    Args:
        kind: type of the JSON body, of which the schema is made; None where it is no JSON.
        others: schemas of further media types.
        status: of the answer; one of a problem where nothing else is ever answered.
        also: further statuses with the same body.
    """

    kind: Any = None
    others: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    status: HTTPStatus = HTTPStatus.OK
    also: tuple[HTTPStatus, ...] = ()


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request, read and allowed.

    Args:
        principal: who asks; None where strangers are answered.
        body: as the route declares it.
    """

    given: Given
    principal: Principal | None
    body: T

    @property
    def caller(self) -> Principal:
        """Who asks."""
        if self.principal is None:
            raise LookupError("this route is open to strangers")
        return self.principal


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One method of one path.

    Args:
        path: below the mount, in Flask's writing: `/events/<event_id>`.
        serve: answers a call.
        summary: a sentence for people.
        problems: statuses of problems beyond those that its needs and parameters bring.
        body: a msgspec type that the JSON body is read as; None where none is read.
    """

    method: str
    path: str
    serve: Callable[[Call[Any]], Response]
    summary: str
    answer: Answer
    needs: Needs
    parameters: tuple[Parameter[Any], ...] = ()
    problems: tuple[HTTPStatus, ...] = ()
    body: Any = None


def get(
    path: str,
    serve: Callable[[Call[None]], Response],
    summary: str,
    answer: Answer,
    *parameters: Parameter[Any],
    needs: Needs = READ,
    problems: tuple[HTTPStatus, ...] = (),
) -> Route:
    """A route that only reads. Arguments as of `Route`."""
    return Route(
        method="GET",
        path=path,
        serve=serve,
        summary=summary,
        answer=answer,
        needs=needs,
        parameters=parameters,
        problems=problems,
    )


@dataclass(frozen=True, slots=True)
class Group:
    """Routes that belong together; what they need is in their closures.

    Args:
        is_mounted: False for those that answer at the root alone.
    """

    name: str
    routes: Sequence[Route]
    is_mounted: bool = True

    def blueprint(self, clock: Callable[[], datetime]) -> Blueprint:
        """Flask's form of them."""
        blueprint = Blueprint(self.name, __name__)
        for route in self.routes:
            blueprint.add_url_rule(
                route.path,
                endpoint=endpoint(route),
                view_func=_view(route, clock),
                methods=[route.method],
            )
        return blueprint


def endpoint(route: Route) -> str:
    """Its name: unique within a group."""
    words = route.path.replace("<", "").replace(">", "").replace("-", "_").strip("/")
    return f"{route.method.lower()}_{words.replace('/', '_').replace('.', '_')}"


def _view(route: Route, clock: Callable[[], datetime]) -> Callable[..., Response]:
    def view(**path: str) -> Response:
        principal: Principal | None = g.get("principal")
        if principal is not None:
            route.needs.check(principal)
        elif route.needs.credential:  # whatever way the request found here
            raise Unauthenticated("this route needs a credential; send one")
        given = read(route.parameters, request.args, path, clock(), request.headers)
        body = read_body(route.body) if route.body is not None else None
        return route.serve(Call(given, principal, body))

    return view
