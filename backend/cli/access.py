"""An access directory, or one file of it, as the command line reads it."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from backend.cli.state import StateFolder
from extauthz.core.accessreader import AccessReader
from extauthz.core.errors import Invalid, NotFound
from extauthz.core.manifests import Fault, Placed, read_manifest
from extauthz.core.model import MCPAccessGrant, MCPAgentSession, MCPServer
from extauthz.core.render import render
from extauthz.core.times import format_instant

STARTER = Path(__file__).parent / "starter.yaml"
DEMO_ACCESS = Path(__file__).parents[1] / "demo" / "access"


@dataclass(frozen=True, slots=True)
class Access:
    """All custom resources that were read, and all that is wrong with them.

    Args:
        files: how many files were read.
        objects: in the order of files and documents.
        faults: of files and of single objects.
    """

    files: int
    objects: tuple[Placed, ...]
    faults: tuple[Fault, ...]

    @property
    def servers(self) -> list[MCPServer]:
        return [each.resource for each in self.objects if isinstance(each.resource, MCPServer)]

    @property
    def grants(self) -> list[MCPAccessGrant]:
        return [each.resource for each in self.objects if isinstance(each.resource, MCPAccessGrant)]

    @property
    def sessions(self) -> list[MCPAgentSession]:
        found = (each.resource for each in self.objects)
        return [resource for resource in found if isinstance(resource, MCPAgentSession)]

    def document(self, server: MCPServer, now: float) -> dict[str, Any]:
        """The policy document of one server.

        Raises:
            Invalid: an object cannot be rendered.
        """
        generated_at = format_instant(now)
        return render(server, self.grants, self.sessions, generated_at=generated_at)


def read_access(path: Path) -> Access:
    """Read one YAML file, or those of a folder, the same ones as the decision point.

    Of a file that is broken the objects that can be read are there, too, so that all that is
    wrong with them is said at once.

    Raises:
        NotFound: the folder cannot be listed.
    """
    try:
        return _read_folder(path) if path.is_dir() else _read_file(path)
    except OSError as error:
        raise NotFound(f"`{path}` cannot be read ({error.strerror}); make it readable") from error


def choose_server(access: Access, wanted: str, where: Path) -> MCPServer:
    """The server that is named, or the only one there is.

    Args:
        access: what was read.
        wanted: `NAMESPACE/NAME`; empty for the only one.
        where: the folder, for the message.

    Raises:
        NotFound: no such server.
        Invalid: there are several and none is named.
    """
    by_name = {f"{server.namespace}/{server.name}": server for server in access.servers}
    if wanted:
        if wanted not in by_name:
            known = ", ".join(by_name) or "none"
            raise NotFound(f"`{where}` has no MCPServer `{wanted}`; it has: {known}")
        return by_name[wanted]
    if not by_name:
        raise NotFound(
            f"`{where}` has no readable MCPServer; add one, or see `sentinel policy check {where}`"
        )
    if len(by_name) > 1:
        names = ", ".join(by_name)
        raise Invalid("--server", f"`{where}` has several MCPServers ({names})", "name one")
    return next(iter(by_name.values()))


def default_access(folder: StateFolder, *, is_demo: bool) -> Path:
    """An access directory in the state folder, with objects to begin with; never overwritten."""
    access = folder.access if is_demo else folder.own_access
    if not access.exists():
        if is_demo:
            shutil.copytree(DEMO_ACCESS, access)
        else:
            access.mkdir()
            shutil.copy(STARTER, access / STARTER.name)
    return access


def _read_folder(path: Path) -> Access:
    files = AccessReader(path, keep=_placed, settle_seconds=0).read().files
    objects, faults = list[Placed](), list[Fault]()
    for name, file in files.items():
        found = file.partial if file.faults else file.objects or ()
        objects += [replace(each.kept, file=str(name)) for each in found]
        faults += [replace(fault, file=str(name)) for fault in file.faults]
    return Access(len(files), tuple(objects), tuple(faults))


def _read_file(path: Path) -> Access:
    """Of a pipe, too: who names it means it."""
    try:
        manifest = read_manifest(path.read_bytes(), str(path))
    except OSError as error:
        fault = Fault(str(path), 0, "", f"cannot be read ({error.strerror})", "see to it")
        return Access(1, (), (fault,))
    return Access(1, manifest.objects, manifest.faults)


def _placed(placed: Placed) -> Placed:
    return placed
