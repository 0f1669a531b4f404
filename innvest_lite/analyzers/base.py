"""`Analyzer`: what people call. A Keras model that maps an input to an explanation of the same shape.

`analyze` checks what comes, runs the compiled explanation batch by batch and gives NumPy back; `call` is the same
explanation on tensors. `ReverseAnalyzer` is an analyzer that is one forward and one backward sweep over a plan.
"""

import logging

import keras
import numpy as np
from keras import ops

from innvest_lite import backend
from innvest_lite.analyzers import sweep
from innvest_lite.analyzers.check import check, measured
from innvest_lite.errors import InvalidInputError, UnsupportedLayerError
from innvest_lite.graph import passes, trace
from innvest_lite.inputs import input_spec, is_integer, positive, weights_of
from innvest_lite.rules import Gradient, anything, bind

_log = logging.getLogger("innvest_lite")


class Analyzer(keras.Model):
    """The base of all analyzers.

    Args:
        model: a Functional or Sequential `keras.Model`. It is read, never changed.
        output: the name of the output to explain, where the model has several.
        jit_compile: True or False to compile with XLA or not; "auto" does on GPU and TPU, and not on CPU, where
            TensorFlow's own kernels are faster.
        name: the analyzer's name, as of any Keras model.

    Raises:
        UnsupportedLayerError: the model cannot be explained by this method; the message lists every offending node.
        InvalidInputError: there is no output of that name.
    """

    fuses_batchnorm = False

    def __init__(self, model, *, output=None, jit_compile="auto", name=None):
        super().__init__(name=name or _snake_case(type(self).__name__))
        self.model = model
        self.output_choice = output
        self._jit_choice = jit_compile
        self.jit_compile = backend.has_accelerator() if jit_compile == "auto" else bool(jit_compile)
        self._set_graph(trace(model))
        self._programs = {}
        self.built = True

    def _set_graph(self, graph):
        """Rewrites the model's graph and learns from it what inputs and outputs look like."""
        self._graph = _selected(passes.rewrite(graph, self.fuses_batchnorm), self.output_choice)
        self._inputs_spec = input_spec(self.model, self._graph)
        self._output_spec = _spec_of(self._graph, self._graph.outputs[0])

    def plan(self):
        """What the analyzer does, node by node: a `Plan` that prints as a table."""
        return bind(self._graph, [(anything(), Gradient())], type(self).__name__)

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
        dtypes = self._inputs_spec.dtypes
        tensors = [ops.cast(x, dtype) for x, dtype in zip(keras.tree.flatten(inputs), dtypes, strict=True)]
        if target is not None:
            target = self._tensor_target(target, tensors[0])
        relevance, _, _ = self._explain(tensors, target, ())
        return keras.tree.pack_sequence_as(inputs, relevance)

    def _tensor_target(self, target, x):
        """Weights on the outputs from what `call` takes; Keras has made tensors of arrays."""
        shape = self._output_spec.shape
        if not ops.is_tensor(target):
            # One row, for all samples alike, where the batch axis is open.
            return ops.convert_to_tensor(weights_of(target, x.shape[0] or 1, shape))
        if not is_integer(target.dtype) or len(target.shape) > 1:
            return target
        return ops.one_hot(ops.broadcast_to(target, ops.shape(x)[:1]), shape[-1])

    def analyze(self, x, target=None, batch_size=32, verbose=0, keep=(), return_exponent=False):
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

        Returns:
            float32 arrays of the shape and structure of `x`, in the method's unit. With `keep`, also a dict from name
            to array. With `return_exponent`, also int32 `(samples,)`: the true values of a sample are
            `result * 2**exponent`; not 0 only where they leave float32's range.

        Raises:
            InvalidInputError: `x`, `target` or `keep` does not fit the model.
            NotFittedError: a pattern method without patterns.
        """
        keep = _names(keep)
        arrays = self._inputs_spec.flat(x)
        weights = None if target is None else weights_of(target, len(arrays[0]), self._output_spec.shape)
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

    def _in_batches(self, arrays, weights, keep, batch_size, verbose):
        """Runs the compiled explanation over all samples; returns lists of whole arrays, and the exponents."""
        program, count = self._program(weights is not None, keep), len(arrays[0])
        flat = arrays if weights is None else [*arrays, weights]
        # An empty input is explained through one sample of zeros, of which nothing is kept.
        starts = range(0, max(count, 1), batch_size)
        bar = keras.utils.Progbar(len(starts), verbose=verbose) if verbose not in (0, "auto") else None
        batches = []
        for start in starts:
            parts = [array[start : start + batch_size] for array in flat]
            size = len(parts[0])
            padded = batch_size if self.jit_compile and count > batch_size else max(size, 1)
            outputs = program(*[_padded(part, padded) for part in parts])
            batches.append([np.asarray(output)[:size] for output in keras.tree.flatten(outputs)])
            if bar:
                bar.add(1)
        whole = [np.concatenate(parts) if len(parts) > 1 else parts[0] for parts in zip(*batches, strict=True)]
        inputs = len(arrays)
        return whole[:inputs], whole[inputs:-1], whole[-1]

    def _program(self, with_target, keep):
        """The explanation as one compiled graph, traced once for any batch size."""
        key = (with_target, keep)
        if key not in self._programs:
            values = self._values(keep)

            def explain(*tensors):
                target = tensors[-1] if with_target else None
                return self._explain(tensors[: len(self._inputs_spec.names)], target, values)

            self._programs[key] = backend.compiled(explain, self._signature(with_target), self.jit_compile)
        return self._programs[key]

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
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config):
        """An analyzer from `get_config`; a model file's custom layers come through `custom_objects`, as in Keras."""
        return cls(**{**config, "model": keras.saving.deserialize_keras_object(config["model"])})


