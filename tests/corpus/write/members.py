"""Members of the message: twice, in another case, of another type."""
# ruff: noqa: RUF001  (look-alikes are the point)

import base64
import json
from collections.abc import Iterator

from tests.corpus.case import PASSES, Case
from tests.corpus.write.shape import CALL, ECHO, META, both, swap

METHOD, NAME, ID = '"method":"tools/call"', '"name":"refund"', '"id":1'
PARAMS = '"params":{"name":"refund","arguments":{}@}'
ARGUMENTS = '"arguments":{}'
VERSION = "io.modelcontextprotocol/protocolVersion"


def duplicate_keys() -> Iterator[Case]:
    """RFC 8259, section 4: which of two equal names counts is up to the reader."""
    last, first = "servers that take the last run refund", "servers that take the first run refund"
    yes, no = '"params":{"name":"echo","arguments":{}@}', '"name":"echo"'
    bent = {
        "method": (METHOD, f'"method":"ping",{METHOD}', last),
        "method-first": (METHOD, f'{METHOD},"method":"ping"', first),
        "method-escaped": (METHOD, '"method":"ping","\\u006dethod":"tools/call"', last),
        "method-escaped-first": (METHOD, '"m\\u0065thod":"tools/call","method":"ping"', first),
        "method-both-escaped": (METHOD, '"\\u006dethod":"ping","metho\\u0064":"tools/call"', last),
        "method-hex-case": (METHOD, '"\\u006dethod":"ping","\\u006Dethod":"tools/call"', last),
        "method-thrice": (METHOD, f'"method":"ping","method":"ping",{METHOD}', last),
        "method-equal": (METHOD, f"{METHOD},{METHOD}", "equal values are no excuse"),
        "params": (PARAMS, f"{yes},{PARAMS}", last),
        "params-first": (PARAMS, f"{PARAMS},{yes}", first),
        "params-escaped": (PARAMS, f'{yes},"\\u0070arams":{{"name":"refund"@}}', last),
        "params-empty": (PARAMS, f'"params":{{}},{PARAMS}', last),
        "params-null": (PARAMS, f'"params":null,{PARAMS}', last),
        "name": (NAME, f"{no},{NAME}", last),
        "name-first": (NAME, f"{NAME},{no}", first),
        "name-escaped": (NAME, f'{no},"n\\u0061me":"refund"', last),
        "name-all-escaped": (NAME, f'{no},"\\u006e\\u0061\\u006d\\u0065":"refund"', last),
        "name-apart": (f"{NAME},{ARGUMENTS}", f"{no},{ARGUMENTS},{NAME}", last),
        "name-null": (NAME, f'"name":null,{NAME}', last),
        "arguments": (ARGUMENTS, '"arguments":{"text":"a"},"arguments":{}', "which are run?"),
        "id": (ID, '"id":1,"id":2', "whom is the answer for?"),
        "id-null": (ID, '"id":null,"id":1', "a notification for some"),
        "jsonrpc": ('"jsonrpc":"2.0"', '"jsonrpc":"1.0","jsonrpc":"2.0"', "which protocol?"),
        "meta": (ARGUMENTS, f'{ARGUMENTS},"_meta":{{}},"_meta":{{}}', "which era?"),
        "unknown": (ID, '"id":1,"x":1,"x":2', "extensions read it, in one way or another"),
        "empty-name": (ARGUMENTS, '"arguments":{"":1,"":2}', "the empty name is a name"),
        "argument": (ARGUMENTS, '"arguments":{"text":"a","text":"b"}', "the event would differ"),
        "argument-escaped": (ARGUMENTS, '"arguments":{"a\\/b":1,"a/b":2}', "an escaped slash"),
        "argument-emoji": (ARGUMENTS, '"arguments":{"\\ud83d\\ude00":1,"😀":2}', "a pair, escaped"),
        "argument-nul": (ARGUMENTS, '"arguments":{"\\u0000":1,"\\u0000":2}', "names cut at NUL"),
        "nested": (ARGUMENTS, '"arguments":{"a":{"b":{"c":1,"c":2}}}', "deep in an argument"),
        "nested-list": (ARGUMENTS, '"arguments":{"a":[1,[{"c":1,"d":0,"c":2}]]}', "in a list"),
    }
    for name, (old, new, why) in bent.items():
        yield from both(f"duplicate-key.{name}", why, swap(CALL, old, new), "duplicate_key")
    stated = f'"_meta":{{"{VERSION}":"2025-11-25","{VERSION}":"2026-07-28"}}'
    twice = CALL.replace("@", f",{stated}")
    yield from both("duplicate-key.version", "which era?", twice, "duplicate_key")
    answer = '{"jsonrpc":"2.0","id":1,"result":{"a":1,"a":2}}'
    yield from both("duplicate-key.response", "in an answer", answer, "duplicate_key")


