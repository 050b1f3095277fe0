"""What holds for every tier."""

import signal
import time
from collections.abc import Generator
from typing import Final

import pytest
from hypothesis import HealthCheck, settings

from tests.tools import process_logs

# A shell that runs the tests in the background has them ignore SIGINT, and so would all they
# start; that it ends what it should is tested, too.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The same inputs every time, however slow the machine; `--hypothesis-profile default` tries others.
settings.register_profile(
    "tests", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("tests")

BEGAN: Final = pytest.StashKey[float]()
FOLDERS: Final = pytest.StashKey[pytest.TempPathFactory]()


@pytest.fixture(scope="session", autouse=True)
def _folders(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> None:
    request.config.stash[FOLDERS] = tmp_path_factory


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    item.stash[BEGAN] = time.time()
    process_logs.forget()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure shows what the test's processes said."""
    report = yield
    if report.failed and (folders := item.config.stash.get(FOLDERS, None)):
        report.sections += process_logs.told(folders.getbasetemp(), item.stash[BEGAN])
    return report
