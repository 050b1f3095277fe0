"""`sentinel policy check` and `sentinel policy render`."""

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from backend.cli.access import Access, choose_server, read_access
from backend.cli.console import FAILED, Failure, Group, cell, json_option, printable, stdout
from backend.cli.lint import Findings, lint
from extauthz.core.compile import compile_document, load_document
from extauthz.core.errors import Invalid
from extauthz.core.manifests import Fault

_PATH = click.Path(exists=True, path_type=Path)


@click.group(cls=Group)
def policy() -> None:
    """Check and render policies, without a running Sentinel."""


@policy.command()
@click.argument("path", type=_PATH)
@json_option
def check(*, path: Path, as_json: bool) -> None:
    """Check an access directory, a YAML file, or a policy document (JSON).

    Prints `file:line: field: what; mend` and exits with 1 where there are errors.
    Warnings say what has no effect, or more than was meant.
    """
    if path.suffix == ".json":
        findings, counted = _check_document(path), "1 policy document"
    else:
        access = read_access(path)
        findings = lint(access, time.time(), is_folder=path.is_dir())
        if not access.objects and not findings.errors:
            nothing = Fault(str(path), 0, "", "holds no custom resource", "name another path")
            findings = Findings((), (nothing,))
        counted = _counted(access)
    if as_json:
        told = {"errors": _plain(findings.errors), "warnings": _plain(findings.warnings)}
        print(json.dumps(told | {"read": counted}))
    else:
        _print(findings, counted)
    if findings.errors:
        raise SystemExit(FAILED)


@policy.command("render")
@click.argument("path", metavar="DIR", type=_PATH)
@click.option("--server", default="", metavar="NS/NAME", help="Default: the only MCPServer.")
@json_option
def render_document(*, path: Path, server: str, as_json: bool) -> None:
    """Print the policy document that a sidecar of the server would run (always JSON)."""
    del as_json  # there is nothing else to print
    access = read_access(path)
    if access.faults:
        more = f" (and {len(access.faults) - 1} more)" if len(access.faults) > 1 else ""
        raise Failure(f"{access.faults[0]}{more}")
    chosen = choose_server(access, server, path)
    document = access.document(chosen, time.time())
    compile_document(document)
    print(json.dumps(document, indent=2, ensure_ascii=False))


def _check_document(path: Path) -> Findings:
    try:
        compile_document(load_document(path.read_bytes()))
    except OSError as error:
        raise Failure(f"`{path}` cannot be read ({error.strerror}); make it readable") from error
    except Invalid as error:
        return Findings((Fault(str(path), 0, error.field, error.problem, error.mend),), ())
    return Findings((), ())


def _counted(access: Access) -> str:
    return ", ".join(
        f"{count} {name}{'s' * (count != 1)}"
        for count, name in (
            (access.files, "file"),
            (len(access.servers), "server"),
            (len(access.grants), "grant"),
            (len(access.sessions), "session"),
        )
    )


def _print(findings: Findings, counted: str) -> None:
    for fault in findings.errors:
        print(printable(str(fault)))
    for fault in findings.warnings:
        place = f"{fault.file}:{fault.line}: " if fault.line else f"{fault.file}: "
        print(printable(f"{place}warning: {str(fault).removeprefix(place)}"))
    errors, warnings = len(findings.errors), len(findings.warnings)
    style = "red" if errors else "yellow" if warnings else "green"
    total = f"{errors} error{'s' * (errors != 1)}, {warnings} warning{'s' * (warnings != 1)}"
    stdout().print(cell(f"{total} in {counted}", style))


def _plain(faults: tuple[Fault, ...]) -> list[dict[str, Any]]:
    return [asdict(fault) for fault in faults]
