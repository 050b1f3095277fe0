"""Which grants decided calls: sums by days, so whatever the size of the table."""

from datetime import UTC, datetime
from typing import Final

from backend.adapters.clickhouse_readers import Readers
from backend.adapters.clickhouse_rows import moment
from backend.queries import GrantUse, GrantUses
from extauthz.core.events import EventType

# The inner one is answered by the projection `grants_by_day`, whose words it repeats.
_USES: Final = """
SELECT matched_grant, tool, sum(allows), sum(denies), toUnixTimestamp64Milli(max(latest)) FROM
(
    SELECT matched_grant, if(matched_grant = '', '', tool_name) AS tool,
        countIf(decision = 'allow') AS allows, countIf(decision = 'deny') AS denies,
        max(event_time) AS latest
    FROM events
    WHERE toDate(event_time) >= toDate({since:String}) AND event_type = {type:String}
        AND matched_grant != ''
    GROUP BY matched_grant, if(matched_grant = '', '', tool_name)
)
GROUP BY matched_grant, tool
ORDER BY matched_grant, tool
"""
_FIRST: Final = "SELECT count(), toUnixTimestamp64Milli(min(event_time)) FROM events"


def grant_use(readers: Readers, since: datetime) -> GrantUses:
    """As `EventStore.grant_use`."""
    day = since.astimezone(UTC).date().isoformat()
    rows = readers.rows(_USES, {"since": day, "type": EventType.REQUEST.value})
    ((stored, first),) = readers.rows(_FIRST, {})
    return GrantUses(
        [
            GrantUse(*_named(grant), tool, allowed, denied, moment(last))
            for grant, tool, allowed, denied, last in rows
        ],
        moment(first) if stored else None,
    )


def _named(grant: str) -> tuple[str, str]:
    """What a foreign producer sends without a namespace is nobody's grant here."""
    namespace, _, name = grant.partition("/")
    return namespace, name
