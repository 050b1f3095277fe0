"""One real broker for all suites that need it."""

from collections.abc import Iterator

import pytest

from tests.tools.kafka_broker import KafkaBroker, running_broker


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    with running_broker(tmp_path_factory.mktemp("kafka")) as running:
        yield running
