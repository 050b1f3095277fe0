"""`access grant|session …`: looks at grants and sessions, makes, changes and deletes them."""

from collections.abc import Callable
from functools import reduce
from typing import Any, Final

import click

from backend.cli.console import Group, LazyGroup
from backend.cli.creation import grant_options, new_grant, new_session, session_options
from backend.cli.objects import GRANT, SESSION, Kind, Objects, Which
from backend.cli.options import output_option
from backend.cli.places import objects_options
from backend.cli.printing import print_done, print_list, print_objects
from backend.cli.wire import read_file
from extauthz.core.documents import MAX_FILE_BYTES
from extauthz.core.model import DEFAULT_NAMESPACE, Binding

TOOLS: Final = {
    "who-can": "backend.cli.entitlements:who_can",
    "what-can": "backend.cli.entitlements:what_can",
    "unused": "backend.cli.entitlements:unused",
}
Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

_NAMESPACE: Final = click.option("--namespace", default=DEFAULT_NAMESPACE, show_default=True)
_NAME: Final = click.argument("name")
_OUTPUT: Final = output_option("its name, as `kubectl -o name` writes it")
_DRY: Final = click.option(
    "--dry-run", "is_dry", is_flag=True, help="Change nothing; tell what calls would notice."
)


@click.group(cls=LazyGroup, commands_at=TOOLS)
def access() -> None:
    """Who may call what: look, change, and ask."""


def _group(kind: Kind, says: str) -> click.Group:
    """The commands of one kind."""
    group = Group(kind.noun, help=says)
    for command in (_list, _get, _apply, _delete):
        command(group, kind)
    _switch(group, kind, kind.off, off=True)
    _switch(group, kind, kind.on, off=False)
    return group


def _command(group: click.Group, name: str, says: str, *options: Decorator) -> Decorator:
    """A command of a group with these options, in their order."""

    def made(serve: Callable[..., Any]) -> Callable[..., Any]:
        decorated = reduce(lambda inner, option: option(inner), reversed(options), serve)
        group.command(name, help=says)(decorated)
        return serve

    return made


def _list(group: click.Group, kind: Kind) -> None:
    everywhere = click.option("--all-namespaces", is_flag=True, help="Whatever the namespace.")
    which = (
        click.option("--server", default="", metavar="NAME", help="For this MCPServer alone."),
        click.option("--human", default="", help="Whose subject names this human."),
        click.option("--agent", default="", help="Whose subject names this agent."),
    )
    options = (_NAMESPACE, everywhere, *which, _OUTPUT, objects_options)

    @_command(group, "list", f"List {kind.nouns}.", *options)
    def listed(
        *,
        objects: Objects,
        namespace: str,
        all_namespaces: bool,
        server: str,
        human: str,
        agent: str,
        output: str,
    ) -> None:
        asked = Which("" if all_namespaces else namespace, server, human, agent)
        print_list(kind, objects.list(kind, asked), output)


def _get(group: click.Group, kind: Kind) -> None:
    says = f"Print one {kind.noun} as JSON, as mcp-runtime does, or as YAML (-o yaml)."

    @_command(group, "get", says, _NAME, _NAMESPACE, _OUTPUT, objects_options)
    def got(*, objects: Objects, name: str, namespace: str, output: str) -> None:
        found = objects.get(kind, namespace, _plain(kind, name))
        print_objects(kind, [found], output)


def _apply(group: click.Group, kind: Kind) -> None:
    file = click.option(
        "--file",
        "-f",
        "file",
        type=click.Path(exists=True, dir_okay=False, allow_dash=True),
        required=True,
        help="YAML or JSON, several documents too; `-` for standard input.",
    )
    says = f"Make or replace the {kind.nouns} of a file: all of it must be right."

    @_command(group, "apply", says, file, _DRY, _OUTPUT, objects_options)
    def applied(*, objects: Objects, file: str, is_dry: bool, output: str) -> None:
        with click.open_file(file, "rb") as stream:
            raw: bytes = stream.read(MAX_FILE_BYTES + 1)
        found = read_file(kind, file, raw)
        for each in found:
            done = objects.put(kind, each.item, keeps=each.keeps, is_new=False, is_dry=is_dry)
            name = f"{each.item.namespace}/{each.item.name}"
            print_done(kind, name, "applied", done, output=output, is_dry=is_dry)


def _delete(group: click.Group, kind: Kind) -> None:
    options = (_NAME, _NAMESPACE, _DRY, _OUTPUT, objects_options)

    @_command(group, "delete", f"Delete a {kind.noun}.", *options)
    def deleted(*, objects: Objects, name: str, namespace: str, is_dry: bool, output: str) -> None:
        plain = _plain(kind, name)
        done = objects.delete(kind, namespace, plain, is_dry=is_dry)
        print_done(kind, f"{namespace}/{plain}", "deleted", done, output=output, is_dry=is_dry)


def _switch(group: click.Group, kind: Kind, verb: str, *, off: bool) -> None:
    into = "out of force; it stays where it is" if off else "into force again"
    options = (_NAME, _NAMESPACE, _DRY, _OUTPUT, objects_options)

    @_command(group, verb, f"Put a {kind.noun} {into}.", *options)
    def switched(*, objects: Objects, name: str, namespace: str, is_dry: bool, output: str) -> None:
        plain = _plain(kind, name)
        done = objects.switch(kind, namespace, plain, off, is_dry=is_dry)
        past = f"{verb.removesuffix('e')}ed"
        print_done(kind, f"{namespace}/{plain}", past, done, output=output, is_dry=is_dry)


def _plain(kind: Kind, name: str) -> str:
    """As `-o name` prints it, or the name alone."""
    return name.removeprefix(f"{kind.group_name}/")


grant = _group(GRANT, "Who may call which tools.")
session = _group(SESSION, "Who works with which server, with how much consent.")
access.add_command(grant)
access.add_command(session)


def _create(kind: Kind, objects: Objects, item: Binding, *, is_dry: bool, output: str) -> None:
    done = objects.put(kind, item, keeps=False, is_new=True, is_dry=is_dry)
    name = f"{item.namespace}/{item.name}"
    print_done(kind, name, "created", done, output=output, is_dry=is_dry)


@_command(
    grant, "create", "Make a grant; one that is there stays as it is.",
    _NAME, grant_options, _DRY, _OUTPUT, objects_options,
)  # fmt: skip
def create_grant(*, objects: Objects, is_dry: bool, output: str, **given: Any) -> None:
    """`access grant create`."""
    _create(GRANT, objects, new_grant(**given), is_dry=is_dry, output=output)


@_command(
    session, "create", "Make a session; one that is there stays as it is.",
    _NAME, session_options, _DRY, _OUTPUT, objects_options,
)  # fmt: skip
def create_session(*, objects: Objects, is_dry: bool, output: str, **given: Any) -> None:
    """`access session create`."""
    _create(SESSION, objects, new_session(**given), is_dry=is_dry, output=output)