class ReverseAnalyzer(Analyzer):
    """An analyzer that hands relevance from the output back to the input by the rules of a composite.

    Subclasses give the composite and say where the relevance starts.

    Args:
        fallback: "gradient" lets the plain gradient stand in at nodes for which the method has no rule; None (the
            default) makes them an error.
    """

    rescales = False
    starts_from_logit = False

    def __init__(self, model, *, fallback=None, **options):
        if fallback not in (None, "gradient"):
            raise InvalidInputError(f"fallback should be None or 'gradient', but is {fallback!r}.")
        self._fallback = fallback
        super().__init__(model, **options)

    def composite(self):
        """The ordered list of (matcher, rule) of the method."""
        raise NotImplementedError

    def _set_graph(self, graph):
        super()._set_graph(graph)
        last = [(anything(), Gradient())] if self._fallback else []
        self._plan = bind(self._graph, [*self.composite(), *last], type(self).__name__)

    def plan(self):
        """What the analyzer does, node by node: a `Plan` that prints as a table."""
        return self._plan

    def check(self, x, target=None, batch_size=32):
        """What happens to the relevance on its way, node by node.

        Args:
            x: as in `analyze`.
            target: as in `analyze`.
            batch_size: as in `analyze`.

        Returns:
            A `CheckReport`, which prints as a table: per node the relevance that arrived and was handed on, and where the
            difference went.
        """
        arrays = self._inputs_spec.flat(x)
        weights = None if target is None else weights_of(target, len(arrays[0]), self._output_spec.shape)
        return check(self, arrays, weights, positive(batch_size, "batch_size"))

    def check_program(self, with_target):
        """The numbers of `check` as one compiled graph."""
        key = ("check", with_target)

        def numbers(*tensors):
            inputs = tensors[: len(self._inputs_spec.names)]
            start, swept = self._swept(inputs, tensors[-1] if with_target else None, ())
            return measured(start, swept, self._graph.inputs)

        if key not in self._programs:
            self._programs[key] = backend.compiled(numbers, self._signature(with_target), self.jit_compile)
        return self._programs[key]

    def _kernels(self):
        """Node name -> the kernel that rules with `needs_kernel` back-project with."""
        return {}

    def _swept(self, inputs, target, keep):
        """The forward and the backward sweep: the relevance that it starts from, and a `Swept`."""
        values, calls = sweep.forward(self._plan, inputs)
        logits = values[self._graph.outputs[0]]
        weights = (
            _largest(logits) if target is None else ops.broadcast_to(ops.cast(target, logits.dtype), ops.shape(logits))
        )
        start = weights * logits if self.starts_from_logit else weights
        swept = sweep.backward(self._plan, calls, start, self._kernels(), keep, self.rescales)
        return start, swept

    def _explain(self, inputs, target, keep):
        _, swept = self._swept(inputs, target, keep)
        swept = sweep.undo_rescaling(swept) if self.rescales else swept
        relevance = [self._arrived(swept, value, x) for value, x in zip(self._graph.inputs, inputs, strict=True)]
        kept = [swept.relevance.get(value) for value in keep]
        missing = [value.node for value, tensor in zip(keep, kept, strict=True) if tensor is None]
        if missing:
            raise InvalidInputError(f"No relevance passes through {', '.join(missing)}; leave them out of keep.")
        return relevance, [_single(tensor) for tensor in kept], swept.exponent

    def _arrived(self, swept, value, x):
        """The relevance of an input; zeros where the output does not depend on it."""
        if value in swept.relevance:
            return _single(swept.relevance[value])
        if is_integer(x.dtype) and self._graph.consumers.get(value):
            users = ", ".join(node.name for node in self._graph.consumers[value])
            raise UnsupportedLayerError(
                f"Input {value.node!r} holds integers and feeds {users}, through which no relevance can be followed. "
                "Explain the model from the first layer that computes with floats."
            )
        return ops.zeros_like(x, dtype="float32")

    def get_config(self):
        """The model and the options, as Keras serializes them."""
        return {**super().get_config(), "fallback": self._fallback}


