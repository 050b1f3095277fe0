"""Events made by the engine itself, millions a minute: INSERT SELECT from numbers.

They look as a fleet's: few servers, humans and tools make most calls (Zipf), a human has two
or three agents and uses few servers, sessions last a day, a tenth is denied, ids are UUIDv7.
Each event is made from its number alone, so that the same arguments make the same events.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import msgspec
from clickhouse_connect.driver.client import Client

_LOADED = "loaded.json"
# Blocks, so that little is left to merge; some gigabytes of memory.
_LARGE = {
    "max_threads": "2",
    "max_insert_block_size": "1200000",
    "min_insert_block_size_rows": "1200000",
    "min_insert_block_size_bytes": "0",
}


@dataclass(frozen=True, slots=True)
class Dataset:
    """What is loaded.

    Args:
        events: how many.
        days: over how many days, the last of them whole.
        end: a midnight in UTC.
    """

    events: int
    days: int
    end: datetime
    servers: int = 100
    humans: int = 5_000
    agents: int = 1_500
    gateways: int = 400

    @property
    def begin(self) -> datetime:
        return self.end - timedelta(days=self.days)


def until_today(events: int, days: int) -> Dataset:
    return Dataset(events, days, today())


def today() -> datetime:
    """The midnight that it began with."""
    return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


@dataclass(slots=True)
class Loaded:
    """How much of it lies in a folder.

    Args:
        days: how many of its days are there, whole.
        seconds: what they took.
    """

    data: Dataset
    days: int = 0
    seconds: float = 0.0

    @classmethod
    def of(cls, folder: Path, data: Dataset) -> Self:
        """Raises: SystemExit: the folder has another number of events, or none of ours."""
        told = folder / _LOADED
        if told.exists():
            found = msgspec.json.decode(told.read_bytes(), type=cls)
            if found.data.events != data.events:
                raise SystemExit(
                    f"error: {folder} holds {found.data.events} events, not {data.events};"
                    " name another --folder"
                )
            return found
        if folder.exists() and any(folder.iterdir()):
            raise SystemExit(f"error: {folder} is not empty; name another --folder")
        folder.mkdir(parents=True, exist_ok=True)
        return cls(data)

    def write(self, folder: Path) -> None:
        (folder / _LOADED).write_bytes(msgspec.json.encode(self))


def load(client: Client, data: Dataset, day: int) -> None:
    """A day, anew: its partition is written at once, in order, and merged as old ones are."""
    first = data.events * day // data.days
    last = data.events * (day + 1) // data.days
    partition = f"PARTITION '{(data.begin + timedelta(days=day)).date()}'"
    client.command(f"ALTER TABLE events DROP {partition}")
    client.command(_INSERT, parameters=_parameters(data, day, first, last), settings=_LARGE)
    client.command(f"OPTIMIZE TABLE events {partition} FINAL")


def _parameters(data: Dataset, day: int, first: int, last: int) -> dict[str, Any]:
    begin = data.begin + timedelta(days=day)
    return {
        "begin": int(begin.timestamp() * 1000),
        "step": 86_400_000 / max(1, last - first),
        "first": first,
        "count": last - first,
        "servers": data.servers,
        "humans": data.humans,
        "agents": data.agents,
        "gateways": data.gateways,
    }


def _zipf(size: str, seed: str) -> str:
    """A rank in [0, size): the first ones are the likeliest."""
    return f"toUInt32(pow({size}, (cityHash64({seed}) % 1000000) / 1000000)) - 1"


def _one_of(seed: str, *values: str) -> str:
    listed = ", ".join(f"'{value}'" for value in values)
    return f"[{listed}][1 + ({seed}) % {len(values)}]"


_TEAMS = ("payments", "platform", "search", "support", "data", "mobile", "growth", "legal")
_VERBS = ("get", "list", "search", "create", "update", "delete", "export", "summarise")
_NOUNS = ("issue", "invoice", "document", "ticket", "customer", "build", "deployment", "page")
_DENIALS = ("tool_not_granted", "no_matching_grant", "trust_too_low", "session_expired")
_UUID = (
    "concat(substring({h}, 1, 8), '-', substring({h}, 9, 4), '-{version}', substring({h}, 14, 3),"
    " '-a', substring({h}, 18, 3), '-', substring({h}, 21, 12))"
)
_ID_HEX = "lower(concat(leftPad(hex(at_ms), 12, '0'), hex(sipHash128(n))))"
_REQUEST_HEX = "lower(hex(sipHash128(n, 8)))"

_PAYLOAD = """
if(event_type != 'mcp.request', concat('{"gateway":"', gateway, '","gateway_start":"',
    gateway_start, '","sequence":', toString(sequence), ',"offered":', toString(sequence),
    ',"sent":', toString(sequence), ',"spooled":0,"dropped":0', outcome, '}'),
concat('{"decision_id":"', event_id, '","request_id":"', request_id,
    '","method":"POST","path":"/mcp","server":"', server, '","namespace":"', namespace,
    '","cluster":"', cluster, '","team_id":"', team_id, '","human_id":"', human_id,
    '","agent_id":"', agent_id, '","subject_team_id":"', subject_team, '","session_id":"',
    session_id, '","decision":"', decision, '","reason":"', reason,
    '","mode":"allow-list","policy_version":"v7","policy_revision":"sha256:',
    lower(hex(SHA256(toString(server_number)))),
    '","rpc_method":"', if(tool_name = '', 'tools/list', 'tools/call'),
    if(tool_name = '', '', concat('","tool_name":"', tool_name)),
    '","protocol_version":"2025-11-25","arguments_digest":"sha256:', lower(hex(SHA256(event_id))),
    '","required_trust":"low","admin_trust":"medium","effective_trust":"medium"',
    ',"required_side_effect":"read","risk_level":"low","matched_grant":"', subject_team,
    '-uses-', toString(server_number), '","matched_grant_namespace":"', namespace,
    '","gateway":"', gateway, '","gateway_start":"', gateway_start, '","sequence":',
    toString(sequence), outcome, '}'))
