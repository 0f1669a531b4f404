"""`Analyzer`: what people call. A Keras model that maps an input to an explanation of the same shape.

`analyze` checks what comes, runs the compiled explanation batch by batch and gives NumPy back; `call` is the same
explanation on tensors.
"""

from __future__ import annotations

from typing import Any

import keras

from innvest_lite import backend, export
from innvest_lite.analyzers import quantus
from innvest_lite.analyzers.binding import BoundWhenMade, bound, engine_for, snake_case
from innvest_lite.analyzers.check import CheckReport, check
from innvest_lite.analyzers.configured import Configured
from innvest_lite.analyzers.described import Described
from innvest_lite.analyzers.explainer import Explainer
from innvest_lite.analyzers.guard import Unguarded
from innvest_lite.analyzers.strategy import Strategy
from innvest_lite.analyzers.warnings import tell, tell_of_exponents, tell_of_inputs
from innvest_lite.errors import InvalidInputError
from innvest_lite.files import check_output
from innvest_lite.foreign import familiar
from innvest_lite.functions import checked_function
from innvest_lite.graph import Graph
from innvest_lite.inputs import InputSpec
from innvest_lite.options import checked_shapes, names_of, one_of, positive, truth, truth_or
from innvest_lite.preprocessing import Preprocessor
from innvest_lite.rules import Evaluated, Gradient, anything
from innvest_lite.rules.composite import Plan
from innvest_lite.targets import SELECTION_MODES
from innvest_lite.visualize.colormaps import DEFAULT as DEFAULT_COLORMAP