def _single(tensor):
    return tensor if tensor.dtype == "float64" else ops.cast(tensor, "float32")


def _largest(logits):
    """One-hot weights of each sample's largest logit, in the logits' shape and dtype."""
    flat = ops.reshape(logits, (ops.shape(logits)[0], -1))
    one_hot = ops.one_hot(ops.argmax(flat, axis=-1), flat.shape[-1] or ops.shape(flat)[-1], dtype=logits.dtype)
    return ops.reshape(one_hot, ops.shape(logits))


def _selected(graph, output):
    if output is None and len(graph.outputs) > 1:
        raise InvalidInputError(f"The model has several outputs; choose one: output= one of {list(graph.output_names)}.")
    if output is not None and output not in graph.output_names:
        raise InvalidInputError(f"The model has no output {output!r}; it has {list(graph.output_names)}.")
    return passes.select_output(graph, output)


def _spec_of(graph, value):
    producer = graph.producer(value)
    return producer.output_specs[value.index] if producer else graph.input_specs[graph.inputs.index(value)]


def _padded(array, size):
    """Repeats the last sample (or zeros, where there is none) up to `size` samples."""
    missing = size - len(array)
    if not missing:
        return array
    last = array[-1:] if len(array) else np.zeros((1, *array.shape[1:]), array.dtype)
    return np.concatenate([array, np.repeat(last, missing, axis=0)])


def _names(keep):
    """What `keep=` may be, as a tuple of names."""
    keep = (keep,) if isinstance(keep, str) else keep
    if not isinstance(keep, list | tuple | set) or not all(isinstance(name, str) for name in keep):
        raise InvalidInputError(f"keep should be names of layers, but is {keep!r}.")
    return tuple(keep)


def _snake_case(name):
    return "".join("_" + letter.lower() if letter.isupper() else letter for letter in name).lstrip("_")
