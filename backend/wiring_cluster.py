"""Builds what works on an installed Sentinel, with a person's own account."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from backend.ports.workloads import Workloads
from extauthz.core.errors import Invalid


@asynccontextmanager
async def opened_workloads(
    kubeconfig: str, context: str, namespace: str
) -> AsyncIterator[Workloads]:
    """The components in a namespace.

    Args:
        kubeconfig: a file; empty for KUBECONFIG, or kubectl's own.
        context: of it; empty for its current one.

    Raises:
        Invalid: it names no cluster.
    """
    from backend.adapters.kubernetes_calls import new_calls
    from backend.adapters.kubernetes_cluster_workloads import KubernetesWorkloads

    try:
        calls = await new_calls(context, lambda _verb, _resource: None, kubeconfig)
    except Invalid as error:
        mend = "set KUBECONFIG, or name a file with --kubeconfig and a context with --context"
        raise Invalid("kubeconfig", error.problem, mend) from error
    try:
        yield KubernetesWorkloads(calls, namespace, time.time)
    finally:
        await calls.close()
