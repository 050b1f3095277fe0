"""Events as a fleet of sidecars makes them: real decisions on varied calls, never one row repeated.

What varies is what costs bytes and time behind: identities, tools, ids, times, digests, outcomes.
"""

import heapq
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import uuid_utils

from extauthz.core.compile import compile_document, load_document
from extauthz.core.decide import Snapshot
from extauthz.core.decision import Decision
from extauthz.core.events import Asked, EventType, Outcome
from extauthz.core.request import Request
from extauthz.emitter.entries import Call, Encoder, Notice
from extauthz.emitter.options import EmitterOptions

HEARTBEAT_SECONDS = EmitterOptions("", Path()).heartbeat_seconds
_VERBS = ("get", "list", "search", "create", "update", "delete", "export", "summarise")
_NOUNS = ("issue", "invoice", "document", "ticket", "customer", "build", "deployment", "page")
_EFFECTS = {"create": "write", "update": "write", "delete": "destructive"}
_WORDS = (*_NOUNS, "quarterly", "open", "overdue", "of", "for", "since", "release", "draft", "all")
_TEAMS = ("payments", "platform", "search", "support", "data", "mobile", "growth", "legal")
_OTHER_METHODS = ("tools/list", "tools/list", "initialize", "ping", "resources/list")
_TOOL_CALLS = 0.85  # the share of calls that policy decides


@dataclass(frozen=True, slots=True)
class Fleet:
    """How large it is, and how often it is called, all sidecars together."""

    servers: int = 40
    gateways: int = 200
    humans: int = 2_000
    agents: int = 300
    calls_per_second: float = 1_000.0


# The ratio of heartbeats to calls is that of a million sidecars and a million calls a second.
CROWD = Fleet(2_000, 100_000, 20_000, 2_000, 100_000.0)


@dataclass(frozen=True, slots=True)
class Made:
    """One decided call."""

    at: float
    gateway: int
    asked: Asked
    decision: Decision
    outcome: Outcome


@dataclass(slots=True)
class _Gateway:
    """One start of one sidecar."""

    encoder: Encoder
    sequence: int = 0

    def next(self) -> int:
        self.sequence += 1
        return self.sequence


