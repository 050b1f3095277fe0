-- The audit trail. Plain MergeTree, no materialized view: a view's part commits apart
-- from the rows, so that its counts are wrong after a crash; projections lie in the part.
-- Where each byte goes: `python -m tests.perf.pipeline` measures it.
CREATE TABLE IF NOT EXISTS events
(
    event_time DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    timestamp DateTime64(3, 'UTC') ALIAS event_time, -- the name that existing dashboards query
    event_id UUID,
    trace_id String,
    request_id String,
    source LowCardinality(String),
    event_type LowCardinality(String),
    producer LowCardinality(String),
    server LowCardinality(String),
    namespace LowCardinality(String),
    team_id LowCardinality(String),
    cluster LowCardinality(String),
    human_id LowCardinality(String),
    agent_id LowCardinality(String),
    session_id String,
    decision LowCardinality(String),
    reason LowCardinality(String),
    tool_name LowCardinality(String),
    declared_tool LowCardinality(String), -- '' for a tool that the server does not declare
    gateway LowCardinality(String),
    gateway_start LowCardinality(String),
    sequence UInt64 CODEC(T64, ZSTD(1)), -- 0: numbered by no gateway of ours
    resent Bool, -- came marked as perhaps sent before
    outcome_of String, -- of mcp.response: the event_id of its mcp.request
    -- The payload, but for a call's ids, for which marks stand: they are columns already.
    payload_packed String CODEC(ZSTD(3)),
    payload String ALIAS
        replaceOne(replaceOne(payload_packed, '\x7fr', request_id), '\x7fe', toString(event_id)),
    topic_id UUID,
    log_partition UInt32 CODEC(T64, ZSTD(1)),
    log_offset UInt64 CODEC(Delta, ZSTD(1)),
    -- 22 bits to look an id up by, with the id itself beside it: WHERE request_hash =
    -- bitAnd(sipHash64(x), 4194303) AND request_id = x. A third of an index on the id.
    request_hash UInt32 MATERIALIZED bitAnd(sipHash64(request_id), 4194303) CODEC(T64, ZSTD(1)),
    trace_hash UInt32 MATERIALIZED bitAnd(sipHash64(trace_id), 4194303) CODEC(T64, ZSTD(1)),
    -- Of calls whose end is known: each step is a tenth longer than the one before, the first
    -- begins at 0.1 ms; 0 where it is not known.
    latency_step UInt8 MATERIALIZED if(JSONExtractFloat(payload_packed, 'latency_ms') <= 0, 0,
        1 + least(253, greatest(0, floor(log(JSONExtractFloat(payload_packed, 'latency_ms') / 0.1)
            / log(1.1))))) CODEC(ZSTD(1)),
    -- The grant that decided, `namespace/name`.
    matched_grant LowCardinality(String) MATERIALIZED
        if(JSONExtractString(payload_packed, 'matched_grant') = '', '', concat(
            JSONExtractString(payload_packed, 'matched_grant_namespace'), '/',
            JSONExtractString(payload_packed, 'matched_grant'))),
    -- The processor says until when its insert may begin: its partitions may be another's later.
    CONSTRAINT in_time CHECK now64(3) <= fromUnixTimestamp64Milli(toInt64OrDefault(
        extract(getSetting('log_comment'), ' until ([0-9]+)$'), toInt64(9000000000000))),
    INDEX event_id_bloom event_id TYPE bloom_filter GRANULARITY 32,
    INDEX outcome_of_bloom outcome_of TYPE bloom_filter GRANULARITY 32,
    INDEX event_type_set event_type TYPE set(32) GRANULARITY 8, -- finds the few that are rare
    INDEX resent_set resent TYPE set(2) GRANULARITY 8,
    INDEX log_offset_range log_offset TYPE minmax GRANULARITY 8,
    -- A value that is rare, or was mistyped, is found or missed without reading it all.
    INDEX server_bloom server TYPE bloom_filter(0.001) GRANULARITY 32,
    INDEX namespace_bloom namespace TYPE bloom_filter(0.001) GRANULARITY 32,
    INDEX human_bloom human_id TYPE bloom_filter(0.001) GRANULARITY 32,
    INDEX agent_bloom agent_id TYPE bloom_filter(0.001) GRANULARITY 32,
    INDEX session_bloom session_id TYPE bloom_filter(0.001) GRANULARITY 32,
    INDEX reason_bloom reason TYPE bloom_filter(0.001) GRANULARITY 32,
    INDEX tool_bloom tool_name TYPE bloom_filter(0.001) GRANULARITY 32,
    PROJECTION by_request (SELECT _part_offset ORDER BY request_hash),
    PROJECTION by_trace (SELECT _part_offset ORDER BY trace_hash),
    PROJECTION positions
    (
        SELECT topic_id, log_partition, max(log_offset), count()
        GROUP BY topic_id, log_partition
    ),
    -- What audit completeness asks: the numbers that are stored, as bitmaps.
    PROJECTION gateway_runs
    (
        SELECT gateway_start, producer, server, namespace, sequence > 0,
            toStartOfTenMinutes(event_time), max(gateway), groupBitmapState(sequence), count(),
            min(event_time), max(event_time), countIf(event_type = 'gateway.start'),
            countIf(event_type = 'gateway.heartbeat')
        GROUP BY gateway_start, producer, server, namespace, sequence > 0,
            toStartOfTenMinutes(event_time)
    ),
    -- What the api's statistics ask, by whole days: they grow with what is told apart, not with
    -- events. Each question reads the smallest that has its columns; rows stand in the order of
    -- the keys, so that what is asked for stands together.
    PROJECTION events_by_day
    (
        SELECT toDate(event_time), server, namespace, team_id, source, event_type, decision,
            count(), max(event_time), uniqStateIf(human_id, human_id != ''),
            uniqStateIf(agent_id, agent_id != ''), uniqStateIf(session_id, notEmpty(session_id)),
            countIf(latency_step > 0),
            quantilesExactWeightedState(0.5, 0.95, 0.99)(latency_step, latency_step > 0)
        GROUP BY toDate(event_time), server, namespace, team_id, source, event_type, decision
    ),
    PROJECTION events_by_hour
    (
        SELECT toStartOfHour(event_time), server, namespace, team_id, event_type, decision,
            count()
        GROUP BY toStartOfHour(event_time), server, namespace, team_id, event_type, decision
    ),
    PROJECTION sessions_by_day
    (
        SELECT toDate(event_time), event_type, namespace, team_id,
            uniqStateIf(session_id, notEmpty(session_id))
        GROUP BY toDate(event_time), event_type, namespace, team_id
    ),
    PROJECTION actors_by_day
    (
        SELECT toDate(event_time), event_type, human_id, agent_id,
            count(), countIf(decision = 'deny'), max(event_time)
        GROUP BY toDate(event_time), event_type, human_id, agent_id
    ),
    PROJECTION actors_of_servers_by_day
    (
        SELECT toDate(event_time), event_type, server, namespace, team_id, decision, human_id,
            agent_id, count(), countIf(decision = 'deny'), max(event_time)
        GROUP BY toDate(event_time), event_type, server, namespace, team_id, decision, human_id,
            agent_id
    ),
    PROJECTION tools_by_day
    (
        SELECT toDate(event_time), human_id, agent_id, server, namespace, team_id,
            declared_tool, event_type, decision,
            count(), countIf(decision = 'deny'), max(event_time),
            uniqStateIf(session_id, notEmpty(session_id)), countIf(latency_step > 0),
            quantilesExactWeightedState(0.5, 0.95, 0.99)(latency_step, latency_step > 0)
        GROUP BY toDate(event_time), human_id, agent_id, server, namespace, team_id,
            declared_tool, event_type, decision
    ),
    PROJECTION latencies_by_day
    (
        SELECT toDate(event_time), server, namespace, team_id, declared_tool, decision,
            countIf(latency_step > 0),
            quantilesExactWeightedState(0.5, 0.95, 0.99)(latency_step, latency_step > 0)
        GROUP BY toDate(event_time), server, namespace, team_id, declared_tool, decision
    ),
    -- What no call used is asked of it. A tool counts where a grant speaks of it: strangers
    -- may make up names.
    PROJECTION grants_by_day
    (
        SELECT toDate(event_time), matched_grant, if(matched_grant = '', '', tool_name),
            event_type, countIf(decision = 'allow'), countIf(decision = 'deny'), max(event_time)
        GROUP BY toDate(event_time), matched_grant, if(matched_grant = '', '', tool_name),
            event_type
    )
)
ENGINE = MergeTree
PARTITION BY toDate(event_time)
ORDER BY (event_time, event_id)
SETTINGS
    index_granularity = 1024, -- a row that stands alone is read from so many
    -- The name of a codec for what has none of its own. LZ4 would be 8 bytes an event more.
    default_compression_codec = 'ZSTD(1)',
    -- A power cut loses nothing that was committed. What merges write is not synced: the
    -- parts that they merged stay for minutes, and serve again where a merged one is broken.
    fsync_after_insert = 1,
    fsync_part_directory = 1,
    -- A part goes whole, once all of its rows are too old: to keep some types of events for
    -- another time than others, they need partitions of their own.
    ttl_only_drop_parts = 1;