def key_case() -> Iterator[Case]:
    """Go's encoding/json takes a member in any case; U+017F and U+212A fold to s and k."""
    why = "readers that fold case run refund"
    call, echo = CALL, ECHO
    bent = {
        "method-title": swap(call, METHOD, '"method":"ping","Method":"tools/call"'),
        "method-upper": swap(call, METHOD, '"method":"ping","METHOD":"tools/call"'),
        "method-inner": swap(call, METHOD, '"method":"ping","metHod":"tools/call"'),
        "method-escaped": swap(call, METHOD, '"method":"ping","\\u004dethod":"tools/call"'),
        "method-before": swap(call, METHOD, '"Method":"tools/call","method":"ping"'),
        "method-alone": swap(call, '"method"', '"Method"'),
        "params-title": swap(echo, "}}", '},"Params":{"name":"refund","arguments":{}}}'),
        "params-upper": swap(echo, "}}", '},"PARAMS":{"name":"refund","arguments":{}}}'),
        "params-long-s": swap(echo, "}}", '},"paramſ":{"name":"refund","arguments":{}}}'),
        "params-long-s-escaped": swap(echo, "}}", '},"param\\u017f":{"name":"refund"}}'),
        "params-long-s-alone": swap(call, '"params"', '"paramſ"'),
        "params-alone": swap(call, '"params"', '"Params"'),
        "name-title": swap(call, NAME, '"name":"echo","Name":"refund"'),
        "name-upper": swap(call, NAME, '"name":"echo","NAME":"refund"'),
        "name-inner": swap(call, NAME, '"name":"echo","nAme":"refund"'),
        "name-escaped": swap(call, NAME, '"name":"echo","\\u004eame":"refund"'),
        "name-before": swap(call, NAME, '"NAME":"refund","name":"echo"'),
        "name-alone": swap(call, '"name"', '"Name"'),
        "arguments-title": swap(call, ARGUMENTS, f'{ARGUMENTS},"Arguments":{{"text":"b"}}'),
        "arguments-long-s": swap(call, ARGUMENTS, f'{ARGUMENTS},"argumentſ":{{"text":"b"}}'),
        "arguments-long-s-escaped": swap(call, ARGUMENTS, '"argument\\u017F":{"text":"b"}'),
        "meta-upper": swap(call, ARGUMENTS, f'{ARGUMENTS},"_META":{{}}'),
        "uri-upper": swap(call, ARGUMENTS, f'{ARGUMENTS},"URI":"x"'),
        "uri-dotless": swap(call, ARGUMENTS, f'{ARGUMENTS},"urı":"x"'),
        "task-kelvin": swap(call, ARGUMENTS, f'{ARGUMENTS},"tasKId":"x"'),
        "task-kelvin-escaped": swap(call, ARGUMENTS, f'{ARGUMENTS},"tas\\u212aId":"x"'),
        "task-lower": swap(call, ARGUMENTS, f'{ARGUMENTS},"taskid":"x"'),
        "id-upper": swap(call, ID, '"id":1,"ID":2'),
        "id-alone": swap(call, ID, '"Id":1'),
        "id-dotted": swap(call, ID, '"id":1,"İd":2'),
        "id-dotless": swap(call, ID, '"id":1,"ıd":2'),
        "jsonrpc-title": swap(call, '"jsonrpc":"2.0"', '"jsonrpc":"2.0","jsonRPC":"1.0"'),
        "jsonrpc-long-s": swap(call, '"jsonrpc":"2.0"', '"jsonrpc":"2.0","jſonrpc":"1.0"'),
        "result-title": swap(call, ID, '"id":1,"Result":{}'),
        "result-long-s": swap(call, ID, '"id":1,"reſult":{}'),
        "error-upper": swap(call, ID, '"id":1,"ERROR":{}'),
    }
    for name, template in bent.items():
        yield from both(f"key-case.{name}", why, template, "ambiguous_key_case")
    for name, key in {
        "upper": VERSION.upper(),
        "lower": VERSION.lower(),
        "long-s": VERSION.replace("sion", "ſion"),
        "long-s-escaped": VERSION.replace("sion", "\\u017fion"),
    }.items():
        extra = META[:-1].replace("{}", f'{{}},"{key}":"2025-11-25"') + "}"
        template = CALL.replace("@", f",{extra}")
        yield from both(
            f"key-case.version-{name}",
            "folded, the body names another era",
            template,
            "ambiguous_key_case",
            eras=["modern"],
        )
        alone = CALL.replace("@", f',"_meta":{{"{key}":"2026-07-28"}}')
        yield from both(
            f"key-case.version-{name}-alone", "a modern body for some", alone, "ambiguous_key_case"
        )


