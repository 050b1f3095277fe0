"""The components that run are those that can be told of, started again and measured."""

import asyncio
import re
import time

import pytest

from backend import wiring
from backend.adapters.local_cluster import LocalCluster, OwnComponent
from backend.lifecycle import Units
from backend.operations import Health
from backend.ports.cluster import DISPLAY, PARTS, RESTART_ORDER
from backend.settings import Settings
from extauthz.core import config


def test_what_is_wired_is_in_the_table() -> None:
    """So that the api can tell how it is."""
    assert set(wiring.COMPONENTS) <= set(DISPLAY)


def test_each_component_has_its_turn_in_a_restart() -> None:
    """Ours, once each: those before what they only use."""
    ours = [part.key for part in PARTS][: len(RESTART_ORDER)]
    assert sorted(RESTART_ORDER) == sorted(ours)
    assert set(wiring.COMPONENTS) <= set(RESTART_ORDER)
    assert len(DISPLAY) == len(PARTS)


def test_help_names_each_port_of_metrics() -> None:
    """Whoever scrapes them finds it in the table of settings."""
    (row,) = (each for each in config.table(Settings).values() if each.name == "METRICS_PORT")
    ports = {name: component.metrics_port for name, component in wiring.COMPONENTS.items()}
    for name, port in ports.items():
        told = str(port) if port == wiring.ALL_METRICS_PORT else f"{name} {port}"
        assert re.search(rf"\b{told}\b", row.help), name


def test_a_component_that_nobody_knows_cannot_run() -> None:
    """It ends the start, and not a later question about it."""
    loop = asyncio.new_event_loop()
    try:
        with pytest.raises(ValueError, match="`PARTS`"):
            LocalCluster(
                Units(1.0, time.time),
                {"exporter": OwnComponent(Health({}))},
                loop,
                keeper=None,
                version="1",
            )
    finally:
        loop.close()
