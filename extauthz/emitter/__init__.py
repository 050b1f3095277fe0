"""The audit side of the decision point: every decision becomes an event, and no loss is silent.

`Emitter` is the interface; README.md tells how the pieces fit.
"""

from extauthz.emitter.counts import Counts
from extauthz.emitter.emitter import Emitter
from extauthz.emitter.options import EmitterOptions

__all__ = ["Counts", "Emitter", "EmitterOptions"]