def types() -> Iterator[Case]:
    """Members of another type, missing ones, ids that readers hold differently."""
    values = ["1.0", "1.5", "1e0", "-0.0", "true", "false", "null", "[]", "[1]", "{}"]
    values += [str(2**53), str(-(2**53)), str(2**64), str(2**63), "1" + "0" * 99]
    for number, value in enumerate(values):
        bent = swap(CALL, ID, f'"id":{value}')
        why = f"id {value[:20]}: whom is the answer for, or is it a notification?"
        yield from both(f"id.{number}", why, bent, "invalid_request_id")
    none = swap(CALL, f"{ID},", "")
    yield from both("id.none", "servers run it, and nobody is told", none, "invalid_request_id")
    older = swap(none, "tools/call", "call_tool")
    alias = {"Mcp-Method": "call_tool"}
    yield from both("id.alias", "the older spelling", older, "invalid_request_id", alias)

    mixed = {
        "result": '"result":{}',
        "result-null": '"result":null',
        "error": '"error":{"code":1,"message":""}',
        "error-null": '"error":null',
        "both": '"result":{},"error":{}',
    }
    for name, more in mixed.items():
        for place, bent in {
            "after": swap(CALL, ID, f"{ID},{more}"),
            "before": swap(CALL, '{"jsonrpc"', f'{{{more},"jsonrpc"'),
        }.items():
            why = "a request for some, an answer for others"
            yield from both(f"mixed.{name}-{place}", why, bent, "ambiguous_message")
    two = '{"jsonrpc":"2.0","id":1,"result":{},"error":{}}'
    yield from both("mixed.no-method", "a result and an error", two, "ambiguous_message")

    rpc = '"jsonrpc":"2.0"'
    envelopes = {
        "rpc-1.0": swap(CALL, rpc, '"jsonrpc":"1.0"'),
        "rpc-number": swap(CALL, rpc, '"jsonrpc":2.0'),
        "rpc-integer": swap(CALL, rpc, '"jsonrpc":2'),
        "rpc-space": swap(CALL, rpc, '"jsonrpc":"2.0 "'),
        "rpc-null": swap(CALL, rpc, '"jsonrpc":null'),
        "rpc-none": swap(CALL, f"{rpc},", ""),
        "rpc-list": swap(CALL, rpc, '"jsonrpc":["2.0"]'),
        "method-null": swap(CALL, METHOD, '"method":null'),
        "method-list": swap(CALL, METHOD, '"method":["tools/call"]'),
        "method-object": swap(CALL, METHOD, '"method":{"name":"tools/call"}'),
        "method-number": swap(CALL, METHOD, '"method":1'),
        "method-empty": swap(CALL, METHOD, '"method":""'),
        "method-none": swap(CALL, f"{METHOD},", ""),
        "text": '"tools/call"',
        "number": "1",
        "null": "null",
        "true": "true",
        "empty": "{}",
    }
    for name, bent in envelopes.items():
        yield from both(f"envelope.{name}", "no JSON-RPC message", bent, "invalid_envelope")

    forms = {
        "null": "null",
        "list": '["refund"]',
        "text": '"refund"',
        "number": "1",
        "true": "true",
    }
    for name, value in forms.items():
        for member, bent in {
            "params": swap(CALL, PARAMS, f'"params":{value}'),
            "arguments": swap(CALL, ARGUMENTS, f'"arguments":{value}'),
            "meta": CALL.replace("@", f',"_meta":{value}'),
        }.items():
            yield from both(f"type.{member}-{name}", "servers differ", bent, "invalid_params")
    names = {"null": "null", "list": '["refund"]', "object": '{"a":"refund"}', "true": "true"}
    for name, value in (names | {"number": "1", "empty": '""'}).items():
        bent = swap(CALL, NAME, f'"name":{value}')
        yield from both(f"type.name-{name}", "no tool name", bent, "invalid_params")
    bare = swap(CALL, f"{NAME},", "")
    yield from both("type.name-none", "no tool name", bare, "invalid_params")
    nothing = swap(CALL, f",{PARAMS}", "")
    yield from both("type.params-none", "no tool name", nothing, "invalid_params")


