"""Tracing and the passes: names, order, equal outputs, what must not be fused, and Keras's private attributes by name."""

import importlib
import pathlib
import re

import keras
import models
import numpy as np
import pytest
from keras import layers

import innvest_lite
from innvest_lite.forms import forms_of
from innvest_lite.graph import Slot, Value, passes, trace

trace_module = importlib.import_module("innvest_lite.graph.trace")
TOLERANCE = 1e-5


def evaluate(graph, x):
    """The outputs of a graph whose activations are split, through its forms."""
    forms = forms_of(graph)
    values = dict(zip(graph.inputs, map(keras.ops.convert_to_tensor, keras.tree.flatten(x)), strict=True))
    for node in graph.nodes:
        outputs = forms[node.name].forward(*(values[value] for value in node.inputs))
        values.update(zip(node.values, outputs, strict=True))
    return [values[value].numpy() for value in graph.outputs]


def assert_computes(graph, model, x, expected=None):
    """A graph gives what `predict` gives, relative to the largest value."""
    expected = expected or keras.tree.flatten(model.predict(x, verbose=0))
    for actual, wanted in zip(evaluate(graph, x), expected, strict=True):
        assert actual.shape == wanted.shape
        difference = np.abs(actual - wanted).max() / np.abs(wanted).max()
        assert difference <= TOLERANCE, f"differs by {difference:.2g}"


def names(graph):
    return [node.name for node in graph.nodes]


# Tracing -------------------------------------------------------------------------------------------------------------

EXPECTED_NODES = {
    "dense": "first second out",
    "shared": "shared bn shared#2 shared#3 bn#2 both out",
    "nested": "middle/inner/conv middle/inner/drop middle/inner/add middle/relu stack/conv stack/bn flat out",
    "nested_twice": "inner/conv inner/drop inner/add relu inner#2/conv inner#2/drop inner#2/add flat out",
    "two_inputs": "first flat hidden both out",
    "sequential": "conv flat out",
    "built": "hidden out",
}


@pytest.mark.parametrize("name", EXPECTED_NODES)
def test_names_of_nodes(name):
    """A shared layer's calls are numbered, a nested model's layers stand behind its name."""
    assert sorted(names(trace(models.case(name).model))) == sorted(EXPECTED_NODES[name].split())


def test_calls_are_numbered_in_the_order_in_which_they_were_made():
    """Also where the first call stands nearer to the output than the second."""
    one, two = keras.Input((3,), name="one"), keras.Input((3,), name="two")
    shared = layers.Dense(3, name="shared")
    first, second = shared(one), shared(two)
    graph = trace(keras.Model([one, two], layers.Add(name="add")([first, layers.ReLU(name="relu")(second)])))
    assert graph.node_of["shared"].inputs == (Value("one"),)
    assert graph.node_of["shared#2"].inputs == (Value("two"),)


@pytest.mark.parametrize("name", models.NAMES)
def test_nodes_come_after_what_they_take(name):
    graph = trace(models.case(name).model)
    known = set(graph.inputs)
    for node in graph.nodes:
        assert set(node.inputs) <= known
        assert len(node.inputs) == len(node.input_specs)
        known.update(node.values)
    assert set(graph.outputs) <= known
    assert len(set(names(graph))) == len(graph.nodes)


@pytest.mark.parametrize("name", models.NAMES)
def test_the_whole_calls_compute_the_model(name):
    """Before any pass: `Node.call` of every node."""
    model, x = models.case(name).model, models.case(name).x
    graph = trace(model)
    values = dict(zip(graph.inputs, map(keras.ops.convert_to_tensor, keras.tree.flatten(x)), strict=True))
    for node in graph.nodes:
        values.update(zip(node.values, node.call(*(values[value] for value in node.inputs)), strict=True))
    for value, wanted in zip(graph.outputs, models.predicted(name)[0], strict=True):
        np.testing.assert_allclose(values[value], wanted, rtol=0, atol=TOLERANCE * np.abs(wanted).max())


def test_inputs_and_arguments_are_in_the_models_order():
    graph = trace(models.case("dict_inputs").model)
    assert graph.inputs == (Value("a"), Value("z"))  # as keras.tree flattens a dict
    assert [spec.shape for spec in graph.input_specs] == [(None, 3, 2), (None, 4)]
    one, two = keras.Input((3,), name="one"), keras.Input((3,), name="two")
    graph = trace(keras.Model([one, two], layers.Subtract(name="minus")([two, one])))
    assert graph.node_of["minus"].inputs == (Value("two"), Value("one"))
    assert graph.node_of["minus"].arguments == (([Slot(0), Slot(1)],), {})


