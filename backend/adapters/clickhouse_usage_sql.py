"""The questions behind usage. The inner one of each is answered by a projection by days.

A projection serves what names its columns and its sums as the schema does; so each
question groups first by what it needs, and sums up again. `uniq` is exact up to 65,536.
"""

from typing import Final

# As the projections have them.
_SUMS: Final = (
    "count() AS all_, countIf(decision = 'allow') AS allows, countIf(decision = 'deny') AS denies,"
    " max(event_time) AS latest"
)
_SUMMED: Final = (
    "sum(all_) AS n, sum(allows), sum(denies), toUnixTimestamp64Milli(max(latest)) AS seen"
)

# Totals, servers, teams, actors, and actors on servers (`grouping` tells which), each with
# its greatest first.
ACTORS: Final = f"""
SELECT grouping(server, namespace) = 0 AS has_server, grouping(team_id) = 0 AS has_team,
    grouping(human_id, agent_id) = 0 AS has_actor,
    server, namespace, team_id, human_id, agent_id, {_SUMMED},
    uniqIf((namespace, server), server != ''),
    uniqIf(human_id, human_id != ''),
    uniqIf(agent_id, agent_id != '')
FROM
(
    SELECT human_id, agent_id, server, namespace, team_id, {_SUMS} FROM events
    WHERE {{where}} GROUP BY human_id, agent_id, server, namespace, team_id
)
GROUP BY GROUPING SETS ((), (server, namespace, team_id), (team_id), (human_id, agent_id),
    (human_id, agent_id, server, namespace, team_id))
ORDER BY n DESC, server, namespace, team_id, human_id, agent_id
LIMIT {{{{most:UInt32}}}} BY has_server, has_team, has_actor
"""
SESSIONS: Final = """
SELECT count() FROM
    (SELECT session_id FROM events WHERE {where} AND session_id != '' GROUP BY session_id)
"""
DECISIONS: Final = """
SELECT decision, count() AS n FROM events WHERE {where} GROUP BY decision
ORDER BY n DESC, decision
"""
SERIES: Final = """
SELECT toUnixTimestamp({step}(event_time), 'UTC') AS at, count(), countIf(decision = 'allow'),
    countIf(decision = 'deny')
FROM events WHERE {where} GROUP BY {step}(event_time) ORDER BY at
"""
# `among` leaves out actors that cannot have any of the greatest; see clickhouse_usage.
TOOLS: Final = f"""
SELECT server, declared_tool, human_id, team_id, agent_id, {_SUMMED}, namespace FROM
(
    SELECT human_id, agent_id, server, namespace, team_id, declared_tool, {_SUMS} FROM events
    WHERE {{where}} AND declared_tool != '' {{among}}
    GROUP BY human_id, agent_id, server, namespace, team_id, declared_tool
)
GROUP BY server, namespace, declared_tool, human_id, team_id, agent_id
ORDER BY n DESC, server, namespace, declared_tool, human_id, team_id, agent_id
LIMIT {{{{limit:UInt32}}}}
"""
AMONG: Final = (
    "AND human_id IN {humans:Array(String)} AND agent_id IN {agents:Array(String)}"
    " AND server IN {servers:Array(String)}"
)
TOOLS_OF_ACTORS: Final = """
SELECT human_id, agent_id, count() FROM
(
    SELECT human_id, agent_id, namespace, server, declared_tool, count() FROM events
    WHERE {where} AND declared_tool != '' AND human_id IN {{humans:Array(String)}}
        AND agent_id IN {{agents:Array(String)}}
    GROUP BY human_id, agent_id, namespace, server, declared_tool
)
GROUP BY human_id, agent_id
"""
# Totals, the servers that are listed, and tools.
LATENCIES: Final = """
SELECT grouping(server, namespace) = 0 AS has_server, grouping(declared_tool) = 0 AS has_tool,
    server, namespace, declared_tool, sum(all_) AS n,
    quantilesExactWeighted(0.5, 0.95, 0.99)(latency_step, all_)
FROM
(
    SELECT server, namespace, declared_tool, latency_step, count() AS all_ FROM events
    WHERE {where} AND latency_step > 0
    GROUP BY server, namespace, declared_tool, latency_step
)
GROUP BY GROUPING SETS ((), (server, namespace), (server, namespace, declared_tool))
HAVING has_tool AND declared_tool != '' OR NOT has_tool
    AND (NOT has_server OR server IN {{servers:Array(String)}})
ORDER BY n DESC, server, namespace, declared_tool
LIMIT {{most:UInt32}} BY has_server, has_tool
"""