def names() -> Iterator[Case]:
    """Names compare exactly: what only looks like the allowed tool is another."""
    tools = ["ECHO", "Echo", "echo,refund", "есho", "ｅｃｈｏ", "*", "echo/", "e\\u0301cho"]
    tools += ["../echo", "echo;refund", "r\\u0065fund", "Refund", "tools/echo", "re fund"]
    for number, tool in enumerate(tools):
        yield from _named(f"name.{number}", "granted is echo, exactly", tool, "tool_not_granted")
    tools = ["echo ", " echo", "echo\\u0000", "echo\\u0000refund", "echo\\u200b", "echo\\n"]
    tools += [
        "echo\\t",
        "echo\\u202e",
        "refund ",
        "\\u00a0refund",
        "re\\u00adfund",
        "refund\\u2028",
    ]
    for number, tool in enumerate(tools):
        why = "a server that trims or cuts it runs another tool than was decided on"
        yield from _named(f"name.blurred-{number}", why, tool, "ambiguous_tool_name")
    methods = ["tools\\/call", "tool\\u0073/call", "call_tool"]
    for number, method in enumerate(methods):
        bent = swap(CALL, METHOD, f'"method":"{method}"')
        plain = {"Mcp-Method": "call_tool" if "_" in method else "tools/call"}
        why = "tools/call, spelled otherwise"
        yield from both(f"method.same-{number}", why, bent, "tool_not_granted", plain)
    methods = ["tools/Call", "TOOLS/CALL", "tools/call ", " tools/call", "tools//call"]
    methods += ["tools/call/", "toolſ/call", "tools/call\\u0000", "ｔools/call", "tools/ｃall"]
    methods += [
        "tools／call",
        "tools/\\u200bcall",
        "tools/ca\\u00adll",
        "tools/call\\n",
        "/tools/call",
    ]
    methods += ["Call_Tool", "CALL_TOOL", "call_tool ", "call＿tool", "tools/call" + " " * 900]
    for number, method in enumerate(methods):
        bent = swap(CALL, METHOD, f'"method":"{method}"')
        why = "a server that folds, trims or routes it runs refund"
        yield from both(f"method.blurred-{number}", why, bent, "ambiguous_method")
    bent = swap(CALL, METHOD, f'"method":"tools/call{" " * 2000}"')
    yield from both("method.long", "a server that trims it runs refund", bent, "invalid_envelope")
    methods = ["tools.call", "callTool", "tools/ca1l", "tools/callx"]
    for number, method in enumerate(methods):
        bent = swap(CALL, METHOD, f'"method":"{method}"')
        why = "a method that nobody knows: no server may run refund for it"
        yield from both(f"method.other-{number}", why, bent, PASSES, eras=["legacy"])