def test_several_outputs_have_names_and_several_consumers():
    graph = trace(models.case("several").model)
    assert graph.output_names == ("other", "out")
    assert graph.outputs == (Value("other"), Value("out"))
    assert [node.name for node in graph.consumers[Value("hidden")]] == ["out", "other"]
    assert graph.producer(Value("x")) is None
    assert names(passes.select_output(graph, "out")) == ["hidden", "out"]


def test_a_model_that_hands_its_input_on_is_inlined():
    x = keras.Input((3,), name="x")
    inner_x = keras.Input((3,), name="inner_x")
    inner = keras.Model(inner_x, [inner_x, layers.Dense(3, name="dense")(inner_x)], name="inner")
    graph = trace(keras.Model(x, layers.Add(name="add")(inner(x))))
    assert graph.node_of["add"].inputs == (Value("x"), Value("inner/dense"))


def test_a_nested_model_that_casts_gets_a_cast():
    x = keras.Input((3,), name="x")
    inner_x = keras.Input((3,), dtype="float16", name="inner_x")
    dense = layers.Dense(2, dtype="float16", name="dense")
    model = models.randomize(keras.Model(x, keras.Model(inner_x, dense(inner_x), name="inner")(x)), seed=1)
    graph = trace(model)
    assert [spec.dtype for spec in graph.node_of["inner/dense"].input_specs] == ["float16"]
    data = models.normal(4, 3)
    np.testing.assert_array_equal(evaluate(graph, data)[0], model(data))


def test_specs_say_where_keras_masks():
    graph = trace(models.case("masked_text").model)
    assert graph.node_of["gap"].input_specs[0].masked
    assert not trace(models.case("text").model).node_of["gap"].input_specs[0].masked


def assert_inlined(model):
    """No node is a model, and every layer of a nested model has a node."""
    nodes = trace(model).nodes
    assert not [node.name for node in nodes if isinstance(node.operation, keras.Model)], "a nested model is one node"
    wanted = {id(layer) for layer in model._flatten_layers(include_self=False) if not layer._layers}
    missing = wanted - {id(node.operation) for node in nodes}
    inputs = {id(layer) for layer in model._flatten_layers() if isinstance(layer, keras.layers.InputLayer)}
    assert not missing - inputs, "a layer has no node"


@pytest.mark.parametrize("name", ["nested", "nested_twice"])
def test_nested_models_are_inlined(name):
    assert_inlined(models.case(name).model)


def test_planted_skipped_nested_model(monkeypatch):
    """A tracer that takes a nested model for a layer, or leaves it out, is caught."""
    model, x = models.case("nested").model, models.case("nested").x
    with monkeypatch.context() as patch:
        patch.setattr(trace_module, "is_nested", lambda operation: False)
        with pytest.raises(AssertionError, match="a nested model is one node"):
            assert_inlined(model)

    def skip(tracer, node, name, values):
        return tuple(values[id(tensor)] for tensor in node.input_tensors)

    monkeypatch.setattr(trace_module._Tracer, "_inline", skip)
    with pytest.raises(AssertionError, match="a layer has no node"):
        assert_inlined(model)
    with pytest.raises(AssertionError, match="differs by"):
        assert_computes(passes.split_activations(trace(model)), model, x)


# Passes --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", models.NAMES)
def test_split_activations(name):
    model, x = models.case(name).model, models.case(name).x
    graph = passes.split_activations(trace(model))
    assert_computes(graph, model, x, models.predicted(name)[0])
    for node in graph.nodes:
        activation = getattr(node.operation, "activation", None)
        if isinstance(node.operation, passes.LINEAR_LAYERS) and activation is not keras.activations.linear:
            assert node.part in ("linear", "activation")


@pytest.mark.parametrize("name", models.NAMES)
def test_split_separable_and_fuse_batchnorm(name):
    model, x = models.case(name).model, models.case(name).x
    split = passes.split_separable(passes.split_activations(trace(model)))
    assert_computes(split, model, x, models.predicted(name)[0])
    assert not [node for node in split.nodes if isinstance(node.operation, passes._SEPARABLE) and node.part == "linear"]
    assert_computes(passes.fuse_batchnorm(split), model, x, models.predicted(name)[0])


@pytest.mark.parametrize("fuse", [False, True])
@pytest.mark.parametrize("name", models.NAMES)
def test_rewrite_ends_at_the_logits(name, fuse):
    """All passes together, against a model that Keras made without the last activation."""
    case = models.case(name)
    graph = passes.rewrite(trace(case.model), fuse=fuse, split=fuse)
    graph = passes.select_output(graph, case.options.get("output"))
    assert_computes(graph, case.logits, case.x, models.predicted(name)[1])


