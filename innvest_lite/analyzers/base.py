"""`Analyzer`: what people call. A Keras model that maps an input to an explanation of the same shape.

`analyze` checks what comes, runs the compiled explanation batch by batch and gives NumPy back; `call` is the same
explanation on tensors.
"""

import logging
import math

import keras
import numpy as np

from innvest_lite import backend, export
from innvest_lite.analyzers import quantus, sweep
from innvest_lite.analyzers.batches import run
from innvest_lite.analyzers.check import CheckReport
from innvest_lite.errors import InvalidInputError
from innvest_lite.forms.registry import form_of
from innvest_lite.graph import passes, trace
from innvest_lite.inputs import input_spec, names_of, one_of, positive, with_token_inputs
from innvest_lite.patterns import files
from innvest_lite.preprocessing import Preprocessor
from innvest_lite.rules import Evaluated, Gradient, anything, bind
from innvest_lite.targets import tensor_weights_of, weights_of

SELECTION_MODES = ("max_activation", "index", "all")

_log = logging.getLogger("innvest_lite")


class Analyzer(keras.Model):
    """The base of all analyzers.

    Args:
        model: a Functional or Sequential `keras.Model`. It is read, never changed.
        output: the name of the output to explain, where the model has several.
        jit_compile: True or False to compile with XLA or not; "auto" does on GPU and TPU, and not on CPU, where
            TensorFlow's own kernels are faster.
        neuron_selection_mode: what `analyze` explains where it is not told: "max_activation", the largest logit; "all",
            their sum; "index", what `analyze(x, neuron_selection=...)` says (iNNvestigate's way; `target=` always works).
        preprocessor: what makes the model's inputs of the images that come: a name that `innvest_lite.images.preprocess`
            takes, such as "vgg16", or a function of a batch, such as a KerasHub task's `preprocessor`. Explanations have
            the shape of what it gives. None: samples come as the model takes them.
        name: the analyzer's name, as of any Keras model.

    Raises:
        UnsupportedLayerError: the model cannot be explained by this method; the message lists every offending node.
        InvalidInputError: there is no output of that name, or no such preprocessor.
    """

    fuses_batchnorm = False
    splits_separable = False
    hands_back = True
    is_random = False

    def __init__(
        self,
        model,
        *,
        output=None,
        jit_compile="auto",
        neuron_selection_mode="max_activation",
        preprocessor=None,
        name=None,
    ):
        super().__init__(name=name or _snake_case(type(self).__name__))
        self.preprocessor = Preprocessor.of(preprocessor)
        self._preprocessing = self.preprocessor and self.preprocessor.layer  # an attribute, so that its weights are saved
        self.neuron_selection_mode = one_of(neuron_selection_mode, SELECTION_MODES, "neuron_selection_mode")
        self.model, self.output_choice = model, output
        if jit_compile not in (True, False, "auto"):
            raise InvalidInputError(f"jit_compile should be True, False or 'auto', but is {jit_compile!r}.")
        self._jit_choice = jit_compile
        self.jit_compile = backend.has_accelerator() if jit_compile == "auto" else bool(jit_compile)
        self._set_graph(trace(model))
        self._programs = backend.Untracked({})
        self.built = True

    def _set_graph(self, graph):
        """Rewrites the model's graph and learns from it what inputs and outputs look like."""
        whole = passes.select_output(passes.split_activations(graph), self.output_choice)
        (head,) = passes.heads(whole)
        self._head = head and form_of(head, whole)
        graph = passes.rewrite(graph, self.fuses_batchnorm, self.splits_separable)
        self._graph = with_token_inputs(passes.select_output(graph, self.output_choice))
        self._inputs_spec = input_spec(self.model, self._graph, self.preprocessor)
        self._output_spec = self._graph.spec(self._graph.outputs[0])

    def plan(self):
        """What the analyzer does, node by node: a `Plan` that prints as a table."""
        rule = Gradient() if self.hands_back else Evaluated()
        return bind(self._graph, [(anything(), rule)], type(self).__name__)

    def fit(self, data=None, batch_size=32, **options):
        """Nothing to fit: this method reads the model alone. Returns the analyzer, so that methods can be swapped."""
        return self

    def call(self, inputs, target=None):
        """Explains a batch of tensors, eagerly or inside a `tf.function`.

        Args:
            inputs: tensors in the structure of the model's inputs, batch first.
            target: as in `analyze`.

        Returns:
            Tensors of the inputs' shapes and structure.
        """
        tensors = self._inputs_spec.tensors(inputs)
        target = self._selected_target(target)
        if target is not None:
            target = tensor_weights_of(target, tensors[0], self._output_spec.shape)
        return self._inputs_spec.packed(inputs, self._explain(tensors, target, ()).relevance)

    def analyze(self, x, target=None, batch_size=32, verbose=0, keep=(), return_exponent=False, *, neuron_selection=None):
        """Explains samples.

        Args:
            x: an array `(samples, ...)`, or a list or dict of them for a model with several inputs; any numeric dtype.
            target: which output to explain. None: the largest logit of each sample. An int, or one int per sample. "all":
                the sum of all outputs. An array of weights of the output's shape (contrastive logits).
            batch_size: how many samples are explained at a time.
            verbose: 1 shows a progress bar.
            keep: names of layers (or nodes of `plan()`) whose relevance is wanted too. A layer's name gives the relevance
                at what the layer hands on, after its activation.
            return_exponent: whether to return the exponents too (see Returns).
            neuron_selection: iNNvestigate's word for `target`, where `neuron_selection_mode` is "index".

        Returns:
            float32 arrays (float64 for a model with float64 inputs) of the shape and structure of `x`, in the method's
            unit. With `keep`, also a dict from name to array. With `return_exponent`, also int32 `(samples,)`: the true
            values of a sample are `result * 2**exponent`; not 0 only where they leave float32's range.

        Raises:
            InvalidInputError: `x`, `target` or `keep` does not fit the model.
            NotFittedError: a pattern method without patterns.
        """
        keep = names_of(keep)
        arrays, weights = self._checked(x, self._selected_target(target, neuron_selection))
        relevance, kept, exponent = self._in_batches(arrays, weights, keep, positive(batch_size, "batch_size"), verbose)
        if exponent.any() and not return_exponent:
            _log.warning(
                "The explanations of %d of %d samples leave the range of float32 and come back divided by a power of two; "
                "their direction is exact. return_exponent=True says by how much.",
                np.count_nonzero(exponent),
                len(exponent),
            )
        result = [self._inputs_spec.packed(x, relevance)]
        result += [dict(zip(keep, kept, strict=True))] if keep else []
        result += [exponent] if return_exponent else []
        return result[0] if len(result) == 1 else tuple(result)

    def check(self, x, target=None, batch_size=32, *, neuron_selection=None):
        """What becomes of the explained output: how much of it the explanation accounts for.

        Args:
            x: as in `analyze`.
            target: as in `analyze`.
            batch_size: as in `analyze`.
            neuron_selection: as in `analyze`.

        Returns:
            A `CheckReport`; methods without a backward sweep of their own have no rows, only the totals.
        """
        arrays, weights = self._checked(x, self._selected_target(target, neuron_selection))
        attributions, _, exponent = self._in_batches(arrays, weights, (), positive(batch_size, "batch_size"), 0)
        sums = sum(array.astype("float64").sum(tuple(range(1, array.ndim))) for array in attributions)
        return CheckReport((), self._explained(arrays, weights, batch_size), np.ldexp(sums, exponent))

    def as_explain_func(self):
        """This analyzer as the `explain_func` of Quantus, `explain(model, inputs, targets, **kwargs)`.

        - model: this analyzer's model, a Keras model like it, Quantus's wrapper of either, or None. Another model is
          explained by this method with these options (Quantus's randomization tests hand models of other weights).
        - inputs: `(samples, ...)`; channels may come first where the model has them last.
        - targets: an output for each sample, or None, as in `analyze`.
        - kwargs: `channel_first=True` says so where both orders would fit. Quantus's `device`, `softmax`, `method`,
          `attributor`, `xai_lib` and `xai_lib_kwargs` are ignored; others are refused.

        Returns:
            The function. It gives an array of the shape of `inputs`, in the method's unit, and raises InvalidInputError
            where an argument does not fit, or where another model would need other patterns.

        Raises:
            InvalidInputError: the model has several inputs, which Quantus cannot hand.

        Example:
            >>> explain = innvest_lite.Gradient(model).as_explain_func()
            >>> explain(model, images[:2].transpose(0, 3, 1, 2), np.array([3, 7]), device="cpu").shape
            (2, 1, 28, 28)
        """
        return quantus.explain_func(self)

    def _explained(self, arrays, weights, batch_size):
        """The explained output of each sample, float64 (samples,)."""
        outputs = self._logits(arrays, batch_size)
        return outputs.max(1) if weights is None else (outputs * weights.reshape(outputs.shape)).sum(1)

    def _logits(self, arrays, batch_size):
        """All outputs that can be explained, float64 (samples, outputs), flat."""
        signature = self._signature(with_target=False)
        program = backend.compiled(lambda *tensors: self._evaluated(tensors), signature, self.jit_compile)
        (outputs,) = run(program, arrays, batch_size, self.jit_compile)
        return outputs.astype("float64").reshape(len(outputs), math.prod(outputs.shape[1:]))

    def _evaluated(self, inputs):
        """The logits of tensors, by the model alone."""
        plan = bind(self._graph, [(anything(), Gradient())], type(self).__name__)
        return sweep.forward(plan, inputs)[0][self._graph.outputs[0]]

    def _predictions(self, logits):
        """What the model itself puts out, from its logits."""
        return logits if self._head is None else self._head.forward(logits)[0]

    def _require_ready(self):
        """Raises where the analyzer cannot explain yet."""

    def _checked(self, x, target):
        """The arrays of `x`, one per input, and weights on the outputs or None for the largest."""
        arrays = self._inputs_spec.flat(x)
        return arrays, None if target is None else weights_of(target, len(arrays[0]), self._output_spec.shape)

    def _selected_target(self, target, neuron_selection=None):
        """The target, in the words of DESIGN or of iNNvestigate."""
        if neuron_selection is not None:
            if target is not None or self.neuron_selection_mode != "index":
                raise InvalidInputError(
                    "neuron_selection goes with neuron_selection_mode='index' and without target; here the mode is "
                    f"{self.neuron_selection_mode!r}. Say analyze(x, target=...) instead."
                )
            return neuron_selection
        if target is None and self.neuron_selection_mode == "index":
            raise InvalidInputError("neuron_selection_mode is 'index': say which, with neuron_selection=.")
        return "all" if target is None and self.neuron_selection_mode == "all" else target

    def _in_batches(self, arrays, weights, keep, batch_size, verbose):
        """Runs the compiled explanation over all samples; returns lists of whole arrays, and the exponents."""
        flat = arrays if weights is None else [*arrays, weights]
        *whole, exponents = run(self._program(weights is not None, keep), flat, batch_size, self.jit_compile, verbose)
        dtype = "float64" if "float64" in self._inputs_spec.dtypes else "float32"
        whole = [array.astype(dtype, copy=False) for array in whole]
        return whole[: len(arrays)], whole[len(arrays) :], exponents

    def _program(self, with_target, keep):
        """The explanation as one compiled graph, traced once for any batch size."""
        key = (with_target, keep)
        if key not in self._programs.value:
            values = self._values(keep)

            def explain(*tensors):
                target = tensors[-1] if with_target else None
                found = self._explain(tensors[: len(self._inputs_spec.names)], target, values)
                return found.relevance, found.kept, found.exponent

            self._programs.value[key] = backend.compiled(explain, self._signature(with_target), self.jit_compile)
        return self._programs.value[key]

    def _signature(self, with_target):
        """What a compiled function takes: the inputs, then the weights on the outputs; any batch size."""
        spec = self._inputs_spec
        signature = [backend.tensor_spec((None, *s[1:]), d) for s, d in zip(spec.shapes, spec.dtypes, strict=True)]
        if with_target:
            signature.append(backend.tensor_spec((None, *self._output_spec.shape[1:]), "float32"))
        return signature

    def _values(self, names):
        """The graph's values of the names given to `keep`."""
        known = {**{node.name: node.values[0] for node in self._graph.nodes}, **self._graph.layer_values}
        unknown = [name for name in names if name not in known]
        if unknown:
            raise InvalidInputError(f"keep names no node of the model: {unknown}. print(analyzer.plan()) lists them.")
        return tuple(known[name] for name in names)

    def _explain(self, inputs, target, keep, seed=None):
        """The explanation on tensors.

        Args:
            inputs: a tensor per input.
            target: None or weights in the shape of the output.
            keep: values whose relevance is wanted too.
            seed: an int64 tensor in place of the seed of a method that `is_random`; None: its own.

        Returns:
            An `Explained`.
        """
        raise NotImplementedError

    def save(self, filepath, **options):
        """Writes a `.keras` file, which `keras.saving.load_model` reads once `innvest_lite` is imported.

        Raises:
            InvalidInputError: another format was asked for, or the preprocessor is a function that Keras does not know.
        """
        if self.preprocessor is not None:
            self.preprocessor.check_saveable()
        if not str(filepath).endswith(".keras"):
            raise InvalidInputError(f"An analyzer is saved as a .keras file, but the path is {str(filepath)!r}.")
        files.check_folder(filepath)
        super().save(filepath, **options)

    def export(self, filepath, format="tf_saved_model", target="argmax", predictions=True, batch=None, **options):
        """Writes the analyzer as a file that runs without this package, in Python or not.

        Its signatures (LiteRT and ONNX have the first alone), of named tensors:

        - `serve`: from `x` (for several inputs, one argument for each, by name), with `target="input"` also `target`, int32
          (samples,), and for random methods `seed`, an int64 scalar; to `attributions` (`attributions_NAME` for several
          inputs), as `analyze` gives them, `target`, int32 (samples,), and `predictions`, what the model itself puts out.
          Prediction and explanation share one forward pass. A target that the model does not have is an error; in LiteRT
          and ONNX, whose programs cannot stop, that sample's attributions are then NaN.
        - `explain`: the same without `predictions`; `predict`: from the inputs to `predictions`.

        Where `analyze` would return an exponent, the values come divided by that power of two. ONNX does not hand out a
        target that came in.

        Args:
            filepath: a folder for a SavedModel, else a file that ends in .tflite or .onnx. A SavedModel there is replaced.
            format: "tf_saved_model", which holds every analyzer; "litert" or "onnx", which hold those that need no
                operation that these formats lack, and all weights as float32 ("onnx" wants the packages onnx and tf2onnx).
            target: which output is explained: "argmax", the largest of each sample, or "input", what the caller says.
            predictions: whether to hand out the model's output too.
            batch: the number of samples of a call; None: any number. With a number, methods that evaluate a sample many
                times do so side by side.
            **options: `preprocess`, as the analyzer's `preprocessor` (which is the default): then `x` is uint8 images in
                0..255. (Hand over uint8: TensorFlow makes uint8 of NumPy floats without a word.) `render`: "heatmap",
                "signal" or "overlay", for uint8 pictures (samples, height, width, 3) as `innvest_lite.visualize` makes
                them, handed out as `picture`; `colormap`, of the pictures. `input_range`, `(low, high)` of the model's
                input, for the description. `verbose`: True prints the path.

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
        options = export.completed(options)
        self._require_ready()
        export.export(self, filepath, format, target=target, predictions=predictions, batch=batch, **options)

    def stablehlo(self, batch, target="argmax", *, return_weights=False):
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
        self._require_ready()
        found = export.stablehlo(self, batch, one_of(target, export.TARGETS, "target"))
        return found if return_weights else found[0]

    def get_config(self):
        """The model and the options, as Keras serializes them."""
        model = keras.saving.serialize_keras_object(self.model)
        # How the model was trained does not matter here, and its loss may be a function that no file can hold.
        model.pop("compile_config", None)
        return {
            "model": model,
            "output": self.output_choice,
            "jit_compile": self._jit_choice,
            "neuron_selection_mode": self.neuron_selection_mode,
            "preprocessor": self.preprocessor and self.preprocessor.config(),
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config):
        """An analyzer from `get_config`; a model file's custom layers come through `custom_objects`, as in Keras."""
        model = config["model"]
        model = model if isinstance(model, keras.Model) else keras.saving.deserialize_keras_object(model)
        preprocessor = Preprocessor.from_config(config.get("preprocessor"))
        return cls(**{**config, "model": model, "preprocessor": preprocessor})

    def _for_model(self, model):
        """An analyzer of the same method and options for another model."""
        return type(self).from_config({**self.get_config(), "model": model, "preprocessor": self.preprocessor})


def _snake_case(name):
    return "".join("_" + letter.lower() if letter.isupper() else letter for letter in name).lstrip("_")
