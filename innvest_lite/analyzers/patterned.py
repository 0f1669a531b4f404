"""PatternNet and PatternAttribution (Kindermans et al. 2017, arXiv 1705.05598).

Both need patterns: from `fit`, or `patterns=`. Then an explanation is the gradient's backward pass with every kernel
replaced. The analyzer keeps the replaced kernels, a or w * a, as its weights.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from innvest_lite import backend, rules
from innvest_lite.analyzers.base import Analyzer
from innvest_lite.analyzers.guard import WeightGuard, weights_of
from innvest_lite.analyzers.quantus import is_copy
from innvest_lite.analyzers.reverse import ReverseAnalyzer
from innvest_lite.errors import InvalidInputError, NotFittedError
from innvest_lite.forms import LinearForm
from innvest_lite.forms.chains import TO
from innvest_lite.forms.virtual import VirtualForm
from innvest_lite.graph import Graph
from innvest_lite.options import one_of, truth
from innvest_lite.patterns import Patterns, fit_patterns
from innvest_lite.patterns.estimators import DEFAULT, LayerReport, checked_choice
from innvest_lite.patterns.layout import CHAINS, SEPARABLE, Layout
from innvest_lite.patterns.patterns import as_pattern, check_patterns
from innvest_lite.preprocessing import differing
from innvest_lite.tables import brief

_log = logging.getLogger("innvest_lite")

KERNEL_DTYPES = ("float32", "bfloat16")
STARTS = ("contrast", "logit")


def _fitted_as(patterns: Any) -> Mapping[str, str]:
    """How patterns were fitted; where there are none yet, how they will be."""
    if isinstance(patterns, Patterns):
        return patterns.settings
    # Arrays by the names of layers are one a layer, unless a name is that of a chain.
    apart = isinstance(patterns, Mapping) and not any(isinstance(name, str) and TO in name for name in patterns)
    return {"separable": SEPARABLE[0], "chains": "split" if apart else CHAINS[0]}


class PatternAnalyzer(ReverseAnalyzer):
    """What PatternNet and PatternAttribution share.

    Args:
        model: a Functional or Sequential `keras.Model`; BatchNormalization is fused into the layer before it.
        start: "logit": the explained logit, as in the paper, with which a map of a negative logit is turned round.
            "contrast": the logit less the mean of all logits, which like a softmax does not depend on a constant that is
            added to all of them; of a model with one output, or with sigmoids, the logit itself. For one class the two
            differ by one factor for each sample. Of several numbers that are no classes, as in regression, 0 means
            something, and so does their mean: take "logit".
        patterns: `Patterns` or any mapping from layer name to an array in its kernel's shape; None to `fit` later.
        estimator: how `fit` estimates patterns, see `fit_patterns`.
        separable: whether separable convolutions have a pattern for each of the two linear maps that they are made of
            ("split"), or one for the whole ("joint"). None: as the patterns were fitted; where there are none yet, "split".
        chains: whether linear layers with no rectifier between them have one pattern for all ("joint") or one each
            ("split"), see `fit_statistics`. None: as the patterns were fitted; where there are none yet, "joint".
        merge_patterns: whether the patterns of a sum decide how much of its relevance each branch gets; if not, each gets
            all of it, as the gradient hands it on, or with shares of the sample what it adds.
        dtype: in which the analyzer keeps its kernels: "float32", or "bfloat16", which takes half the memory and leaves 8
            bits of each number (about 0.4 %). It computes in float32.
        **options: as in `ReverseAnalyzer` and `Analyzer`.

    Raises:
        UnsupportedLayerError: some layers have no pattern; the message lists them all.
        PatternMismatchError: the patterns belong to another model or to other weights.
    """

    fuses_batchnorm = True
    starts_from_logit = True

    def __init__(
        self,
        model: Any,
        *,
        start: str = "logit",
        patterns: Mapping | None = None,
        estimator: Any = DEFAULT,
        separable: str | None = None,
        chains: str | None = None,
        merge_patterns: bool = True,
        dtype: str = "float32",
        **options: Any,
    ) -> None:
        self.start_choice = one_of(start, STARTS, "start")
        self.starts_centred = start == "contrast"
        self._kernel_dtype = one_of(dtype, KERNEL_DTYPES, "dtype")
        self.estimator = checked_choice(estimator)
        fitted = _fitted_as(patterns)
        self.separable = one_of(fitted["separable"] if separable is None else separable, SEPARABLE, "separable")
        self.chains = one_of(fitted["chains"] if chains is None else chains, CHAINS, "chains")
        self.merge_patterns = truth(merge_patterns, "merge_patterns")
        self.splits_separable, self.joins_chains = self.separable == "split", self.chains == "joint"
        super().__init__(model, **options)
        self._given: Any = backend.Untracked(patterns)
        self._layout = Layout.of(model, self.separable, self.chains, self.input_shape_choice.value)
        self._fitted: Any = None
        self._awaits_kernels = self._asked_for_shapes = False
        self._backward_kernels: dict[str, Any] = {}

    def complete(self) -> None:
        """See `Analyzer.complete`; the patterns that were given are taken when the plan says which are needed."""
        super().complete()
        given, self._given = self._given.value, None
        if given is not None:
            self.set_patterns(given)

    def guard(self, graph: Graph) -> WeightGuard:
        """See `Analyzer.guard`."""
        return WeightGuard(weights_of(graph), self._fingerprints)

    def fit(
        self,
        data: Any = None,
        batch_size: int = 32,
        steps: int | None = None,
        checkpoint: Any = None,
        verbose: int | str = "auto",
        callbacks: Any = None,
        *,
        estimator: Any = None,
        sample_weight: Any = None,
        preprocess: str = "none",
        approximate: bool = False,
        regime: str = "rectifier",
        shard: tuple[int, int] = (0, 1),
        exact: bool | None = None,
    ) -> PatternAnalyzer:
        """Fits the patterns of the model on data; see `fit_patterns` and `fit_statistics` for what it takes.

        Args:
            data: samples, as the model takes them, or as the analyzer's `preprocessor` does.
            batch_size: for arrays.
            steps: how many batches to take; None: all.
            checkpoint: a path to save the sums to every few dozen steps, and to continue from where it exists.
            verbose: as in `keras.Model.fit`.
            callbacks: as in `keras.Model.fit`.
            estimator: in place of the analyzer's own, from now on; None: the analyzer's.
            sample_weight: for arrays, how much each sample counts, shape (samples,).
            preprocess: for a folder of images, see `innvest_lite.images.preprocess`.
            approximate: see `fit_statistics`.
            regime: see `fit_statistics`.
            shard: see `fit_statistics`.
            exact: the former name of `approximate`, with the opposite meaning.

        Returns:
            The analyzer.
        """
        self.estimator = self.estimator if estimator is None else checked_choice(estimator)
        patterns = fit_patterns(
            self.model,
            data,
            self.estimator,
            batch_size=batch_size,
            steps=steps,
            checkpoint=checkpoint,
            verbose=verbose,
            callbacks=callbacks,
            sample_weight=sample_weight,
            preprocess=preprocess,
            approximate=approximate,
            exact=exact,
            regime=regime,
            shard=shard,
            separable=self.separable,
            chains=self.chains,
            jit_compile=self.jit_compile,
            preprocessor=self.preprocessor,
            input_shape=self.input_shape_choice.value,
        )
        self._take(patterns, patterns.fingerprints)
        return self

    def require_ready(self, look: bool = True) -> None:
        """See `Analyzer.require_ready`.

        Raises:
            NotFittedError: there are no patterns yet.
            PatternMismatchError: the model's weights have changed since the patterns were taken.
        """
        self._require_fit()
        if self._asked_for_shapes:
            return
        if self._awaits_kernels:
            with backend.eagerly():
                if any(np.isnan(backend.to_numpy(kernel)).all() for kernel in self._backward_kernels.values()):
                    raise NotFittedError(
                        f"{type(self).__name__} was made from a config, which holds no patterns: load its weights, call "
                        "analyzer.fit(data), or save and load a .keras file, which holds both."
                    )
            self._awaits_kernels = False
        if look:
            self.explainer.guard.look()

    def compute_output_spec(self, *args: Any, **options: Any) -> Any:
        """As of any Keras layer: what `call` gives, as symbolic tensors."""
        # Keras also asks while it loads a model of which the analyzer is a part: before it loads their weights.
        self._asked_for_shapes = True
        try:
            return super().compute_output_spec(*args, **options)
        finally:
            self._asked_for_shapes = False

    def set_patterns(self, patterns: Any) -> None:
        """Takes other patterns, as after the model was trained further; the explanation is not traced again.

        Args:
            patterns: as in the class.

        Raises:
            PatternMismatchError: the patterns belong to another model or to other weights.
            InvalidInputError: they are no mapping, or hold NaN, infinite or masked values.
        """
        if not isinstance(patterns, Mapping):
            raise InvalidInputError(
                f"patterns should map layer names to arrays, but is {type(patterns).__name__}. A file is read by "
                "innvest_lite.Patterns.load(path)."
            )
        now, needed = self._fingerprints(), set(self._patterned_names())
        shapes = {name: form.kernel_shape for name, form in self._layout.patterned.items() if name in needed}
        check_patterns(patterns, shapes, set(self._layout.patterned), now)
        if self.preprocessor is not None and isinstance(patterns, Patterns):
            # By a name and by a function, it may be the same all the same.
            said = differing(patterns.settings.get("preprocess"), self.preprocessor.name)
            if said:
                _log.warning("%s", said)
        self._take(patterns, now)

    def _fingerprints(self) -> dict[str, str]:
        """Name -> hash, of the weights on which the explanation depends, as they are now."""
        needed, patterned = self._patterned_names(), self._layout.patterned
        # What needs no pattern and has no weights, such as a mean that is part of a gate, may go by the input's sizes.
        constants = {name for name, form in patterned.items() if isinstance(form, VirtualForm) and name not in needed}
        found = self._layout.fingerprints_at(node.name for node in self.explainer.graph.every_node)
        return {name: text for name, text in found.items() if name not in constants}

    def _take(self, patterns: Any, fingerprints: Mapping[str, str]) -> None:
        """Makes the backward kernels of patterns the analyzer's weights.

        Args:
            patterns: name -> array, checked.
            fingerprints: of the weights that they belong to.
        """
        details = isinstance(patterns, Patterns)
        self._fitted = backend.Untracked(
            {
                "estimator": patterns.estimator if details else "given",
                "fingerprints": dict(fingerprints),
                "settings": patterns.settings if details else {},
                "reports": {name: dataclasses.asdict(row) for name, row in patterns.reports.items()} if details else {},
            }
        )
        self.explainer.guard.remember(fingerprints)
        for name in self._patterned_names():
            # One layer at a time: VGG16's first dense layer alone holds three quarters of all its weights.
            self._set_kernel(name, self._backward_kernel(self._layout.patterned[name], as_pattern(patterns[name], name)))

    @property
    def turns_with_the_logit(self) -> bool:
        """See `Analyzer`."""
        return not (self.starts_centred and self.explainer.has_rivals)

    def _patterned_names(self) -> list[str]:
        return list(dict.fromkeys(self._layout.owners[form.name] for form in self.plan().kernel_forms))

    def _set_kernel(self, name: str, value: Any) -> None:
        """Creates a weight from its value, which then is not copied, or gives the weight a new value."""
        if name in self._backward_kernels:
            self._backward_kernels[name].assign(value)
            return
        self._backward_kernels[name] = self.add_weight(
            shape=self._layout.patterned[name].kernel_shape,
            dtype=self._kernel_dtype,
            initializer=lambda shape, dtype: keras.ops.convert_to_tensor(value, dtype),
            trainable=False,
            name=name.replace("/", "_"),
        )

    def _at_sums(self) -> list:
        return [] if self.merge_patterns else [(rules.kind("sum"), rules.Gradient(grows=True))]

    def _backward_kernel(self, form: LinearForm, pattern: np.ndarray) -> Any:
        raise NotImplementedError

    def _pattern(self, form: LinearForm, kernel: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    @property
    def patterns(self) -> Patterns:
        """The `Patterns` in use, from the analyzer's weights.

        PatternAttribution keeps w * a, so there an entry whose weight w is exactly 0 comes back as 0.
        """
        self._require_fit()
        arrays = {
            name: self._pattern(self._layout.patterned[name], backend.to_numpy(variable).astype("float32"))
            for name, variable in self._backward_kernels.items()
        }
        record = self._fitted.value
        reports = {name: LayerReport(**row) for name, row in record["reports"].items()}
        settings = {**record["settings"], "separable": self.separable, "chains": self.chains}
        return Patterns(arrays, record["estimator"], record["fingerprints"], reports, settings)

    def for_model(self, model: Any) -> Analyzer:
        """See `Analyzer.for_model`; patterns go with no other weights than those that they were fitted for."""
        self._require_fit()
        if is_copy(model, self.model):
            return self
        raise InvalidInputError(
            f"{type(self).__name__} has patterns for the weights of its own model, but was handed the model {model.name!r} "
            "with other weights or layers, as in Quantus's randomization tests. Patterns of other weights explain nothing: "
            "write an explain function that fits an analyzer to each model that it is handed."
        )

    def _told_of_patterns(self) -> str:
        """See `Described`."""
        if getattr(self, "_fitted", None) is None:
            return "none yet, call fit(data)"
        record = self._fitted.value
        return f"{len(record['reports'])} layers, {brief(record['estimator'])}"

    def _require_fit(self) -> None:
        if self._fitted is None:
            raise NotFittedError(
                f"{type(self).__name__} explains with patterns, and has none yet: call analyzer.fit(data) with samples "
                "that the model sees in use, or pass patterns=innvest_lite.Patterns.load(path)."
            )

    def kernels(self) -> dict:
        """See `ReverseAnalyzer.kernels`."""
        self._require_fit()
        return {
            form.name: keras.ops.cast(self._backward_kernels[self._layout.owners[form.name]], "float32")
            for form in self.plan().kernel_forms
        }

    def get_config(self) -> dict:
        """The model, the options and, where there are patterns, what is known of them."""
        fitted = None if self._fitted is None else self._fitted.value
        choices = {name: getattr(self, name) for name in ("estimator", "separable", "chains", "merge_patterns")}
        choices |= {"start": self.start_choice, "dtype": self._kernel_dtype}
        return {**super().get_config(), **choices, "fitted": fitted}

    @classmethod
    def from_config(cls, config: dict) -> PatternAnalyzer:
        """An analyzer from `get_config`; its weights are loaded afterwards."""
        # Analyzers that were saved before there were chains have a pattern for each of their layers, and those of before
        # there was a choice start from the logit.
        config = {"chains": "split", "start": "logit", **config}
        fitted = config.pop("fitted", None)
        analyzer = super().from_config(config)
        if fitted is not None:
            analyzer._fitted = backend.Untracked(fitted)
            # Looked at when they are first needed: the weights themselves are loaded after this.
            analyzer.explainer.guard.remember(fitted["fingerprints"])
            analyzer._awaits_kernels = True
            for name in analyzer._patterned_names():
                # No numbers, so that kernels that never came are told from patterns of zeros.
                analyzer._set_kernel(name, np.full(analyzer._layout.patterned[name].kernel_shape, np.nan, "float32"))
        return analyzer