def test_names_of_the_parts_and_values_of_the_layers():
    graph = passes.rewrite(trace(models.case("separable").model), fuse=True, split=True)
    parts = ["separable/depthwise", "separable/pointwise", "separable/activation"]
    assert names(graph)[:3] == parts
    assert graph.layer_values["separable"] == Value("separable/activation")
    assert names(graph)[3:] == ["depthwise", "relu", "plain/depthwise", "plain/pointwise", "flat", "out"]
    assert graph.layer_values["bn2"] == Value("plain/pointwise")
    assert graph.node_of["plain/pointwise"].batchnorm.name == "bn2"
    assert graph.node_of["plain/depthwise"].batchnorm is None


FUSED = {
    "conv_bn": {"conv1": "bn1", "conv2": "bn2", "dense": "bn3"},
    "residual": {"branch": "bn"},
    "shared": {},  # the ReLU stands between
    "separable": {"depthwise": "bn1", "plain/pointwise": "bn2"},
}


@pytest.mark.parametrize("name", FUSED)
def test_what_is_fused(name):
    graph = passes.rewrite(trace(models.case(name).model), fuse=True, split=True)
    fused = {node.name: node.batchnorm.name for node in graph.nodes if node.batchnorm is not None}
    assert fused == FUSED[name]
    assert "Dense + BatchNormalization" in str(graph) or name != "conv_bn"


def chain_with_batchnorm(kind):
    x = keras.Input((4, 4, 4), name="x")
    value = layers.Conv2D(4, 1, activation="relu" if kind == "inline activation" else None, name="conv")(x)
    axis = {"another axis": 1, "negative axis": -1}.get(kind, 3)
    norm = layers.BatchNormalization(axis=axis, name="bn")
    normal = norm(value)
    outputs = {
        "used elsewhere": lambda: layers.Add(name="add")([normal, value]),
        "twice": lambda: layers.BatchNormalization(name="bn2")(normal),
        "output": lambda: [normal, value],
    }
    return models.randomize(keras.Model(x, outputs.get(kind, lambda: normal)()), seed=4)


@pytest.mark.parametrize("kind", ["used elsewhere", "output", "another axis", "inline activation"])
def test_what_is_never_fused(kind):
    model = chain_with_batchnorm(kind)
    graph = passes.rewrite(trace(model), fuse=True, split=True)
    assert "bn" in names(graph)
    assert graph.node_of["conv"].batchnorm is None
    assert_computes(graph, model, models.normal(3, 4, 4, 4))


@pytest.mark.parametrize("kind", ["plain", "negative axis", "twice"])
def test_what_is_fused_once(kind):
    model = chain_with_batchnorm(kind)
    graph = passes.rewrite(trace(model), fuse=True, split=True)
    assert names(graph) == ["conv", "bn2"][: 1 + (kind == "twice")]
    assert graph.node_of["conv"].batchnorm is model.get_layer("bn")
    assert_computes(graph, model, models.normal(3, 4, 4, 4))


def test_a_layer_with_a_call_of_its_own_is_not_cut_or_fused():
    class Doubled(layers.Dense):
        def call(self, inputs, training=None):
            return 2 * super().call(inputs)

    x = keras.Input((4,), name="x")
    value = layers.BatchNormalization(name="bn")(Doubled(4, activation="tanh", name="doubled")(x))
    model = models.randomize(keras.Model(x, value), seed=5)
    graph = passes.rewrite(trace(model), fuse=True, split=True)
    assert names(graph) == ["doubled", "bn"]
    assert_computes(graph, model, models.normal(3, 4))


def test_a_convolution_with_an_operation_of_its_own_is_not_taken_for_keras_own():
    """Keras names `convolution_op` as the method to override, e.g. for standardized weights."""

    class Standardized(layers.Conv2D):
        def convolution_op(self, inputs, kernel):
            return super().convolution_op(inputs, kernel - keras.ops.mean(kernel, axis=(0, 1, 2)))

    x = keras.Input((4, 4, 2), name="x")
    model = models.randomize(keras.Model(x, Standardized(3, 2, name="conv")(x)), seed=6)
    assert_computes(passes.rewrite(trace(model), fuse=True, split=True), model, models.normal(3, 4, 4, 2))


@pytest.mark.parametrize("bias_axes", ["e", "d", "de", "be", None])
@pytest.mark.parametrize("activation", ["tanh", None])
def test_an_einsum_with_any_bias_is_evaluated_once(bias_axes, activation):
    """The activation must not be applied twice where the bias makes the layer opaque."""
    x = keras.Input((3, 4), name="x")
    layer = layers.EinsumDense("abc,cde->abde", (3, 2, 5), bias_axes=bias_axes, activation=activation, name="einsum")
    model = models.randomize(keras.Model(x, layer(x)), seed=7)
    assert_computes(passes.rewrite(trace(model), fuse=True, split=True), model, models.normal(2, 3, 4))