def decoys() -> Iterator[Case]:
    """The denied tool named where nobody may look for it: each passes, and must not run it."""
    inner = '{"method":"tools/call","params":{"name":"refund","arguments":{}}}'
    more = {
        "arguments": swap(ECHO, ARGUMENTS, f'"arguments":{inner}'),
        "nested-params": swap(ECHO, ARGUMENTS, f'{ARGUMENTS},"params":{{"name":"refund"}}'),
        "tool": swap(ECHO, ARGUMENTS, f'{ARGUMENTS},"tool":"refund","toolName":"refund"'),
        "snake-case": swap(ECHO, ARGUMENTS, f'{ARGUMENTS},"tool_name":"refund","na_me":"refund"'),
        "envelope-name": swap(ECHO, ID, f'{ID},"name":"refund","tool":"refund"'),
        "request": swap(ECHO, ID, f'{ID},"request":{inner},"message":{inner},"batch":[{inner}]'),
        "space-in-key": swap(
            ECHO, ID, f'{ID}," method":"tools/call","params ":{{"name":"refund"}}'
        ),
        "nul-in-key": swap(ECHO, '"arguments"', '"name\\u0000":"refund","arguments"'),
        "wide-key": swap(ECHO, '"arguments"', '"ｎａｍｅ":"refund","arguments"'),
        "prototype": swap(ECHO, '"arguments"', '"__proto__":{"name":"refund"},"arguments"'),
    }
    why = "only one tool is named where MCP names it"
    for name, template in more.items():
        yield from both(f"decoy.{name}", why, template, PASSES, tool="echo")
    refund = '"params":{"name":"refund","arguments":{}}'
    others = {
        "response": f'{{"jsonrpc":"2.0","id":1,"result":{{}},{refund}}}',
        "error": f'{{"jsonrpc":"2.0","id":1,"error":{{"code":1,"message":""}},{refund}}}',
        "result": f'{{"jsonrpc":"2.0","id":1,"result":{inner}}}',
        "notification": f'{{"jsonrpc":"2.0","method":"notifications/initialized",{refund}}}',
        "list": f'{{"jsonrpc":"2.0","id":1,"method":"tools/list",{refund}}}',
        "prompt": f'{{"jsonrpc":"2.0","id":1,"method":"prompts/get",{refund}}}',
        "ping": f'{{"jsonrpc":"2.0","id":1,"method":"ping",{refund}}}',
        "initialize": f'{{"jsonrpc":"2.0","id":1,"method":"initialize",{refund}}}',
    }
    for name, body in others.items():
        yield from both(f"decoy.{name}", why, body, PASSES, eras=["legacy"])


def _named(name: str, why: str, tool: str, expect: str) -> Iterator[Case]:
    template = swap(CALL, '"refund"', f'"{tool}"')
    raw: str = json.loads(f'"{tool}"')
    encoded = f"=?base64?{base64.b64encode(raw.encode()).decode()}?="
    yield from both(name, why, template, expect, tool=encoded)
