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

SHARES = ("auto", "average", "sample")

_COMMON = (
    (rules.monotone(), rules.Coefficients()),
    (rules.kind("rectifier", "activation", "max", "route"), rules.Gradient()),
    (rules.kind("embedding"), rules.TokenSum()),
)


@keras.saving.register_keras_serializable(package="innvest_lite")
class PatternNet(PatternAnalyzer):
    """The signal that the explained output sees, in input units with colour channels (arXiv 1705.05598, section 4).

    The gradient's backward pass with every kernel replaced by its pattern, a+ where a rectifier follows.
    Started from the logit, as in the paper, the signal of a negative logit is turned round; `start="contrast"` starts from
    the logit less the mean of all logits, which is never negative for the class that is predicted. `patterns=`,
    `estimator=` and the other options are those of `innvest_lite.analyzers.pattern.PatternAnalyzer`.

    Example:
        >>> analyzer = PatternNet(model).fit(images, verbose=0)
        >>> signal = analyzer.analyze(images[:8])
        >>> signal.shape
        (8, 28, 28, 1)
    """

    unit = "input"
    picture = "signal"
    sign_tells = False
    starts_unsigned = True
    stand_in = (rules.anything(), rules.Gradient())

    def composite(self) -> list:
        """Patterns at linear nodes, their closed form at diagonal ones, the gradient where values only move."""
        return [
            *self._at_sums(),
            (rules.kernel_bearing(), rules.Pattern()),
            (rules.kind("scale", "normalization"), rules.InverseScale()),
            (rules.gated(), rules.GatedSignal(inverse=True)),
            (rules.weighted(), rules.ValuePath("coefficient")),
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
        start: as in `innvest_lite.analyzers.pattern.PatternAnalyzer`; here, "contrast" is the default.
        shares: "average": an input gets the share w * a of a unit's relevance, what it contributes on average, as in the
            paper. "sample": what it contributes in this sample, as far as the pattern takes it for signal: with
            v = sign(w) (w a)+, by the contributions x * v that have the sign of the unit's value (`rules.PatternShares`);
            where a kernel serves one position alone, such as that of a dense layer behind a Flatten, and at the last
            layers, by all of them with their sign (`rules.PatternEvidence`), and so at sums and means
            (`rules.PatternMagnitudes`). There, what is red speaks for the explained output, also where that is negative.
            "auto": "average" of networks like the paper's, of convolutions, dense layers, rectifiers and pooling, that end
            in classes; "sample" of those with normalizations, with sums or products, or with depthwise or grouped
            convolutions, where the average shares say little (docs/evidence.md), and of a single number, as in regression,
            of which they do not know the sign; linear layers with one pattern for all (`chains`) count as one dense layer.
        **options: as in `innvest_lite.analyzers.pattern.PatternAnalyzer`.

    Example:
        >>> analyzer = PatternAttribution(model).fit(images, verbose=0)
        >>> heat = analyzer.analyze(images[:8])
        >>> heat.shape
        (8, 28, 28, 1)
    """

    unit = "logits"

    def __init__(self, model: Any, *, start: str = "contrast", shares: str = "auto", **options: Any) -> None:
        self.shares = one_of(shares, SHARES, "shares")
        super().__init__(model, start=start, **options)

    def get_config(self) -> dict:
        """The model, the options and, where there are patterns, what is known of them."""
        return {**super().get_config(), "shares": self.shares}

    @classmethod
    def from_config(cls, config: dict) -> PatternAttribution:
        """An analyzer from `get_config`; its weights are loaded afterwards."""
        # One that was saved before there was the choice had average shares.
        return super().from_config({"shares": "average", **config})

    @property
    def starts_directed(self) -> bool:
        """Whether shares are those of the sample, whose signs go by what made a value what it is; see `ReverseAnalyzer`."""
        return self.shares == "sample" or (
            self.shares == "auto" and (self._layout.is_beyond_the_papers or self.explains_number)
        )

    @property
    def turns_with_the_logit(self) -> bool:
        """See `Analyzer`."""
        return super().turns_with_the_logit and not self.starts_directed

    def composite(self) -> list:
        """W * a at linear nodes, which is 1 at diagonal ones, the gradient where values only move."""
        sample = [
            (rules.unshared() | rules.last(), rules.PatternEvidence()),
            (rules.kind("sum", "average") & rules.kernel_bearing(), rules.PatternMagnitudes()),
            (rules.rectified(), rules.PatternShares(rectified=True)),
            (rules.kind("linear") & rules.kernel_bearing(), rules.PatternShares()),
            (rules.monotone() | rules.offset(), rules.Magnitude(signed=True)),
            (rules.kind("rectifier", "activation"), rules.Elementwise(signed=True)),
        ]
        # Without their patterns, sums share by what adds up in this sample.
        sums = [] if self.merge_patterns else [(rules.kind("sum"), rules.Magnitude(signed=True))]
        return [
            *([*sums, *sample] if self.starts_directed else self._at_sums()),
            (rules.kernel_bearing(), rules.Pattern()),
            (rules.kind("scale", "normalization"), rules.Pass()),
            (rules.gated(), rules.GatedSignal()),
            (rules.weighted(), rules.ValuePath("magnitude" if self.starts_directed else "coefficient")),
            (rules.kind("matmul", "product"), rules.Halves()),
            (rules.kind("softmax"), rules.SoftmaxTaylor()),
            *_COMMON,
            # What it divides by differs from sample to sample, so that there is no pattern; what adds up is known.
            (rules.kind("average") & _is_masked, rules.Magnitude(signed=True)),
        ]

    def _backward_kernel(self, form: LinearForm, pattern: np.ndarray) -> Any:
        # Patterns and what is made of them are float32, whatever the model's kernel is. TensorFlow multiplies the array as
        # it is; making a tensor of it first would copy it.
        return keras.ops.cast(form.kernel(), "float32") * pattern

    def _pattern(self, form: LinearForm, kernel: np.ndarray) -> np.ndarray:
        weight = backend.to_numpy(form.kernel())
        return np.divide(kernel, weight, out=np.zeros_like(kernel), where=weight != 0)


def _is_masked(site: Any) -> bool:
    """Whether a mask says which positions of what a node takes count."""
    node = site.form.node
    return node.input_specs[0].masked or len(node.inputs) > 1
