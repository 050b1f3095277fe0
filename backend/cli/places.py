"""Where grants and sessions are kept, as options, variables and the running `sentinel up` say."""

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from backend import wiring_adapters
from backend.cli.access import read_access
from backend.cli.answers import Answers, ApiAnswers, StoreAnswers
from backend.cli.console import NOT_RUNNING, Failure, warn
from backend.cli.objects import Objects
from backend.cli.objects_api import ApiObjects
from backend.cli.objects_store import StoreObjects
from backend.cli.running import Api, address_options, is_said, the_api
from backend.ports.access_store import AccessStore
from extauthz.core.errors import Invalid
from extauthz.core.governance import Key

ACCESS_VARIABLE: Final = "SENTINEL_ACCESS"
KUBECONFIG: Final = "KUBECONFIG"
MANAGER: Final = "sentinel-cli"  # by whose name a cluster keeps what is written here
# Of each place, the parameters that name it; only those of one may be given.
_PLACES: Final = {
    "directory": ("folder",),
    "api": ("api_url", "key_file", "state"),
    "cluster": ("kubeconfig", "context", "use_kube"),
}
_NAMES: Final = {
    "directory": "--access",
    "api": "--api, --key-file and --state",
    "cluster": "--kubeconfig, --context and --use-kube",
}
Command = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Kept:
    """Where objects are kept. Args: store: where it is read here; else the api is asked."""

    api: Api | None = None
    store: AccessStore | None = None
    tell_faults: Callable[[], None] = lambda: None

    @property
    def objects(self) -> Objects:
        """Grants and sessions there."""
        if self.store is not None:
            return StoreObjects(self.store, self.tell_faults)
        assert self.api is not None
        return ApiObjects(self.api)

    @property
    def answers(self) -> Answers:
        """The access tools on them."""
        if self.store is not None:
            return StoreAnswers(self.store, self.tell_faults)
        assert self.api is not None
        return ApiAnswers(self.api)


def objects_options(command: Command) -> Command:
    """Options that name a place; the command gets `objects`, Objects."""

    def served(*, kept: Kept, **others: Any) -> Any:
        return command(objects=kept.objects, **others)

    return _place_options(functools.update_wrapper(served, command))


def answers_options(command: Command) -> Command:
    """The same options; the command gets `answers`, Answers."""

    def served(*, kept: Kept, **others: Any) -> Any:
        return command(answers=kept.answers, **others)

    return _place_options(functools.update_wrapper(served, command))


def cluster_options(command: Command) -> Command:
    """Options that name a cluster; the command gets `kubeconfig` (a file or None), `context`."""
    for option in reversed(_cluster_options(f"default: {KUBECONFIG}, or kubectl's own file")):
        command = option(command)
    return command


def _cluster_options(default: str) -> tuple[Callable[[Command], Command], ...]:
    return (
        click.option(
            "--kubeconfig",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            help=f"Use the cluster of this kubeconfig; {default}.",
        ),
        click.option("--context", default="", help="Use this context of the kubeconfig."),
    )


def _place_options(command: Command) -> Command:
    @functools.wraps(command)
    def found(
        *,
        api_url: str,
        key_file: Path | None,
        state: Path,
        folder: Path | None,
        kubeconfig: Path | None,
        context: str,
        use_kube: bool,
        **others: Any,
    ) -> Any:
        place = _place(api_url, folder)
        if place == "directory" and folder is not None:
            kept = _directory(folder)
        elif place == "cluster":
            kept = _cluster(kubeconfig, context)
        else:
            kept = _api(api_url, key_file, state)
        return command(kept=kept, **others)

    options: tuple[Callable[[Command], Command], ...] = (
        click.option(
            "--access",
            "folder",
            type=click.Path(exists=True, file_okay=False, path_type=Path),
            envvar=ACCESS_VARIABLE,
            help=f"Access directory to use instead of an api; default: {ACCESS_VARIABLE}.",
        ),
        *_cluster_options(f"{KUBECONFIG} where nothing else is named"),
        click.option(
            "--use-kube",
            is_flag=True,
            help=f"Use the cluster of {KUBECONFIG}, or of kubectl's own.",
        ),
    )
    made: Command = found
    for option in reversed(options):
        made = option(made)
    return address_options(made)


def _place(url: str, folder: Path | None) -> str:
    """What stands on the command line counts before any variable; only one may be named."""
    said = [place for place, names in _PLACES.items() if any(map(is_said, names))]
    if len(said) > 1:
        first, second = (_NAMES[place] for place in said[:2])
        raise click.UsageError(f"{first} goes without {second}; give one")
    if said:
        return said[0]
    if folder is not None and url:
        problem = f"both {ACCESS_VARIABLE} and the address of an api are set"
        raise click.UsageError(f"{problem}; unset one, or give --access or --api")
    return "directory" if folder is not None else "api"


def _api(url: str, key_file: Path | None, state: Path) -> Kept:
    try:
        return Kept(api=the_api(url, key_file, state))
    except Failure as error:
        if error.exit_code != NOT_RUNNING:
            raise
        if os.environ.get(KUBECONFIG) and not is_said("state"):
            warn(f"note: no api is named and none runs; using the cluster of {KUBECONFIG}")
            return _cluster(None, "")
        others = "an api with --api, an access directory with --access"
        message = f"{error.message}, {others}, or a cluster with --kubeconfig"
        raise Failure(message, NOT_RUNNING) from error


def _directory(folder: Path) -> Kept:
    def tell() -> None:
        """What cannot be read is not listed, and that is said."""
        for fault in read_access(folder).faults:
            warn(f"warning: {fault}")

    return Kept(
        store=wiring_adapters.new_access_store(f"dir://{folder.resolve()}"), tell_faults=tell
    )


def _cluster(kubeconfig: Path | None, context: str) -> Kept:
    def tell(key: Key, why: Invalid) -> None:
        warn(f"warning: {key.kind} {key.namespace}/{key.name} cannot be read: {why}")

    file = str(kubeconfig) if kubeconfig else ""
    return Kept(store=wiring_adapters.new_cluster_store(file, context, MANAGER, tell))
