-- The audit trail. Plain MergeTree, no materialized view: a view's part commits apart
-- from the rows, so that its counts are wrong after a crash; projections lie in the part.
CREATE TABLE IF NOT EXISTS events
(
    event_time DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    timestamp DateTime64(3, 'UTC') ALIAS event_time, -- the name that existing dashboards query
    event_id String,
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
    sequence UInt64 CODEC(Delta, ZSTD(1)), -- 0: numbered by no gateway of ours
    resent Bool, -- came marked as perhaps sent before
    outcome_of String, -- of mcp.response: the event_id of its mcp.request
    payload String CODEC(ZSTD(3)),
    topic_id UUID,
    log_partition UInt32,
    log_offset UInt64 CODEC(Delta, ZSTD(1)),
    INDEX event_id_bloom event_id TYPE bloom_filter GRANULARITY 4,
    INDEX outcome_of_bloom outcome_of TYPE bloom_filter GRANULARITY 4,
    INDEX log_offset_range log_offset TYPE minmax GRANULARITY 1,
    PROJECTION positions
    (
        SELECT topic_id, log_partition, max(log_offset), count()
        GROUP BY topic_id, log_partition
    ),
    PROJECTION decisions_by_minute
    (
        SELECT toStartOfMinute(event_time), server, namespace, event_type, decision, count()
        GROUP BY toStartOfMinute(event_time), server, namespace, event_type, decision
    ),
    PROJECTION calls_by_hour
    (
        SELECT toStartOfHour(event_time), server, namespace, source, event_type,
            declared_tool, decision, count()
        GROUP BY toStartOfHour(event_time), server, namespace, source, event_type,
            declared_tool, decision
    )
)
ENGINE = MergeTree
PARTITION BY toDate(event_time)
ORDER BY (event_time, event_id)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;
