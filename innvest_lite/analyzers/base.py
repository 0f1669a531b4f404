"""`Analyzer`: what people call. A Keras model that maps an input to an explanation of the same shape.

`analyze` checks what comes, runs the compiled explanation batch by batch and gives NumPy back; `call` is the same
explanation on tensors.
"""

import logging
import math

import keras
import numpy as np
from keras import ops

from innvest_lite import backend
from innvest_lite.analyzers import quantus, sweep
from innvest_lite.analyzers.batches import run
from innvest_lite.analyzers.check import CheckReport
from innvest_lite.errors import InvalidInputError
from innvest_lite.graph import passes, trace
from innvest_lite.inputs import input_spec, is_integer, one_of, positive, weights_of, with_token_inputs
from innvest_lite.patterns import files
from innvest_lite.rules import Evaluated, Gradient, anything, bind

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
        name: the analyzer's name, as of any Keras model.

    Raises:
        UnsupportedLayerError: the model cannot be explained by this method; the message lists every offending node.
        InvalidInputError: there is no output of that name.
    """

    fuses_batchnorm = False
    splits_separable = False
    hands_back = True

    def __init__(self, model, *, output=None, jit_compile="auto", neuron_selection_mode="max_activation", name=None):
        super().__init__(name=name or _snake_case(type(self).__name__))
        self.neuron_selection_mode = one_of(neuron_selection_mode, SELECTION_MODES, "neuron_selection_mode")
        self.model = model
        self.output_choice = output
        if jit_compile not in (True, False, "auto"):
            raise InvalidInputError(f"jit_compile should be True, False or 'auto', but is {jit_compile!r}.")
        self._jit_choice = jit_compile
        self.jit_compile = backend.has_accelerator() if jit_compile == "auto" else bool(jit_compile)
        self._set_graph(trace(model))
        self._programs = backend.Untracked({})
        self.built = True

    def _set_graph(self, graph):
        """Rewrites the model's graph and learns from it what inputs and outputs look like."""
        graph = passes.rewrite(graph, self.fuses_batchnorm, self.splits_separable)
        self._graph = with_token_inputs(_selected(graph, self.output_choice))
        self._inputs_spec = input_spec(self.model, self._graph)
        self._output_spec = _spec_of(self._graph, self._graph.outputs[0])

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
            target = self._tensor_target(target, tensors[0])
        relevance, _, _ = self._explain(tensors, target, ())
        return self._inputs_spec.packed(inputs, relevance)

    def _tensor_target(self, target, x):
        """Weights on the outputs from what `call` takes; Keras has made tensors of arrays."""
        shape = self._output_spec.shape
        if not ops.is_tensor(target):
            # One row, for all samples alike, where the batch axis is open.
            return ops.convert_to_tensor(weights_of(target, x.shape[0] or 1, shape))
        if not is_integer(target.dtype) or len(target.shape) > 1:
            return target
        return ops.one_hot(ops.broadcast_to(target, ops.shape(x)[:1]), shape[-1])

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
        keep = _names(keep)
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
        plan = bind(self._graph, [(anything(), Gradient())], type(self).__name__)

        def logits(*tensors):
            return sweep.forward(plan, tensors)[0][self._graph.outputs[0]]

        program = backend.compiled(logits, self._signature(with_target=False), self.jit_compile)
        (outputs,) = run(program, arrays, batch_size, self.jit_compile)
        return outputs.astype("float64").reshape(len(outputs), math.prod(outputs.shape[1:]))

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
                return self._explain(tensors[: len(self._inputs_spec.names)], target, values)

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

    def _explain(self, inputs, target, keep):
        """The explanation on tensors.

        Args:
            inputs: a tensor per input.
            target: None or weights in the shape of the output.
            keep: values whose relevance is wanted too.

        Returns:
            `(relevance, kept, exponent)`: a list per input, a list per value of `keep`, int32 (batch,).
        """
        raise NotImplementedError

    def save(self, filepath, **options):
        """Writes a `.keras` file, which `keras.saving.load_model` reads once `innvest_lite` is imported.

        Raises:
            InvalidInputError: another format was asked for.
        """
        if not str(filepath).endswith(".keras"):
            raise InvalidInputError(f"An analyzer is saved as a .keras file, but the path is {str(filepath)!r}.")
        files.check_folder(filepath)
        super().save(filepath, **options)

    def export(self, filepath, **options):
        """Writes a SavedModel that needs no innvest_lite to run; options as in `keras.Model.export`."""
        specs = self._signature(with_target=False)
        options.setdefault("input_signature", specs if len(specs) == 1 else [specs])
        return super().export(filepath, **options)

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
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config):
        """An analyzer from `get_config`; a model file's custom layers come through `custom_objects`, as in Keras."""
        model = config["model"]
        model = model if isinstance(model, keras.Model) else keras.saving.deserialize_keras_object(model)
        return cls(**{**config, "model": model})

    def _for_model(self, model):
        """An analyzer of the same method and options for another model."""
        return type(self).from_config({**self.get_config(), "model": model})


def _selected(graph, output):
    if output is None and len(graph.outputs) > 1:
        raise InvalidInputError(f"The model has several outputs; choose one: output= one of {list(graph.output_names)}.")
    if output is not None and output not in graph.output_names:
        raise InvalidInputError(f"The model has no output {output!r}; it has {list(graph.output_names)}.")
    return passes.select_output(graph, output)


def _spec_of(graph, value):
    producer = graph.producer(value)
    return producer.output_specs[value.index] if producer else graph.input_specs[graph.inputs.index(value)]


def _names(keep):
    """What `keep=` may be, as a tuple of names."""
    keep = (keep,) if isinstance(keep, str) else keep
    if not isinstance(keep, list | tuple | set) or not all(isinstance(name, str) for name in keep):
        raise InvalidInputError(f"keep should be names of layers, but is {keep!r}.")
    return tuple(keep)


def _snake_case(name):
    return "".join("_" + letter.lower() if letter.isupper() else letter for letter in name).lstrip("_")
