"""Files of compiled functions: SavedModel, LiteRT, ONNX. Called by `innvest_lite.export`.

A SavedModel holds a function as TensorFlow traced it. The other two hold it `lowered`, and name the operations they lack.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from innvest_lite.backend.portable import lowered
from innvest_lite.errors import ExportError


def named_spec(shape: Sequence[int | None], dtype: Any, name: str) -> tf.TensorSpec:
    """The shape (None where it may vary), dtype and name of an argument."""
    return tf.TensorSpec(shape, dtype, name)


def endpoint(function: Callable[..., dict[str, Any]], signature: Sequence[tf.TensorSpec]) -> Any:
    """A function of named tensors, by place or by name, that returns a dict of them; traced once, now.

    Args:
        function: takes one tensor per spec and returns a dict from name to tensor.
        signature: a `named_spec` for each argument.
    """

    def named(*tensors):
        return function(*tensors)

    # Whoever loads a SavedModel calls its functions by the names that stand here.
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    names = inspect.Signature([inspect.Parameter(spec.name, kind) for spec in signature])
    named.__signature__ = names  # type: ignore[attr-defined]  # read by inspect, unknown to the checker
    traced = tf.function(named, input_signature=signature, autograph=False)
    traced.get_concrete_function()
    return traced


def write_saved_model(folder: str | os.PathLike[str], endpoints: Mapping[str, Any], assets: Mapping[str, str]) -> None:
    """Writes a SavedModel; the first endpoint is the default signature of servers too.

    Args:
        folder: the folder to write.
        endpoints: name -> an `endpoint`; both the name of a signature and of an attribute of what `tf.saved_model.load`
            gives.
        assets: name -> text of a file in `assets.extra`, TensorFlow's place for what its runtime does not read.
    """
    module = tf.Module()
    module.weights = _weights(endpoints.values())
    concrete = {}
    for name, traced in endpoints.items():
        # TensorFlow traces again what it saves, and would write both graphs: of a call, that is nothing.
        called = endpoint(traced.get_concrete_function(), traced.input_signature)
        setattr(module, name, called)
        concrete[name] = called.get_concrete_function()
    default = {tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY: next(iter(concrete.values()))}
    with _names_that_can_be_written(module.weights):
        tf.saved_model.save(module, folder, signatures={**concrete, **default})
    os.makedirs(os.path.join(folder, "assets.extra"), exist_ok=True)
    for name, text in assets.items():
        with open(os.path.join(folder, "assets.extra", name), "w", encoding="utf-8") as stream:
            stream.write(text)


@contextlib.contextmanager
def _names_that_can_be_written(variables):
    """Meanwhile no variable's name begins with an underscore: TensorFlow writes no such names."""
    named = [(variable, variable._handle_name) for variable in variables if variable.name.startswith("_")]
    try:
        for variable, name in named:
            variable._handle_name = f"w{name}"
        yield
    finally:
        for variable, name in named:
            variable._handle_name = name


def is_saved_model(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder holds a SavedModel."""
    return tf.saved_model.contains_saved_model(folder)


def _weights(endpoints):
    """The variables that endpoints use; a graph also lists those that were merely read while it was traced."""
    found = {}
    for traced in endpoints:
        graph = traced.get_concrete_function().graph
        taken = {id(outside) for outside, _ in graph.captures}
        found.update((id(variable), variable) for variable in graph.variables if id(variable.handle) in taken)
    return list(found.values())


def litert_model(traced: Any) -> bytes:
    """The bytes of a LiteRT file of one endpoint, the signature "serve", of LiteRT's own operations alone.

    Raises:
        ExportError: LiteRT lacks an operation; the message names all.
    """
    # Not at the top: TensorFlow itself loads its converter late.
    from tensorflow.lite.python.convert_phase import ConverterError

    with tempfile.TemporaryDirectory() as folder:
        write_saved_model(folder, {"serve": _portable(traced)}, {})
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=["serve"])
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        try:
            return converter.convert()
        except ConverterError as error:
            missing = sorted({cause.operator.name.removeprefix("tf.") for cause in error.errors} - {""})
            raise ExportError(_stopped_by("LiteRT", traced, missing, str(error))) from error


def onnx_model(traced: Any, metadata: Mapping[str, str]) -> bytes:
    """The bytes of an ONNX file of one endpoint.

    Args:
        traced: an `endpoint`.
        metadata: name -> text.

    Raises:
        ExportError: ONNX lacks an operation; the message names all. Or tf2onnx is not installed.
    """
    try:
        import onnx
        import tf2onnx  # noqa: F401  Keras looks for it.
    except ImportError as error:
        raise ExportError("ONNX files need tf2onnx, which is not installed: pip install tf2onnx onnx") from error
    signature = traced.input_signature
    whole = _Whole(_portable(traced))
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.onnx")
        try:
            with warnings.catch_warnings():
                # These are about how tf2onnx uses NumPy.
                warnings.simplefilter("ignore", FutureWarning)
                whole.export(path, format="onnx", verbose=False, input_signature=[list(signature)], opset_version=_OPSET)
            model = onnx.load(path)
        except _TF2ONNX_ERRORS as error:
            raise ExportError(_stopped_by("ONNX", traced, [], str(error))) from error
    missing = sorted({node.op_type for node in _nodes(model.graph) if not onnx.defs.has(node.op_type, node.domain)})
    if missing:
        raise ExportError(_stopped_by("ONNX", traced, missing, ""))
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError) as error:
        raise ExportError(_stopped_by("ONNX", traced, [], str(error))) from error
    _name_batches(model.graph)
    onnx.helper.set_model_props(model, metadata)
    return model.SerializeToString()


# What tf2onnx raises at graphs that it does not expect.
_TF2ONNX_ERRORS = (AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
# What onnxruntime has had since 2023.
_OPSET = 18


class _Whole(keras.Model):
    """A traced function as a Keras model, which Keras can hand to tf2onnx."""

    def __init__(self, traced):
        super().__init__(name="portable")
        self._traced = (traced,)
        self.built = True

    def call(self, inputs):
        return self._traced[0](*inputs)


def _portable(traced):
    """An endpoint of the same signature and outputs whose operations are `lowered`."""
    concrete = traced.get_concrete_function()
    names = sorted(concrete.structured_outputs)
    function = lowered(concrete)
    return endpoint(lambda *tensors: dict(zip(names, function(*tensors), strict=True)), traced.input_signature)


def _name_batches(graph):
    """Calls the open first axis of what comes in and goes out "batch"; tf2onnx numbers it anew each time."""
    for value in (*graph.input, *graph.output):
        axes = value.type.tensor_type.shape.dim
        if axes and axes[0].HasField("dim_param"):
            axes[0].dim_param = "batch"


def _nodes(graph):
    """All nodes of an ONNX graph, also of those within loops."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                yield from _nodes(inner)


def _stopped_by(name, traced, operations, detail):
    dtypes = {x.dtype for operation in traced.get_concrete_function().graph.get_operations() for x in operation.outputs}
    others = sorted(dtype.name for dtype in dtypes if dtype.is_floating and dtype != tf.float32)
    if others:
        return (
            f"{name} cannot hold this analyzer, which computes in {', '.join(others)}; {name} supports float32 alone. "
            "Export it as a SavedModel, which holds every analyzer, or a copy of the model in float32."
        )
    if operations:
        return (
            f"{name} cannot hold this analyzer: it has no {', '.join(operations)}. Export it as a SavedModel, which holds "
            "every analyzer, or choose another method."
        )
    return f"{name} cannot hold this analyzer: {detail.strip()[:500] or 'the converter gave no reason'}"