class Traffic:
    """An endless, seeded stream of calls.

    Args:
        fleet: see there.
        seed: the same one makes the same calls, but for their ids.
        at: when it begins, seconds since the epoch.
    """

    def __init__(self, fleet: Fleet, seed: int, at: float) -> None:
        self._fleet, self._random, self._at = fleet, random.Random(seed), at
        self._documents = [_document(number) for number in range(fleet.servers)]
        self._policies: dict[int, Snapshot] = {}
        self._gateways: dict[int, _Gateway] = {}
        self._ranks = {
            size: _skewed(size) for size in (fleet.servers, fleet.humans, fleet.agents, 8)
        }

    def calls(self) -> Iterator[Made]:
        """Decided calls, without end."""
        while True:
            self._at += self._random.expovariate(self._fleet.calls_per_second)
            yield self._call()

    def lines(self, count: int) -> Iterator[bytes]:
        """Envelopes as emitters send them, starts and heartbeats included, in order of time."""
        beats = [
            (self._at + HEARTBEAT_SECONDS * self._random.random(), gateway)
            for gateway in range(self._fleet.gateways)
        ]
        heapq.heapify(beats)
        made = 0
        for call in self.calls():
            while beats[0][0] <= call.at:
                at, gateway = beats[0]
                heapq.heapreplace(beats, (at + HEARTBEAT_SECONDS, gateway))
                yield self._notice(gateway, at)
                made += 1
            yield self._line(call)
            made += 1
            if made >= count:
                return

    def _line(self, made: Made) -> bytes:
        gateway = self._gateway(made.gateway)
        decision = made.decision.identified(_uuid7(made.at))
        return gateway.encoder.encode(
            Call(
                gateway.next(), made.at, 0.0, made.asked, decision, runs=False, outcome=made.outcome
            )
        )

    def _notice(self, number: int, at: float) -> bytes:
        gateway = self._gateway(number)
        first = not gateway.sequence
        sent = gateway.sequence
        payload = {"next_sequence": sent + 2, "offered": sent, "sent": sent}
        event_type = EventType.GATEWAY_START if first else EventType.GATEWAY_HEARTBEAT
        return gateway.encoder.encode(
            Notice(
                gateway.next(),
                at,
                0.0,
                _uuid7(at),
                event_type.value,
                {"versions": {"sentinel": "0.1.0"}}
                if first
                else payload | {"spooled": 0, "dropped": 0},
            )
        )

    def _call(self) -> Made:
        dice = self._random
        number = self._gateway_of_a_call()
        server = number % self._fleet.servers
        human, agent = self._ranked(self._fleet.humans), self._ranked(self._fleet.agents)
        policy = self._policy(server)
        request = _request(dice, self._documents[server], human, agent, self._ranked(8))
        decision = policy.decide(request, self._at)
        trace = f"{dice.getrandbits(128):032x}" if dice.random() < 0.7 else ""
        asked = Asked("POST", "/mcp", request.id, trace)
        latency_ms = dice.lognormvariate(3.4, 1.1) if decision.allowed else dice.uniform(0.3, 2.0)
        bytes_out = int(dice.lognormvariate(6.5, 1.3)) if decision.allowed else 290
        outcome = Outcome(200, latency_ms, len(request.body), bytes_out)
        return Made(self._at, number, asked, decision, outcome)

    def _gateway_of_a_call(self) -> int:
        """Replicas of popular servers get more calls, each about as many as the next."""
        servers, gateways = self._fleet.servers, self._fleet.gateways
        replica = self._random.randrange(max(1, gateways // servers))
        return min(gateways - 1, self._ranked(servers) + replica * servers)

    def _ranked(self, size: int) -> int:
        return self._random.choices(range(size), cum_weights=self._ranks[size])[0]

    def _policy(self, server: int) -> Snapshot:
        if server not in self._policies:
            raw = json.dumps(self._documents[server]).encode()
            policy = compile_document(load_document(raw))
            self._policies[server] = Snapshot.of(policy, self._at)
        return self._policies[server]

    def _gateway(self, number: int) -> _Gateway:
        if number not in self._gateways:
            document = self._documents[number % self._fleet.servers]
            server = document["server"]
            pod = f"{server['name']}-{self._random.getrandbits(40):010x}"
            options = EmitterOptions(
                "",
                Path(),
                gateway=pod,
                server=server["name"],
                namespace=server["namespace"],
                cluster=server["cluster"],
            )
            start = _uuid7(self._at - self._random.random() * 86_400)
            self._gateways[number] = _Gateway(Encoder(options, start))
        return self._gateways[number]


def _skewed(size: int) -> list[float]:
    """Cumulative weights of Zipf's law: few do most."""
    total, weights = 0.0, []
    for rank in range(1, size + 1):
        total += 1 / rank**0.8
        weights.append(total)
    return weights


def _uuid7(at: float) -> str:
    return str(uuid_utils.uuid7(nanoseconds=int(at * 1e9)))


def _document(number: int) -> dict[str, Any]:
    """The policy of one server: eight tools, and grants for most teams."""
    dice = random.Random(number)
    team = _TEAMS[number % len(_TEAMS)]
    tools = [f"{verb}_{dice.choice(_NOUNS)}" for verb in dice.sample(_VERBS, len(_VERBS))]
    return {
        "schema_version": "v1",
        "server": {
            "name": f"{dice.choice(_NOUNS)}-server-{number}",
            "namespace": f"team-{team}",
            "team_id": team,
            "cluster": f"eu-west-{1 + number % 3}",
        },
        "auth": {"mode": "header"},
        "policy": {"mode": "allow-list", "default_decision": "deny", "policy_version": "v7"},
        "session": {"required": False},
        "tools": [
            {
                "name": name,
                "required_trust": "high" if name.startswith("delete") else "low",
                "side_effect": _EFFECTS.get(name.partition("_")[0], "read"),
            }
            for name in tools
        ],
        "grants": [
            {
                "name": f"{member}-uses-{number}",
                "namespace": f"team-{team}",
                "team_id": member,
                "max_trust": "medium",
                "tool_rules": [{"name": name, "decision": "allow"} for name in tools[:-1]],
            }
            for member in dice.sample(_TEAMS, len(_TEAMS) - (number % 4 == 0))
        ],
        "sessions": [],
    }


def _request(
    dice: random.Random, document: dict[str, Any], human: int, agent: int, tool: int
) -> Request:
    method = "tools/call" if dice.random() < _TOOL_CALLS else dice.choice(_OTHER_METHODS)
    params: dict[str, Any] = {}
    if method == "tools/call":
        query = " ".join(dice.choices(_WORDS, k=dice.randint(2, 12)))
        arguments = {"query": query, "limit": dice.randint(1, 100), "id": dice.getrandbits(48)}
        params = {"name": document["tools"][tool]["name"], "arguments": arguments}
    message = {"jsonrpc": "2.0", "id": dice.getrandbits(20), "method": method, "params": params}
    headers = {
        "content-type": "application/json",
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": "2025-11-25",
        "x-mcp-human-id": f"user-{human:05}@example.com",
        "x-mcp-agent-id": f"agent-{agent:04}",
        "x-mcp-team-id": _TEAMS[human % len(_TEAMS)],
        "x-mcp-agent-session": f"session-{human:05}-{agent:04}",
    }
    return Request(
        method="POST",
        path="/mcp",
        headers=tuple((name, value.encode()) for name, value in headers.items()),
        body=json.dumps(message).encode(),
        id=str(UUID(int=dice.getrandbits(128), version=4)),
    )
