"""`Explained`: what every analyzer makes of tensors. Called by the analyzers and the export."""

import dataclasses


@dataclasses.dataclass(frozen=True, eq=False)
class Explained:
    """An explanation on tensors.

    Attributes:
        relevance: a tensor per input.
        kept: a tensor per value that was to be kept.
        exponent: int32 (batch,): the true values are `relevance * 2**exponent`.
        logits: the explained output, before its softmax or sigmoid.
    """

    relevance: list
    kept: list
    exponent: object
    logits: object

    def replace(self, **changes):
        """A copy with some attributes changed."""
        return dataclasses.replace(self, **changes)
