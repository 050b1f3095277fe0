"""The api is held against its own description, by requests that are made from it."""

from contextlib import suppress
from typing import Any, Final

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.config import GenerationConfig, ProjectConfig, ProjectsConfig, SchemathesisConfig
from schemathesis.specs.openapi.checks import positive_data_acceptance

from backend.adapters.clickhouse_store import ClickHouseStore
from tests.tools.event_rows import row
from tests.unit.backend.api.conftest import NewApp

EXAMPLES: Final = 10  # of each operation, right and wrong ones each: some seconds in all
CONFIG: Final = SchemathesisConfig(
    projects=ProjectsConfig(
        default=ProjectConfig(generation=GenerationConfig(with_security_parameters=False))
    )
)
# A schema cannot say that `since` lies before `until`, nor which cursors are whole.
LEFT_OUT: Final = [positive_data_acceptance]


@pytest.fixture(scope="module")
def described(filled: ClickHouseStore, new_app: NewApp) -> Any:
    payload = {"server": "shop", "namespace": "team-a", "tool_name": "list", "latency_ms": 3}
    filled.insert([row(n, payload, trace_id="t") for n in range(9)])
    return schemathesis.openapi.from_wsgi("/api/openapi.json", new_app(filled), config=CONFIG)


@pytest.mark.timeout(3000)  # every route, one after the other
@pytest.mark.parametrize("mode", list(GenerationMode))
def test_what_is_described_is_what_happens(
    described: Any, subtests: pytest.Subtests, mode: GenerationMode
) -> None:
    """No error of ours, no status, type or body that the document does not list."""
    operations = [found.ok() for found in described.get_all_operations()]
    assert len(operations) > 20
    for operation in operations:

        @settings(
            max_examples=EXAMPLES,
            derandomize=True,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(operation.as_strategy(generation_mode=mode))
        def holds(case: Any) -> None:
            case.call_and_validate(headers={"x-api-key": "admin"}, excluded_checks=LEFT_OUT)

        # Of what takes nothing no wrong request can be made.
        with subtests.test(operation.label), suppress(Unsatisfiable):
            holds()
