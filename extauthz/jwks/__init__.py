"""A provider's public keys, fetched and rotated beside the calls.

Public, as the core is: whoever verifies tokens of a provider gets its keys here.
"""

from extauthz.jwks.ring import Fetch, KeyCollector, KeyOptions, KeyRing

__all__ = ["Fetch", "KeyCollector", "KeyOptions", "KeyRing"]
