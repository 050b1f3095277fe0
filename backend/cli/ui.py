"""`sentinel ui`: a way into the dashboard of a run."""

import json
from pathlib import Path

import click

from backend.cli.console import json_option
from backend.cli.running import state_option, the_running
from backend.cli.state import StateFolder


@click.command()
@state_option
@click.option("--open", "opens", is_flag=True, help="Open it in the browser, too.")
@json_option
def ui(*, state: Path, opens: bool, as_json: bool) -> None:
    """Print a link that signs one browser in to the dashboard, once, as admin.

    The one that was printed before and not used counts no more.
    """
    running = the_running(state)
    link = f"{running.endpoints.ui}{StateFolder(state.resolve()).new_login_path()}"
    click.echo(json.dumps({"link": link}) if as_json else link)
    if opens:
        click.launch(link)