"""
_OUTCOME = (
    ',"status":200,"latency_ms":\', toString(round(latency_ms, 3)), \',"bytes_in":\','
    ' toString(80 + a % 400), \',"bytes_out":\', toString(200 + a % 9000), \',"response_flags":""'
)

# A name means the expression behind it, wherever it stands.
_MEMBERS = {
    "n": "number",
    "a": "cityHash64(n, 1)",
    "b": "cityHash64(n, 2)",
    "at_ms": "toUInt64({begin:Int64} + (n - {first:UInt64}) * {step:Float64} + a % 1000 / 1000)",
    "kind": "b % 10000",
    "event_type": "multiIf(kind < 9700, 'mcp.request', kind < 9770, 'mcp.response',"
    " kind < 9980, 'gateway.heartbeat', kind < 9990, 'gateway.start',"
    " kind < 9999, 'governance.change', 'audit.gap')",
    "is_call": "kind < 9700",
    "human": _zipf("{humans:UInt32}", "n, 3"),
    "agent": "cityHash64(human, a % 5 % 3, 4) % {agents:UInt32}",
    "slot": _zipf("8", "n, 5"),
    "server_number": _zipf("{servers:UInt32}", "human, slot"),
    "tool": _zipf("8", "n, human, 6"),
    "denied": "intDiv(a, 256) % 100 < 9",
    "latency_ms": "if(denied, 0.3 + (a % 1000) / 600,"
    " exp(3.4 + 1.1 * ((intDiv(a, 8) % 1000 + intDiv(a, 8192) % 1000 + intDiv(a, 8388608) % 1000"
    " + intDiv(a, 8589934592) % 1000) / 1000 - 2) * 1.73))",
    "subject_team": _one_of("human", *_TEAMS),
    "team_id": _one_of("server_number", *_TEAMS),
    "namespace": "concat('team-', team_id)",
    "server": f"concat({_one_of('server_number', *_NOUNS)}, '-server-', toString(server_number))",
    "cluster": "concat('eu-west-', toString(1 + server_number % 3))",
    "human_id": "if(is_call, concat('user-', leftPad(toString(human), 5, '0'), '@example.com'),"
    " '')",
    "agent_id": "if(is_call, concat('agent-', leftPad(toString(agent), 4, '0')), '')",
    "session_id": "if(is_call, concat('session-', toString(human), '-', toString(agent), '-',"
    " toString(intDiv(at_ms, 86400000))), '')",
    "decision": "multiIf(NOT is_call, '', denied, 'deny', 'allow')",
    "reason": f"multiIf(NOT is_call, '', denied, {_one_of('a', *_DENIALS)}, 'allowed')",
    "tool_name": "if(is_call AND intDiv(a, 32) % 100 < 85, concat("
    f"{_one_of('tool', *_VERBS)}, '_', {_one_of('server_number + tool', *_NOUNS)}), '')",
    "gateway": "concat(server, '-', lower(hex(toUInt16(a % 4))))",
    "gateway_start": _UUID.format(
        h="lower(concat(leftPad(hex(toUInt64({begin:Int64})), 12, '0'), hex(sipHash128(gateway))))",
        version=7,
    ),
    "sequence": "1 + n - {first:UInt64}",
    "event_id": _UUID.format(h=_ID_HEX, version=7),
    "request_id": f"if(is_call, {_UUID.format(h=_REQUEST_HEX, version=4)}, '')",
    "trace_id": "if(is_call AND intDiv(n, 3) % 10 < 7,"
    " lower(hex(sipHash128(intDiv(n, 3), 10))), '')",
    "outcome": f"if(is_call OR event_type = 'mcp.response', concat('{_OUTCOME}'), '')",
    "payload": _PAYLOAD,
    "payload_packed": "replaceOne(replaceOne(payload, event_id, '\\x7fe'),"
    " if(request_id = '', '\\x7fr', request_id), '\\x7fr')",
}
_COLUMNS = {
    "event_time": "fromUnixTimestamp64Milli(toInt64(at_ms))",
    "event_id": "event_id",
    "source": "'mcp-proxy'",
    "producer": "concat('gateway-', team_id)",
    "topic_id": "'6a1b1c1e-0000-4000-8000-000000000001'",
    "log_partition": "n % 12",
    "log_offset": "intDiv(n, 12)",
    "declared_tool": "tool_name",
    "outcome_of": "if(event_type = 'mcp.response', event_id, '')",
} | {
    name: name
    for name in (
        *("event_type", "payload_packed", "gateway", "gateway_start", "sequence", "request_id"),
        *("trace_id", "server", "namespace", "team_id", "cluster", "human_id", "agent_id"),
        *("session_id", "decision", "reason", "tool_name"),
    )
}
_INSERT = (
    f"INSERT INTO events ({', '.join(_COLUMNS)})"
    f" WITH {', '.join(f'{sql} AS {name}' for name, sql in _MEMBERS.items())}"
    f" SELECT {', '.join(_COLUMNS.values())}"
    " FROM numbers({first:UInt64}, {count:UInt64})"
)