def test_a_softmax_inside_the_model_stays():
    """`inline` has a softmax in the middle; only the one at the end is stripped."""
    graph = passes.rewrite(trace(models.case("inline").model), fuse=False)
    assert "softmax/activation" in names(graph)
    assert "out/activation" not in names(graph)


def test_a_softmax_that_feeds_something_else_is_stripped_as_output_only():
    x = keras.Input((4,), name="x")
    value = layers.Dense(3, activation="softmax", name="out")(x)
    model = models.randomize(keras.Model(x, [value, layers.Dense(2, name="more")(value)]), seed=8)
    graph = passes.rewrite(trace(model), fuse=False)
    assert graph.outputs == (Value("out"), Value("more"))
    assert graph.node_of["more"].inputs == (Value("out/activation"),)


def test_a_layer_of_the_users_that_is_called_sigmoid_is_no_head():
    class Sigmoid(keras.Layer):
        def call(self, x):
            return 3 * x

    x = keras.Input((4,), name="x")
    graph = passes.rewrite(trace(keras.Model(x, Sigmoid(name="mine")(layers.Dense(1, name="out")(x)))), fuse=False)
    assert names(graph) == ["out", "mine"]


# Private attributes of Keras -----------------------------------------------------------------------------------------


def test_canary_nodes_by_depth():
    model = models.case("dense").model
    found = {depth: [node.operation.name for node in nodes] for depth, nodes in model._nodes_by_depth.items()}
    assert found == {0: ["out"], 1: ["second"], 2: ["first"], 3: ["x"]}


def test_canary_keras_history():
    model = models.case("dense").model
    assert model.outputs[0]._keras_history.operation is model.get_layer("out")
    assert model.inputs[0]._keras_history.operation.name == "x"


def test_canary_keras_mask():
    x = keras.Input((3,), dtype="int32")
    embedding = layers.Embedding(4, 2, mask_zero=True)
    assert embedding(x)._keras_mask is not None
    np.testing.assert_array_equal(embedding(np.array([[1, 0, 2]]))._keras_mask, [[True, False, True]])
    values = keras.ops.convert_to_tensor([[[1.0], [5.0]]])
    values._keras_mask = keras.ops.convert_to_tensor([[True, False]])
    assert float(layers.GlobalAveragePooling1D()(values)[0, 0]) == 1.0


def test_canary_functional():
    built = models.case("built").model
    assert built._functional.inputs and built._functional._nodes_by_depth
    assert keras.Sequential([layers.Dense(1)])._functional is None


def test_canary_home_of_the_functional_call():
    """Models are told apart by where their `call` is defined."""
    model = models.case("dense").model
    owner = next(cls for cls in type(model).__mro__ if "call" in vars(cls))
    assert (owner.__module__, owner.__name__) == ("keras.src.models.functional", "Functional")


def test_canary_flatten_layers():
    class Composed(keras.Layer):
        def __init__(self):
            super().__init__()
            self.inner = layers.Dense(2, name="inner")

        def call(self, x):
            return self.inner(x)

    model = keras.Sequential([keras.Input((3,)), Composed(), keras.Sequential([layers.Dense(1, name="deep")])])
    assert {"inner", "deep"} <= {layer.name for layer in model._flatten_layers(include_self=False)}


CANARIES = {"_nodes_by_depth", "_keras_history", "_keras_mask", "_functional", "_flatten_layers"}


def test_private_attributes_are_named_here_and_used_in_trace_only():
    package = pathlib.Path(innvest_lite.__file__).parent
    own = set(re.findall(r"(?:def|self\.)\s*(_[a-z]\w*)", (package / "graph" / "trace.py").read_text()))
    for path in package.rglob("*.py"):
        text = path.read_text()
        used = set(re.findall(r"(?<!self)(?<!cls)\.(_[a-z]\w*)", text)) | set(
            re.findall(r'getattr\(\w+, "(_[a-z]\w*)"', text)
        )
        if path.name == "trace.py":
            assert used - own == CANARIES
        else:
            assert not used & CANARIES, f"{path.name} uses {used & CANARIES}"


# What counts as a graph ---------------------------------------------------------------------------------------------


def test_a_subclassed_model_inside_is_one_opaque_node():
    class Subclassed(keras.Model):
        def call(self, x):
            return 2 * x

    x = keras.Input((3,))
    assert [node.kind for node in trace(keras.Model(x, Subclassed()(x))).nodes] == ["Subclassed"]


def test_a_functional_subclass_that_keeps_call_is_fine():
    class Named(keras.Model):
        pass

    x = keras.Input((3,))
    assert names(trace(Named(x, layers.Dense(2, name="dense")(x)))) == ["dense"]