class Analyzer(Described, Configured, keras.Model, metaclass=BoundWhenMade):
    """The base of all analyzers.

    Args:
        model: a `keras.Model`, subclassed ones too. It is read, never changed.
        output: the name of the output to explain, where the model has several.
        jit_compile: True or False to compile with XLA or not; "auto" does on GPU and TPU, and not on CPU, where
            TensorFlow's own kernels are faster.
        neuron_selection_mode: what `analyze` explains where it is not told: "max_activation", what is predicted; "all",
            the sum of all logits; "index", what `analyze(x, neuron_selection=...)` says (iNNvestigate's way).
        target: a function of the model's outputs (of the one named `output`) that gives a number for each sample,
            (samples,), which is explained in place of an output. Methods that start from logits start from each by its
            share, logit times gradient. Functions that Keras knows (`register_keras_serializable`) are saved.
        preprocessor: what makes the model's inputs of the images that come: a name that `innvest_lite.images.preprocess`
            takes, such as "vgg16", or a function of a batch, such as a KerasHub task's `preprocessor`. Explanations have
            the shape of what it gives. None: samples come as the model takes them.
        input_shape: the shape of a sample, `(128,)` or `(224, 224, 3)`, or a list or a dict of them for several inputs: for
            models that leave sizes open, as texts do, which are then explained for inputs of this shape, and for subclassed
            models that were never called, which are built by it.
        name: the analyzer's name, as of any Keras model.

    Raises:
        UnsupportedLayerError: the model cannot be explained by this method; the message lists every offending node.
        InvalidInputError: there is no output of that name, or no such preprocessor.
    """

    fuses_batchnorm = splits_separable = joins_chains = is_random = False
    hands_back = True
    #: What explanations are shown as, one of `visualize.suited.PICTURES`.
    picture = "heatmap"
    #: Whether a value's sign says for or against the explained output; not so of signals, in input units, and of gradients.
    sign_tells = True
    #: Why a map is all 0 where the explained logit is not positive, as the end of a sentence.
    zeros_mean = ""
    #: Whether the sign of the explained logit turns the whole explanation round.
    turns_with_the_logit: Any = False
    explains_number = mixes_steps = has_tokens = False  # found before bindings are asked for: no class, attention, tokens

    def __init__(
        self,
        model: Any,
        *,
        output: str | None = None,
        jit_compile: bool | str = "auto",
        neuron_selection_mode: str = "max_activation",
        target: Any = None,
        preprocessor: Any = None,
        input_shape: Any = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name or snake_case(type(self).__name__))
        self.preprocessor = Preprocessor.of(preprocessor)
        self.neuron_selection_mode = one_of(neuron_selection_mode, SELECTION_MODES, "neuron_selection_mode")
        self.model, self.output_choice, self.target_choice = model, output, backend.Untracked(checked_function(target))
        self._preprocessing = self.preprocessor and self.preprocessor.layer  # attributes, so that their weights are saved
        self._targeting = target if isinstance(target, keras.Layer) else None
        self.input_shape_choice = backend.Untracked(checked_shapes(input_shape))
        self.jit_choice = truth_or(jit_compile, "auto", "jit_compile")
        self.jit_compile = backend.has_accelerator() if self.jit_choice == "auto" else bool(self.jit_choice)
        self._explainer: Explainer | None = None
        self.explainers: Any = backend.Untracked({})  # for functions as targets, and sizes; see `binding.engine_for`
        self.built = True

    def bindings(self) -> list:
        """The list of (matcher, rule) that the plan is made of; by default the gradient, or nothing, at every node."""
        return [(anything(), Gradient() if self.hands_back else Evaluated())]

    def strategy(self, graph: Graph, inputs: InputSpec) -> Strategy:
        """The `Strategy` by which the method explains tensors.

        Args:
            graph: the model's graph, from its inputs to the explained logits.
            inputs: what the model takes: names, shapes, dtypes.
        """
        raise NotImplementedError

    def guard(self, graph: Graph) -> Any:
        """What looks whether the graph's weights are still those that the analyzer explains with."""
        return Unguarded()

    def complete(self) -> None:
        """Called behind `__init__`, when the analyzer is made: a model that cannot be explained is refused now."""
        _ = self.explainer

    def require_ready(self, look: bool = True) -> None:
        """Raises where the analyzer cannot explain the model as it is now; `look` says whether to look at the weights."""
        truth(look, "look")

    @property
    def explainer(self) -> Explainer:
        """The engine: graph, plan, inputs, targets, and the explanation as functions of tensors. Bound on first use."""
        if self._explainer is None:
            self._explainer = bound(self, self.target_choice.value)
        return self._explainer

    def plan(self) -> Plan:
        """What the analyzer does, node by node: a `Plan` that prints as a table."""
        return self.explainer.plan

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
    ) -> Analyzer:
        """Takes what the pattern methods take, so that one may stand for another; fits nothing, returns the analyzer."""
        truth(approximate, "approximate")
        return self

    def __call__(self, inputs: Any, target: Any = None, **options: Any) -> Any:
        """See `call`."""
        if isinstance(target, tuple) and any(hasattr(part, "shape") for part in target):
            target = tuple(map(keras.ops.convert_to_tensor, target))  # Keras takes no tensors beside numbers
        return super().__call__(inputs, target=target, **options)

    def call(self, inputs: Any, target: Any = None) -> Any:
        """Explains a batch of tensors, eagerly or inside a `tf.function`.

        Inside a `tf.function`, pattern methods look at the model's weights when it is traced, not at every call.

        Args:
            inputs: tensors in the structure of the model's inputs.
            target: as in `analyze`.

        Returns:
            Tensors of the inputs' shapes and structure.
        """
        self.require_ready()
        explainer, target = engine_for(self, target)
        tensors, targets = explainer.inputs.tensors(inputs), explainer.targets
        weights = targets.tensor(targets.selected(target), tensors[0], lambda: explainer.logits(tensors))
        return explainer.inputs.packed(inputs, explainer.explain(tensors, weights).relevance)

    def predict(
        self, x: Any, batch_size: int | None = None, verbose: Any = "auto", steps: Any = None, callbacks: Any = None
    ) -> Any:
        """As `keras.Model.predict`: the explanation of the largest logits, by Keras's own loop."""
        # Keras traces `call` once, so that it cannot see later that weights have changed.
        self.require_ready()
        return super().predict(x, batch_size, verbose, steps, callbacks)

    def predict_on_batch(self, x: Any) -> Any:
        """As `keras.Model.predict_on_batch`."""
        self.require_ready()
        return super().predict_on_batch(x)

    @familiar
    def analyze(
        self,
        x: Any,
        target: Any = None,
        batch_size: int = 32,
        verbose: int | str = 0,
        keep: Any = (),
        return_exponent: bool = False,
        *,
        neuron_selection: Any = None,
    ) -> Any:
        """Explains samples.

        Args:
            x: an array `(samples, ...)`, or a list or dict of them for a model with several inputs; any numeric dtype.
            target: which output to explain. None: what is predicted, the largest logit. An int, or one int per sample, also
                of shape (samples, 1). "all": the sum of all outputs. An array of floats of the output's shape: weights.
                A single sigmoid unit is two classes: 1 has its logit z, 0 has -z; "all" and weights are of z.
                Of dense outputs, such as (samples, height, width, classes), a class is summed over the positions where it
                wins, or over all where it wins nowhere in a sample; `(class, mask)` sums it where booleans (height, width)
                or (samples, height, width) say, `(row, column, class)` names one position, None is the largest value.
                A function of the outputs, see the class: for each, a program is compiled.
            batch_size: how many samples are explained at a time; of methods that evaluate each sample many times, how many
                evaluations.
            verbose: 1 shows a progress bar.
            keep: names of layers (or nodes of `plan()`) whose relevance is wanted too. A layer's name gives the relevance
                at what the layer hands on, after its activation.
            return_exponent: whether to return the exponents too (see Returns).
            neuron_selection: iNNvestigate's word, where `neuron_selection_mode` is "index": the number of a unit.

        Returns:
            float32 arrays (float64 for float64 inputs) of the shape and structure of `x`, in the method's unit. With
            `keep`, also a dict from name to array. With `return_exponent`, also int32 `(samples,)`: the true values of a
            sample are `result * 2**exponent`; not 0 only where they leave float32's range.

        Raises:
            InvalidInputError: `x`, `target` or `keep` does not fit the model.
            NotFittedError: a pattern method without patterns.
            PatternMismatchError: the model's weights have changed since the patterns were fitted.
        """
        # Its programs look at the weights themselves, batch by batch: a look of its own would read all of them twice.
        self.require_ready(look=False)
        keep, return_exponent = names_of(keep), truth(return_exponent, "return_exponent")
        explainer, target = engine_for(self, target, x)
        arrays, weights = explainer.checked(x, target, neuron_selection, positive(batch_size, "batch_size"))
        relevance, kept, exponent, explained = explainer.run(arrays, weights, keep, batch_size, verbose)
        tell(self, relevance, explained, explainer)
        tell_of_inputs(self, arrays, explainer)
        if not return_exponent:
            tell_of_exponents(exponent)
        result = [explainer.inputs.packed(x, relevance)]
        result += [dict(zip(keep, kept, strict=True))] if keep else []
        result += [exponent] if return_exponent else []
        return result[0] if len(result) == 1 else tuple(result)

    def check(self, x: Any, target: Any = None, batch_size: int = 32, *, neuron_selection: Any = None) -> CheckReport:
        """What becomes of the explained output: how much of it the explanation accounts for, and where the rest went.

        Args:
            x: as in `analyze`.
            target: as in `analyze`.
            batch_size: as in `analyze`.
            neuron_selection: as in `analyze`.

        Returns:
            A `CheckReport`, which prints as a table: per node the relevance that arrived and was handed on, and where the
            difference went (see `CheckRow`). Methods that are not one backward sweep have no rows, only the totals.
        """
        self.require_ready()
        batch_size = positive(batch_size, "batch_size")
        explainer, target = engine_for(self, target, x)
        return check(explainer, *explainer.checked(x, target, neuron_selection, batch_size), batch_size)

    def as_explain_func(self) -> Any:
        """This analyzer as the `explain_func` of Quantus, `explain(model, inputs, targets, **kwargs)`.

        - model: this analyzer's model, a Keras model like it, Quantus's wrapper of either, or None. Another one, as
          Quantus's randomization tests hand, is explained by this method with these options.
        - inputs: `(samples, ...)`, channels first or last; targets: an output for each sample, or None, as in `analyze`.
        - kwargs: `channel_first=True` says so where both orders would fit. Quantus's own are ignored, others refused.

        Returns:
            The function, which gives an array of the shape of `inputs`, in the method's unit. It raises InvalidInputError
            where an argument does not fit, or another model would need other patterns.

        Raises:
            InvalidInputError: the model has several inputs, which Quantus cannot hand.

        Example:
            >>> explain = innvest_lite.Gradient(model).as_explain_func()
            >>> explain(model, images[:2].transpose(0, 3, 1, 2), np.array([3, 7]), device="cpu").shape
            (2, 1, 28, 28)
        """
        return quantus.explain_func(self)

    def save(self, filepath: Any, overwrite: bool = True, zipped: bool | None = None) -> None:
        """Writes a `.keras` file, which `keras.saving.load_model` reads once `innvest_lite` is imported.

        Args:
            filepath: a path that ends in .keras.
            overwrite: as in `keras.Model.save`.
            zipped: as in `keras.Model.save`.

        Raises:
            InvalidInputError: another format was asked for, or the preprocessor is a function that Keras does not know.
            PatternMismatchError: the model's weights have changed since the patterns were fitted.
        """
        self.check_saveable()
        if not str(filepath).endswith(".keras"):
            raise InvalidInputError(f"An analyzer is saved as a .keras file, but the path is {str(filepath)!r}.")
        check_output(filepath)
        truth(overwrite, "overwrite")
        self.explainer.guard.look()
        super().save(filepath, overwrite=overwrite, zipped=zipped)

    def export(
        self,
        filepath: Any,
        format: str = "tf_saved_model",
        target: str = "argmax",
        predictions: bool = True,
        batch: int | None = None,
        *,
        preprocess: Any = None,
        render: str | None = None,
        colormap: str = DEFAULT_COLORMAP,
        input_range: Any = None,
        verbose: bool | None = None,
    ) -> None:
        """Writes the analyzer as a file that runs without this package, in Python or not.

        Its signatures (LiteRT and ONNX have the first alone), of named tensors:

        - `serve`: from `x` (of texts, tokens; for several inputs, one for each, by name), with `target="input"` also
          `target`, int32 (samples,), and for random methods `seed`, an int64 scalar; to `attributions` (`attributions_NAME`
          for several inputs), as `analyze` gives them, `target`, int32 (samples,), and `predictions`, what the model itself
          puts out. Prediction and explanation share one forward pass. A target that the model does not have is an error; in
          LiteRT and ONNX, whose programs cannot stop, its attributions are NaN.
        - `explain`: the same without `predictions`; `predict`: from the inputs to `predictions`.

        Where `analyze` would return an exponent, the values come divided by that power of two. ONNX does not hand out a
        target that came in.

        Args:
            filepath: a folder for a SavedModel, else a file that ends in .tflite or .onnx. A SavedModel there is replaced.
            format: "tf_saved_model", which holds every analyzer; "litert" or "onnx", which hold those that need no
                operation that these formats lack, and all weights as float32 ("onnx" wants the packages onnx and tf2onnx).
            target: what is explained: "argmax", what is predicted, or "input", the class whose number the caller says.
            predictions: whether to hand out the model's output too.
            batch: the number of samples of a call; None: any number. With a number, methods that evaluate a sample many
                times do so side by side.
            preprocess: as the analyzer's `preprocessor`, which is the default: then `x` is uint8 images in 0..255. (Hand
                over uint8: TensorFlow makes uint8 of NumPy floats without a word.)
            render: "heatmap", "signal" or "overlay", for uint8 pictures (samples, height, width, 3) as
                `innvest_lite.visualize` makes them, handed out as `picture`.
            colormap: of the pictures.
            input_range: `(low, high)` of the model's input, for the description.
            verbose: True prints the path.

        Raises:
            NotFittedError: a pattern method without patterns.
            PatternMismatchError: the model's weights have changed since the patterns were fitted.
            InvalidInputError: an option is unknown or does not fit the model, or the path cannot be written.
            ExportError: the format lacks an operation that the analyzer needs; the message names it.

        Example:
            >>> innvest_lite.Gradient(model).export("served")
            >>> import tensorflow as tf
            >>> served = tf.saved_model.load("served")
            >>> sorted(served.serve(images[:2]))
            ['attributions', 'predictions', 'target']
        """
        self.require_ready()
        shown = {"preprocess": preprocess, "render": render, "colormap": colormap, "input_range": input_range}
        export.export(self, filepath, format, target=target, predictions=predictions, batch=batch, verbose=verbose, **shown)

    def stablehlo(self, batch: Any, target: str = "argmax", *, return_weights: bool = False) -> Any:
        """The explanation as XLA compiles it, as StableHLO text, which any PJRT client compiles and runs.

        The program takes the inputs, with `target="input"` float32 weights on the outputs, then weights of model and
        analyzer. It returns the attributions of each input, and last the exponents, int32 (samples,), see `analyze`.

        Args:
            batch: the number of samples, or samples, for models that leave sizes open.
            target: "argmax" or "input", as in `export`.
            return_weights: whether to return the weights too.

        Returns:
            The text, or `(text, weights)`: also a list of arrays, in the order in which the program takes them.

        Raises:
            InvalidInputError: `batch` is neither, or a size stays open.

        Example:
            >>> text, weights = innvest_lite.Gradient(model).stablehlo(8, return_weights=True)
            >>> "stablehlo.convolution" in text
            True
        """
        return_weights = truth(return_weights, "return_weights")
        self.require_ready()
        found = export.stablehlo(self.explainer, batch, one_of(target, export.TARGETS, "target"))
        return found if return_weights else found[0]
