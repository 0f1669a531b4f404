"""`Strategy`: how a method explains tensors, the part of an `Explainer` in which methods differ.

There are few: one backward sweep (`reverse.Sweep`), the mean of gradients at altered samples
(`averaged.AveragedGradients`), differences from references (`deeplift.Differences`), outputs under masks
(`perturbation.MaskedOutputs`), a class activation map (`cam.ActivationMap`, `scorecam.ScoredMaps`), a map of attention
(`attention_maps.AttentionMap`), Shapley values (`shapley.Coalitions`), and what looks at nothing (`baseline`).
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
from keras import ops

from innvest_lite.errors import InvalidInputError
from innvest_lite.tables import Brief

if TYPE_CHECKING:
    from innvest_lite.analyzers.explained import Explained
    from innvest_lite.analyzers.explainer import Explainer

# How many evaluated samples a model sees at a time where nobody says.
_BATCH = 32


@dataclasses.dataclass(frozen=True, eq=False)
class Round:
    """Which evaluations go at a time, and what their random numbers hang on.

    Attributes:
        together: how many evaluations of each sample go at a time.
        index: int32 (batch,), the place of each sample among those that `analyze` was handed.
        seed: an int, or an int64 tensor of an exported program; None: the method's own.
        tick: called in Python when a round is done, see `backend.loop`; None: nobody watches.
        lean: whether `Explained.logits` are not asked for where weights are given, so that a method that evaluates altered
            samples alone need not evaluate the sample itself: see `Explained.finite`.
    """

    together: int
    index: Any
    seed: Any = None
    tick: Any = None
    lean: bool = False


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Strategy(Brief):
    """How a method explains tensors; subclasses are frozen and give `explain`."""

    #: Whether relevance goes back through the nodes once, so that it can be kept on the way.
    sweeps = False
    #: What an evaluation is called, where there are many of each sample.
    unit = "evaluation"
    #: Whether the explanation depends on the model.
    depends = True
    #: Why there are no numbers where all weights are numbers.
    no_numbers = "No weight does, so values overflow on the way: check that samples are preprocessed as the model expects."
    #: Whether the model takes what it is to explain; else it is bound anew to the sizes of the samples.
    sized = True
    #: Whether it hangs on the place of a sample among all of them, as random numbers do that are drawn for each.
    hangs_on_place = True
    #: Whether what the sweep hands back at the input is the attribution itself, which `check` can then account for.
    accounts = False

    def evaluations(self) -> int:
        """How many times the method evaluates the model for each sample."""
        return 1

    def explain(self, explainer: Explainer, inputs: Any, weights: Any, keep: tuple, around: Round) -> Explained:
        """The explanation on tensors.

        Args:
            explainer: whose strategy this is.
            inputs: a tensor per input.
            weights: None for the largest logit, or weights on the outputs.
            keep: graph values whose relevance is wanted too.
            around: a `Round`.

        Returns:
            An `Explained`.
        """
        raise NotImplementedError

    def on_arrays(
        self, explainer: Explainer, arrays: list, weights: Any, batch_size: int
    ) -> tuple[list[np.ndarray], np.ndarray] | None:
        """The attributions of arrays, and the explained output, of a method that explains no tensors; None: it does.

        Args:
            explainer: whose strategy this is.
            arrays: checked arrays, one per input.
            weights: on the outputs, an array in their shape, or None for what is predicted.
            batch_size: how many samples the model sees at a time.
        """
        return None

    def check_inputs(self, arrays: list) -> None:
        """Raises InvalidInputError where the method does not fit the samples, checked arrays, one per input."""

    @property
    def differs(self) -> bool:
        """Whether the method explains by how much outputs differ from those at references."""
        return False

    def measured_from(self, explainer: Explainer, inputs: Any) -> Any:
        """The outputs at the references, of methods that explain differences: a tensor of the outputs' shape.

        Args:
            explainer: whose strategy this is.
            inputs: a tensor per input.
        """
        raise NotImplementedError

    def check_keep(self, method: str) -> None:
        """Raises InvalidInputError where the method named `method` cannot keep relevance on its way."""
        if not self.sweeps:
            raise InvalidInputError(f"{method} has no single backward pass, so it keeps nothing on the way.")

    def rounds(self, together: int) -> int:
        """How many rounds there are of so many evaluations."""
        return -(-self.evaluations() // together)

    def evenly(self, most: int) -> int:
        """How many evaluations go at a time where at most `most` may: all rounds about as large, none with a few left."""
        return self.rounds(self.rounds(max(most, 1)))

    def together(self, count: int | None) -> int:
        """How many evaluations of each of `count` samples go at a time where nobody says; None: a count not known yet."""
        return 1 if count is None else self.evenly(_BATCH // max(count, 1))


def repeated(x: Any, times: int) -> Any:
    """Each sample `times` times, one after the other; the Keras mask of tensors made from it comes out right."""
    return x if times == 1 else ops.repeat(x, times, axis=0)


def by_sample(x: Any, together: int) -> Any:
    """(batch * together, ...) as (batch, together, ...)."""
    return ops.reshape(x, (-1, together, *ops.shape(x)[1:]))


def no_exponent(x: Any) -> Any:
    """The exponents of explanations that stay in float32's range: int32 (batch,)."""
    return ops.zeros(ops.shape(x)[:1], "int32")
