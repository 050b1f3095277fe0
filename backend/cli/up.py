"""`sentinel up`: the whole stack on loopback, in front of one MCP server."""

import asyncio
import json
import os
import secrets
import shlex
import shutil
import sys
import time
from dataclasses import asdict
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import click
import stamina.instrumentation
from rich.table import Table

from backend.cli.access import Access, choose_server, default_access, read_access
from backend.cli.console import Failure, cell, json_option, print_unfolded, printable, stderr
from backend.cli.control import Control
from backend.cli.examples import find_examples
from backend.cli.guard import RUN_VARIABLE
from backend.cli.lint import lint
from backend.cli.observer import Observer
from backend.cli.ports import DEFAULT_BASE, HIGHEST_BASE, HOST, Ports, check_free
from backend.cli.running import state_option
from backend.cli.stack import CONTROL_SOCKET, STOP_ORDER, Stack, http_probe
from backend.cli.state import DEFAULT_STATE, Component, Running, claim
from backend.cli.supervisor import Guard, Supervisor, install_signals
from extauthz.core.errors import Invalid, SentinelError
from extauthz.core.model import MCPServer
from extauthz.core.times import format_instant

ANSWER_SECONDS = 3.0  # for a running upstream


@click.command(context_settings={"allow_interspersed_args": False})
@state_option
@click.option(
    "--port-base",
    type=click.IntRange(1024, HIGHEST_BASE),
    default=DEFAULT_BASE,
    show_default=True,
    metavar="N",
    help="api N, ingest N+1, dashboard N+2, MCP server N+10, governed MCP N+11, metrics N+12 on.",
)
@click.option("--upstream", default="", metavar="URL", help="Govern the MCP server that runs here.")
@click.option(
    "--access",
    "access_dir",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Access directory (YAML); default: in the state folder, with an example to begin with.",
)
@click.option("--server", default="", metavar="NS/NAME", help="Default: the only MCPServer.")
@json_option
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def up(
    *,
    state: Path,
    port_base: int,
    upstream: str,
    access_dir: Path | None,
    server: str,
    as_json: bool,
    command: tuple[str, ...],
) -> None:
    """Run the whole stack on 127.0.0.1 until Ctrl-C.

    In front of the reference server, of your own running one (--upstream URL), or of one
    that COMMAND starts: it finds its port in PORT (N+10) and serves /mcp there, unless
    --upstream says where it listens. A second Ctrl-C ends everything at once.
    """
    ports = Ports(port_base)
    starts_upstream = bool(command) or not upstream
    url = _upstream_url(upstream) if upstream else f"http://{HOST}:{ports.upstream}/mcp"
    _check_path(state.resolve(), "--state")
    folder, lock = claim(state)
    check_free(_needed(ports, upstream, command))
    if not starts_upstream and not asyncio.run(_answers(url)):
        raise Failure(
            f"the upstream `{url}` does not answer; start it, or name another with --upstream"
        )
    folder.prepare()
    is_demo = not upstream and not command
    access_path = access_dir.resolve() if access_dir else default_access(folder, is_demo=is_demo)
    _check_path(access_path, "--access")
    access = read_access(access_path)
    chosen = _choose(access, server, access_path)
    stack = Stack(
        folder=folder,
        ports=ports,
        access=access_path,
        server=(chosen.namespace, chosen.name),
        upstream=url,
        command=command,
        starts_upstream=starts_upstream,
        cwd=Path.cwd(),
        token=secrets.token_hex(16),
    )
    _warn(access)
    asyncio.run(_Run(stack, access, chosen, state, as_json=as_json).run(lock))


