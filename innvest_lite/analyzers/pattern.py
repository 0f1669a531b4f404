"""PatternNet and PatternAttribution (Kindermans et al. 2017, arXiv 1705.05598): what each hands back where.

How they get their patterns and keep their kernels is `patterned`.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from innvest_lite import backend, rules
from innvest_lite.analyzers.patterned import PatternAnalyzer
from innvest_lite.forms import LinearForm
from innvest_lite.options import one_of

__all__ = ["PatternAnalyzer", "PatternAttribution", "PatternNet"]

STARTS = ("contrast", "logit")
SHARES = ("average", "sample")

_COMMON = (
    (rules.monotone(), rules.Coefficients()),
    (rules.kind("rectifier", "activation", "max", "route"), rules.Gradient()),
    (rules.kind("embedding"), rules.TokenSum()),
)


@keras.saving.register_keras_serializable(package="innvest_lite")
class PatternNet(PatternAnalyzer):
    """The signal that the explained output sees, in input units with colour channels (arXiv 1705.05598, section 4).

    The gradient's backward pass with every kernel replaced by its pattern a+, started from the logit. `patterns=`,
    `estimator=` and the other options are those of `innvest_lite.analyzers.pattern.PatternAnalyzer`.

    Example:
        >>> analyzer = PatternNet(model).fit(images, verbose=0)
        >>> signal = analyzer.analyze(images[:8])
        >>> signal.shape
        (8, 28, 28, 1)
    """

    picture = "signal"
    sign_tells = False
    starts_unsigned = True
    stand_in = (rules.anything(), rules.Gradient())

    def composite(self) -> list:
        """Patterns at linear nodes, their closed form at diagonal ones, the gradient where values only move."""
        return [
            *self._at_sums(),
            (rules.kernel_bearing(), rules.Pattern()),
            (rules.kind("scale"), rules.InverseScale()),
            (rules.gated(), rules.GatedSignal(inverse=True)),
            *_COMMON,
        ]

    def _backward_kernel(self, form: LinearForm, pattern: np.ndarray) -> Any:
        return pattern

    def _pattern(self, form: LinearForm, kernel: np.ndarray) -> np.ndarray:
        return kernel


@keras.saving.register_keras_serializable(package="innvest_lite")
class PatternAttribution(PatternAnalyzer):
    """Contributions to the explained logit, in logits (arXiv 1705.05598, section 4).

    The gradient's backward pass with every kernel w replaced by w * a+. It does not conserve what it starts from: what
    arrives at closed ReLUs and at zero padding is lost; `check` shows where.

    Args:
        model: a Functional or Sequential `keras.Model`.
        start: "contrast": the explained logit less the mean of all logits, which like a softmax does not depend on a
            constant that is added to all of them; of a model with one output, or with sigmoids, the logit itself.
            "logit": the logit, as in the paper, with which a map of a negative logit is turned round. The two differ by
            one factor for each sample.
        shares: "average": an input gets the share w * a of a unit's relevance, what it contributes on average, as in the
            paper. "sample": what it contributes in this sample, as far as the pattern takes it for signal, in proportion
            to the positive part of x * w * a; see `innvest_lite.rules.PatternShares`.
        **options: as in `innvest_lite.analyzers.pattern.PatternAnalyzer`.

    Example:
        >>> analyzer = PatternAttribution(model).fit(images, verbose=0)
        >>> heat = analyzer.analyze(images[:8])
        >>> heat.shape
        (8, 28, 28, 1)
    """

    def __init__(self, model: Any, *, start: str = "contrast", shares: str = "average", **options: Any) -> None:
        self.start_choice = one_of(start, STARTS, "start")
        self.starts_centred = start == "contrast"
        self.shares = one_of(shares, SHARES, "shares")
        super().__init__(model, **options)

    def get_config(self) -> dict:
        """The model, the options and, where there are patterns, what is known of them."""
        return {**super().get_config(), "start": self.start_choice, "shares": self.shares}

    def composite(self) -> list:
        """W * a at linear nodes, which is 1 at diagonal ones, the gradient where values only move."""
        return [
            *self._at_sums(),
            (rules.kernel_bearing(), rules.Pattern() if self.shares == "average" else rules.PatternShares()),
            (rules.kind("scale"), rules.Pass()),
            (rules.gated(), rules.GatedSignal()),
            *([] if self.shares == "average" else [(rules.kind("rectifier", "activation"), rules.Elementwise())]),
            *_COMMON,
        ]

    def _backward_kernel(self, form: LinearForm, pattern: np.ndarray) -> Any:
        # Patterns and what is made of them are float32, whatever the model's kernel is. TensorFlow multiplies the array as
        # it is; making a tensor of it first would copy it.
        return keras.ops.cast(form.kernel(), "float32") * pattern

    def _pattern(self, form: LinearForm, kernel: np.ndarray) -> np.ndarray:
        weight = backend.to_numpy(form.kernel())
        return np.divide(kernel, weight, out=np.zeros_like(kernel), where=weight != 0)
