"""Builds adapters of the ports, chosen by URL. The one place that names any."""

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from prometheus_client import CollectorRegistry

from backend.event_log_settings import FILE, KAFKA, EventLogSettings, broker_list
from backend.lifecycle import Units
from backend.metrics import ControllerMetrics, Name
from backend.operations import Health
from backend.ports.access_store import AccessStore
from backend.ports.adoption import Adoption
from backend.ports.cluster import Cluster
from backend.ports.control_plane import ControlPlane
from backend.ports.event_log import EventLog
from backend.ports.event_store import EventStore
from backend.ports.service_accounts import ServiceAccounts
from backend.settings import UNIX, Settings
from extauthz.core.errors import Invalid
from extauthz.core.governance import Key

if TYPE_CHECKING:
    from backend.adapters.kafka_client import KafkaSettings

DISTRIBUTION: Final = "mcpruntime-sentinel"
KUBERNETES: Final = "kubernetes://"


def new_event_log(settings: Settings) -> EventLog:
    url = settings.event_log_url or (KAFKA if settings.kafka_brokers else "")
    if url.startswith(KAFKA):
        return _kafka_log(settings, url)
    if url.startswith(FILE):
        from backend.adapters.file_log import FileLog

        return FileLog(Path(unquote(urlsplit(url).path)))
    from backend.adapters.sqlite_log import SqliteLog

    return SqliteLog(
        path_of(url, "EVENT_LOG_URL", "sqlite"),
        clock=time.time,
        retention_seconds=settings.event_log_retention_hours * 3600,
        max_bytes=settings.event_log_max_bytes,
    )


def _kafka_log(settings: Settings, url: str) -> EventLog:
    from backend.adapters.kafka_log import KafkaLog

    return KafkaLog(kafka_settings(settings, url))


def kafka_settings(settings: EventLogSettings, url: str) -> "KafkaSettings":
    """Of the topic of a `kafka://` url. Raises: Invalid."""
    from backend.adapters.kafka_client import KafkaSettings

    address, _, topic = url.removeprefix(KAFKA).partition("/")
    brokers = broker_list(address) or settings.kafka_brokers
    if not brokers:
        raise unset("KAFKA_BROKERS", "host:9092")
    return KafkaSettings(
        brokers=brokers,
        topic=topic or settings.kafka_topic,
        partitions=settings.kafka_partitions,
        replication=settings.kafka_replication,
        retention_seconds=settings.event_log_retention_hours * 3600,
        compression=settings.kafka_compression,
        security_protocol=settings.kafka_security_protocol,
        sasl_mechanism=settings.kafka_sasl_mechanism,
        username=settings.kafka_sasl_username,
        password=settings.kafka_sasl_password,
        ca_file=settings.kafka_ca_file or None,
        certificate_file=settings.kafka_cert_file or None,
        key_file=settings.kafka_key_file or None,
    )


def new_event_store(settings: Settings) -> EventStore:
    from backend.adapters.clickhouse_store import ClickHouseStore

    if not settings.store_url:
        raise unset("STORE_URL", "chdb:///path")
    return ClickHouseStore(
        settings.store_url, cluster=settings.cluster, retention_days=settings.retention_days
    )


def new_access_store(url: str) -> AccessStore:
    if url.startswith(KUBERNETES):  # its client is not installed where there is no cluster
        from backend.adapters.kubernetes_client import CustomObjects, new_client
        from backend.adapters.kubernetes_store import KubernetesStore

        try:
            client = new_client(url.removeprefix(KUBERNETES))
        except Invalid as error:
            mend = "set KUBECONFIG, or name a context of it: kubernetes://CONTEXT"
            raise Invalid("ACCESS_URL", error.problem, mend) from error
        return KubernetesStore(CustomObjects(client))
    from backend.adapters.directory import DirectoryStore

    return DirectoryStore(path_of(url, "ACCESS_URL", "dir"))


def new_cluster_store(
    kubeconfig: str, context: str, manager: str, left_out: Callable[[Key, Invalid], None]
) -> AccessStore:
    """For a person's own account; its writes are the controller's to record. Raises: Invalid."""
    from backend.adapters.kubernetes_client import CustomObjects, new_client
    from backend.adapters.kubernetes_store import KubernetesStore

    objects = CustomObjects(new_client(context, kubeconfig), manager=manager)
    return KubernetesStore(objects, left_out=left_out)


def new_adoption(kubeconfig: str, context: str, manager: str) -> Adoption:
    """For a person's own account. Raises: Invalid."""
    from backend.adapters.kubernetes_adoption import KubernetesAdoption
    from backend.adapters.kubernetes_client import new_client

    return KubernetesAdoption(new_client(context, kubeconfig), manager=manager)


async def new_control_plane(
    settings: Settings, instance: str, metrics: ControllerMetrics, opened: AsyncExitStack
) -> ControlPlane:
    """The API server, as the controller uses it; closed with `opened`. Raises: Invalid."""
    from backend.adapters.kubernetes_calls import new_calls
    from backend.adapters.kubernetes_control import KubernetesControl

    if not settings.access_url.startswith(KUBERNETES):
        mend = f"write it like {KUBERNETES}; elsewhere a sidecar reads the directory itself"
        raise Invalid("ACCESS_URL", "names no cluster, and the controller needs one", mend)
    calls = await new_calls(
        settings.access_url.removeprefix(KUBERNETES),
        lambda verb, resource: metrics.calls.labels(verb, resource).inc(),
    )
    opened.push_async_callback(calls.close)
    return KubernetesControl(
        calls, namespace=settings.controller_namespace, instance=instance, clock=time.time
    )


def new_service_accounts(settings: Settings) -> ServiceAccounts | None:
    if not settings.account_tokens:
        return None
    from backend.adapters.kubernetes_accounts import KubernetesAccounts
    from backend.adapters.kubernetes_client import new_client

    try:
        return KubernetesAccounts(new_client(settings.account_tokens.removeprefix(KUBERNETES)))
    except Invalid as error:
        mend = "set KUBECONFIG, or name a context of it: kubernetes://CONTEXT"
        raise Invalid("SERVICE_ACCOUNT_TOKENS", error.problem, mend) from error


def new_cluster(
    settings: Settings, units: Units, health: Mapping[str, Health], registry: CollectorRegistry
) -> Cluster:
    """What runs in this process, by `health`, and beside it."""
    from backend.adapters.local_cluster import LocalCluster, OwnComponent
    from backend.adapters.local_keeper import Keeper

    url = settings.cluster_url
    lags = {"processor": lambda: _lag(registry)}
    return LocalCluster(
        units,
        {key: OwnComponent(each, lags.get(key)) for key, each in health.items()},
        asyncio.get_running_loop(),
        keeper=Keeper(url.removeprefix(UNIX)) if url else None,
        version=version(DISTRIBUTION),
    )


def _lag(registry: CollectorRegistry) -> int | None:
    found = registry.get_sample_value(Name.LAG)
    return None if found is None or math.isnan(found) else int(found)


def path_of(url: str, name: str, scheme: str) -> Path:
    if not url:
        raise unset(name, f"{scheme}:///path")
    return Path(urlsplit(url).path)


def unset(name: str, example: str) -> Invalid:
    return Invalid(name, "is not set, and this target needs it", f"write it like {example}")