class _Run:
    """One run from its start to its end."""

    def __init__(
        self, stack: Stack, access: Access, server: MCPServer, state: Path, *, as_json: bool
    ) -> None:
        self._stack, self._access, self._server = stack, access, server
        self._state, self._as_json = state, as_json
        self._progress = stderr()
        self._started_at = format_instant(time.time())

    async def run(self, lock: int) -> None:
        """Start, keep until a signal or a failure, stop.

        Raises:
            Failure: something did not come up, or did not stay up.
        """
        async with aiohttp.ClientSession() as session:
            self._supervisor = Supervisor(
                self._stack.groups(session), STOP_ORDER, self._progress, self._write_record
            )
            install_signals(asyncio.get_running_loop(), self._supervisor.on_signal)
            stamina.instrumentation.set_on_retry_hooks([])  # the supervisor tells it itself
            guard = Guard({**os.environ, RUN_VARIABLE: self._stack.token}, lock)
            await guard.start()
            observer = Observer(self._stack, self._supervisor, session)
            socket = self._stack.folder.root / CONTROL_SOCKET
            control = Control(socket, self._supervisor, observer.kept)
            try:
                await control.start()
                await self._until_stopped()
            finally:
                await self._supervisor.stop()
                await control.stop()
                await guard.stop()
                self._stack.folder.record.unlink(missing_ok=True)

    async def _until_stopped(self) -> None:
        work = asyncio.create_task(self._work())
        stopping = asyncio.create_task(self._supervisor.stopping.wait())
        await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
        for task in (work, stopping):
            task.cancel()
        results = await asyncio.gather(work, return_exceptions=True)
        error = _first(results[0])
        if isinstance(error, SentinelError):
            raise Failure(str(error)) from error
        if error is not None and not isinstance(error, asyncio.CancelledError):
            raise error

    async def _work(self) -> None:
        await asyncio.to_thread(self._stack.write_envoy_config)
        self._write_record()
        await self._supervisor.start()
        self._write_record()
        self._announce()
        await self._supervisor.keep()

    def _write_record(self) -> None:
        stack = self._stack
        Running(
            pid=os.getpid(),
            started_at=self._started_at,
            server="/".join(stack.server),
            endpoints=stack.endpoints,
            access_dir=str(stack.access),
            admin_key_file=str(stack.folder.admin_key),
            operations=stack.operations,
            upstream=stack.upstream,
            components=tuple(
                Component(child.program.name, child.pid, max(0, child.starts - 1))
                for child in self._supervisor.children
            ),
        ).write(stack.folder.record)

    def _announce(self) -> None:
        stack = self._stack
        if self._as_json:
            print(json.dumps({"endpoints": asdict(stack.endpoints)}), flush=True)
            return
        print_unfolded(self._table())
        self._progress.print("Ctrl-C stops everything.")

    def _table(self) -> Table:
        stack = self._stack
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column(style="bold", no_wrap=True)
        table.add_column(no_wrap=True)
        rows = {
            "governed MCP": stack.endpoints.mcp,
            "dashboard": f"{stack.endpoints.ui}{stack.folder.new_login_path()}",
            "api": stack.endpoints.api,
            "access directory": _short(stack.access),
            "admin key file": _short(stack.folder.admin_key),
        }
        for name, value in {**rows, **self._commands()}.items():
            table.add_row(name, cell(value))
        return table

    def _commands(self) -> dict[str, str]:
        now = time.time()
        state = ["--state", str(self._state)] if str(self._state) != DEFAULT_STATE else []
        program = _program()
        found: dict[str, str] = {}
        try:
            examples = find_examples(self._access.document(self._server, now), now)
        except Invalid:  # `sentinel status` says what is wrong
            return {}
        if examples.allowed:
            found["an allowed call"] = shlex.join([program, *examples.allowed.arguments, *state])
        if examples.denied:
            found["a denied call"] = shlex.join([program, *examples.denied.arguments, *state])
        return found | {"what was decided": shlex.join([program, "events", *state])}


def _warn(access: Access) -> None:
    """What keeps the decision point without a policy; it serves, and denies."""
    if faults := lint(access, time.time(), is_folder=True).errors:
        lines = [f"warning: {fault}" for fault in faults]
        for line in (*lines, "warning: until that is mended every call is denied"):
            stderr().print(cell(line), soft_wrap=True)


def _choose(access: Access, server: str, where: Path) -> MCPServer:
    try:
        return choose_server(access, server, where)
    except SentinelError:
        if access.faults:  # the server may well be in a file that cannot be read
            raise Failure(str(access.faults[0])) from None
        raise


def _check_path(path: Path, option: str) -> None:
    """Paths go to the backend inside of URLs."""
    if set("?#") & set(str(path)):
        raise Invalid(option, f"`{path}` holds `?` or `#`", "choose a folder without them")


def _upstream_url(text: str) -> str:
    parts = urlsplit(text)
    if "@" in parts.netloc:  # not repeated: it may hold a password
        raise Invalid("--upstream", "carries credentials", "leave them out; clients send them")
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise Invalid(
            "--upstream",
            f"`{printable(text)}` is not an http or https URL",
            "write it like http://127.0.0.1:3000/mcp",
        )
    return text


def _needed(ports: Ports, upstream: str, command: tuple[str, ...]) -> dict[str, int]:
    wanted = ports.needed(starts_upstream=not upstream)
    parts = urlsplit(upstream)
    if command and parts.hostname in {"localhost", HOST} and parts.port:
        wanted["COMMAND"] = parts.port
    return wanted


async def _answers(url: str) -> bool:
    async with aiohttp.ClientSession() as session:
        probe = http_probe(session, url, any_status=True)
        deadline = time.monotonic() + ANSWER_SECONDS
        while not await probe():
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.2)
        return True


def _first(result: object) -> BaseException | None:
    """The first failure inside of groups of them."""
    while isinstance(result, BaseExceptionGroup):
        result = result.exceptions[0]
    return result if isinstance(result, BaseException) else None


def _program() -> str:
    """How this very program is called from here: by name where PATH has it, else by path."""
    called = Path(sys.argv[0])
    on_path = shutil.which(called.name)
    if on_path and Path(on_path).resolve() == called.resolve():
        return called.name
    return _short(called.resolve())


def _short(path: Path) -> str:
    """Relative to the working directory, where that is shorter."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
