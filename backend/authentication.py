"""From settings to a verifier: which credentials count."""

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from prometheus_client import CollectorRegistry

from backend.auth.api_keys import Anyone, ApiKey, ApiKeys, from_lists
from backend.auth.failures import CountedFailures, FirstOf
from backend.auth.key_file import read_keys
from backend.auth.oidc import OidcRules, Tokens, rules_of
from backend.auth.principal import Principal, Scope, Verifier
from backend.auth.rotation import KeysOfFile
from backend.auth.service_accounts import AccountTokens
from backend.lifecycle import TaskUnit, Unit
from backend.metrics import AuthMetrics
from backend.ports.service_accounts import ServiceAccounts
from backend.settings import Settings
from extauthz.core.errors import Invalid
from extauthz.jwks import KeyCollector, KeyOptions, KeyRing

_log = logging.getLogger(__name__)


def authentication(
    settings: Settings,
    needs: Mapping[str, Scope],
    registry: CollectorRegistry,
    accounts: ServiceAccounts | None = None,
) -> tuple[Verifier, list[Unit]]:
    """Deny by default: what needs a credential does not start without any.

    Args:
        needs: the scope without which a component is useless, by its name.
        accounts: of the cluster whose sidecars' tokens count.

    Returns:
        The verifier, and what must run beside it.

    Raises:
        Invalid: naming the setting.
    """
    if not settings.auth:
        if not settings.is_loopback:
            raise Invalid("AUTH", f"`off` with HOST `{settings.host}`", "set HOST=127.0.0.1")
        _log.warning("AUTH=off: everybody on this machine may do everything")
        return Anyone(), []
    rules = _rules(settings)
    listed = from_lists(settings.api_keys, settings.admin_api_keys, settings.ingest_api_keys)
    if settings.api_keys and not settings.admin_api_keys:
        _log.warning("every key in API_KEYS is admin; set ADMIN_API_KEYS to change that")
    # Those that nothing but a key lets anybody into.
    needs = {
        name: scope
        for name, scope in needs.items()
        if not rules and not (accounts and scope is Scope.INGEST)
    }
    metrics, units = AuthMetrics(registry), list[Unit]()
    path = settings.api_keys_file
    if path:
        of_file = KeysOfFile(
            Path(path), lambda raw: _usable([*listed, *read_keys(raw, path)], needs), metrics
        )
        verifiers: list[Verifier] = [of_file]
        units.append(TaskUnit("key file", of_file.run))
    else:
        verifiers = [_usable(listed, needs)]
    if rules:
        ring = _token_keys(rules, settings)
        registry.register(KeyCollector(ring, "auth"))
        verifiers.append(Tokens(ring, time.time))
        units.append(TaskUnit("token keys", ring.run))
    if accounts:
        tokens = AccountTokens(accounts, settings.account_audience, time.time)
        registry.register(KeyCollector(tokens.ring, "service_account"))
        verifiers.append(tokens)
        units.append(TaskUnit("service account keys", tokens.ring.run))
        units.append(TaskUnit("service accounts", tokens.follow))
    return CountedFailures(FirstOf(verifiers), metrics, time.monotonic), units


def _usable(keys: Sequence[ApiKey], needs: Mapping[str, Scope]) -> ApiKeys:
    """Raises: Invalid: what needs a key has none."""
    for name, scope in needs.items():
        if not any(scope in key.principal.scopes for key in keys):
            which = "INGEST_API_KEYS" if scope is Scope.INGEST else "ADMIN_API_KEYS"
            mend = "set it, or API_KEYS, API_KEYS_FILE or OIDC_ISSUER"
            raise Invalid(which, f"is not set, and {name} has no credential", mend)
    return ApiKeys(keys)


def _rules(settings: Settings) -> OidcRules | None:
    return rules_of(
        settings.oidc_issuer,
        settings.oidc_audience,
        settings.oidc_jwks_url,
        settings.admin_users,
        allow_loopback_http=settings.jwks_allow_loopback_http,
    )


def _token_keys(rules: OidcRules, settings: Settings) -> KeyRing[Principal]:
    options = KeyOptions(allow_loopback_http=settings.jwks_allow_loopback_http)
    return KeyRing(lambda: rules, options, time.time)
