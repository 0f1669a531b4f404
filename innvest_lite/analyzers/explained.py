"""`Explained`: what every analyzer makes of tensors. Called by the explainer and the export."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

from innvest_lite.tables import Brief

_log = logging.getLogger("innvest_lite")


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Explained(Brief):
    """An explanation on tensors.

    Attributes:
        relevance: a tensor per input.
        kept: a tensor per value that was to be kept.
        exponent: int32 (batch,): the true values are `relevance * 2**exponent`.
        logits: the explained output, before its softmax or sigmoid.
        finite: bool (batch,), whether all outputs at the altered samples were numbers, of methods that were told that the
            sample's own are not asked for (`Round.lean`) and do without them; None: `logits` tells.
    """

    relevance: list
    kept: list
    exponent: Any
    logits: Any
    finite: Any = None

    def replace(self, **changes: Any) -> Explained:
        """A copy with some attributes changed."""
        return dataclasses.replace(self, **changes)
