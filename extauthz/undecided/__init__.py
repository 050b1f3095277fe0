"""What never reached Check: each line of Envoy's undecided log becomes one event.

`Tail` is the interface; README.md tells how the pieces fit.
"""

from extauthz.undecided.calls import OpenCalls
from extauthz.undecided.tail import CAUSES, Tail

__all__ = ["CAUSES", "OpenCalls", "Tail"]
