"""The questions behind usage. What each of them sums up is answered by a projection.

A projection serves what names its columns and its sums as the schema does; so each question
groups first by what it needs, and sums up again. `uniq` is exact up to 65,536.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from string import Template
from typing import Final

from backend.adapters.clickhouse_windows import DAY, Step


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of events that were summed up before.

    Args:
        sql: `$events` stands for those sums.
        keys: columns that they tell apart.
        sums: what they say of each.
        only: which events they are of, besides what is asked for.
        step: what the projections that answer it sum up.
    """

    sql: str
    keys: str
    sums: str
    only: str = "1"
    step: Step = DAY

    def asked(self, wheres: Iterable[str], **places: str) -> str:
        """As SQL.

        Args:
            wheres: conditions of which no two hold for the same event.
            places: what stands for other names with a `$`.
        """
        events = " UNION ALL ".join(
            f"SELECT {self.keys}, {self.sums} FROM events"
            f" WHERE {where} AND {self.only} GROUP BY {self.keys}"
            for where in wheres
        )
        return Template(self.sql.replace("$events", events)).substitute(places)


NOT_DENIED: Final = "decision != 'deny'"  # a call that was denied took no time at its server
_CALLS: Final = "event_type NOT IN {internal:Array(String)}"
_AMONG: Final = (
    f"{_CALLS} AND human_id IN {{humans:Array(String)}} AND agent_id IN {{agents:Array(String)}}"
)
_OF_TOOLS: Final = "declared_tool != ''"

_COUNTED: Final = "count() AS all_, max(event_time) AS latest"
_DENIED: Final = "countIf(decision = 'deny') AS denies"
_TIMED: Final = (
    "countIf(latency_step > 0) AS ended,"
    " quantilesExactWeightedState(0.5, 0.95, 0.99)(latency_step, latency_step > 0) AS steps"
)
_SUMMED: Final = "sum(all_) AS n, sum(denies), toUnixTimestamp64Milli(max(latest))"

# Totals, servers and teams (`grouping` tells which), each with its greatest first. Outcomes that
# came apart from their calls count for latencies alone.
_SUMMARY: Final = """
SELECT grouping(server, namespace) = 0 AS has_server, grouping(team_id) = 0 AS has_team,
    server, namespace, team_id, sumIf(all_, is_call) AS n,
    sumIf(all_, is_call AND decision = 'allow'), sumIf(all_, is_call AND decision = 'deny'),
    toUnixTimestamp64Milli(maxIf(latest, is_call)),
    uniqExactIf((namespace, server), is_call AND server != ''), $humans, $agents,
    sumIf(ended, $timed), quantilesExactWeightedMergeIf(0.5, 0.95, 0.99)(steps, $timed)
FROM (SELECT *, event_type NOT IN {internal:Array(String)} AS is_call FROM ($events))
GROUP BY GROUPING SETS ((), (server, namespace, team_id), (team_id))
HAVING NOT has_team OR n > 0 AND if(has_server, server, team_id) != ''
ORDER BY n DESC, server, namespace, team_id
LIMIT {most:UInt32} BY has_server, has_team
"""
_OWNERS: Final = "server, namespace, team_id, event_type, decision"


def _summary(keys: str, sums: str, humans: str, agents: str) -> Question:
    sql = Template(_SUMMARY).safe_substitute(humans=humans, agents=agents)
    return Question(
        sql, keys, f"{_COUNTED}, {_TIMED}{sums}", "event_type NOT IN {own:Array(String)}"
    )


# Who is behind them is told by a state of each server.
SUMMARY: Final = _summary(
    _OWNERS,
    ", uniqStateIf(human_id, human_id != '') AS humans,"
    " uniqStateIf(agent_id, agent_id != '') AS agents",
    "uniqMergeIf(humans, is_call)",
    "uniqMergeIf(agents, is_call)",
)
# Of one human, agent or tool: each actor is a row.
SUMMARY_OF_FEW: Final = _summary(
    f"human_id, agent_id, {_OWNERS}",
    "",
    "uniqIf(human_id, is_call AND human_id != '')",
    "uniqIf(agent_id, is_call AND agent_id != '')",
)
SESSIONS: Final = Question(
    "SELECT uniqMerge(sessions) FROM ($events)",
    "event_type",
    "uniqStateIf(session_id, notEmpty(session_id)) AS sessions",
    _CALLS,
)
ACTORS: Final = Question(
    f"""
SELECT human_id, agent_id, {_SUMMED} FROM ($events)
GROUP BY human_id, agent_id
ORDER BY n DESC, human_id, agent_id
LIMIT {{most:UInt32}}
""",
    "human_id, agent_id",
    f"{_COUNTED}, {_DENIED}",
    _CALLS,
)
# How many servers and tools each of some actors used.
USED: Final = Question(
    """
SELECT human_id, agent_id, uniqExactIf((namespace, server), server != ''),
    uniqExactIf((namespace, server, declared_tool), declared_tool != '')
FROM ($events)
GROUP BY human_id, agent_id
""",
    "human_id, agent_id, namespace, server, declared_tool",
    "count()",
    _AMONG,
)
_TOOLS: Final = f"""
SELECT server, declared_tool, human_id, team_id, agent_id, namespace, {_SUMMED} FROM ($events)
GROUP BY server, namespace, declared_tool, human_id, team_id, agent_id
ORDER BY n DESC, server, namespace, declared_tool, human_id, team_id, agent_id
LIMIT {{limit:UInt32}}
"""
_USERS: Final = "server, namespace, declared_tool, human_id, team_id, agent_id"
TOOLS: Final = Question(_TOOLS, _USERS, f"{_COUNTED}, {_DENIED}", f"{_CALLS} AND {_OF_TOOLS}")
TOOLS_OF_SOME: Final = Question(_TOOLS, _USERS, TOOLS.sums, f"{_AMONG} AND {_OF_TOOLS}")
LATENCIES: Final = Question(
    """
SELECT server, namespace, declared_tool, sum(ended) AS n,
    quantilesExactWeightedMerge(0.5, 0.95, 0.99)(steps)
FROM ($events)
GROUP BY server, namespace, declared_tool
HAVING n > 0
ORDER BY n DESC, server, namespace, declared_tool
LIMIT {limit:UInt32}
""",
    "server, namespace, declared_tool",
    _TIMED,
    f"{_OF_TOOLS} AND $timed",
)


def series(step: Step) -> Question:
    """By decision."""
    return Question(
        """
SELECT toUnixTimestamp(at, 'UTC') AS begin, decision, sum(all_) FROM ($events)
GROUP BY begin, decision
ORDER BY begin, decision
""",
        f"{step.function}(event_time) AS at, decision",
        "count() AS all_",
        _CALLS,
        step,
    )
