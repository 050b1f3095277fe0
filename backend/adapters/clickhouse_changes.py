"""The state of each custom resource at some time: its nearest `governance.change`."""

from typing import Final

_OBJECT: Final = (
    "JSONExtractString(payload, 'kind'), toString(namespace), JSONExtractString(payload, 'name')"
)
_LATER: Final = "(event_time > fromUnixTimestamp64Milli({at:Int64}))"

# What follows the columns. Of each object the last change until then, or else the first one
# after it. All changes of an object count that was ever about the server: it may have left it.
CHANGES: Final = f"""
FROM events
WHERE event_type = 'governance.change' AND ({{server:String}} = '' OR ({_OBJECT}) GLOBAL IN
(
    SELECT {_OBJECT} FROM events
    WHERE event_type = 'governance.change' AND server = {{server:String}}
))
ORDER BY {_LATER}, abs(toUnixTimestamp64Milli(event_time) - {{at:Int64}}),
    if({_LATER}, 1, -1) * toInt64(log_offset)
LIMIT 1 BY {_OBJECT}
"""
