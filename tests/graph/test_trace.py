"""Tracing: names, order, equal outputs, what counts as a graph, and Keras's private attributes by name."""

import importlib
import pathlib
import re

import keras
import models
import numpy as np
import pytest
from comparing import assert_close, offenders
from graphs import assert_computes, evaluate, names
from keras import layers

import innvest_lite
from innvest_lite.graph import Slot, Value, passes, trace

trace_module = importlib.import_module("innvest_lite.graph.trace")


EXPECTED_NODES = {
    "dense": "first second out",
    "shared": "shared bn shared#2 shared#3 bn#2 both out",
    "nested": "middle/inner/conv middle/inner/drop middle/inner/add middle/relu stack/conv stack/bn flat out",
    "nested_twice": "inner/conv inner/drop inner/add relu inner#2/conv inner#2/drop inner#2/add flat out",
    "two_inputs": "first flat hidden both out",
    "sequential": "conv flat out",
    "built": "hidden out",
}


def test_names_of_nodes():
    """A shared layer's calls are numbered, a nested model's layers stand behind its name."""
    found = {name: sorted(names(trace(models.case(name).model))) for name in EXPECTED_NODES}
    assert found == {name: sorted(nodes.split()) for name, nodes in EXPECTED_NODES.items()}


def test_calls_are_numbered_in_the_order_in_which_they_were_made():
    """Also where the first call stands nearer to the output than the second."""
    one, two = keras.Input((3,), name="one"), keras.Input((3,), name="two")
    shared = layers.Dense(3, name="shared")
    first, second = shared(one), shared(two)
    graph = trace(keras.Model([one, two], layers.Add(name="add")([first, layers.ReLU(name="relu")(second)])))
    assert graph.node_of["shared"].inputs == (Value("one"),)
    assert graph.node_of["shared#2"].inputs == (Value("two"),)


def nodes_come_after_what_they_take(name):
    graph = trace(models.case(name).model)
    known = set(graph.inputs)
    for node in graph.nodes:
        assert set(node.inputs) <= known
        assert len(node.inputs) == len(node.input_specs)
        known.update(node.values)
    assert set(graph.outputs) <= known
    assert len(set(names(graph))) == len(graph.nodes)


def test_nodes_come_after_what_they_take():
    assert offenders(nodes_come_after_what_they_take, models.NAMES) == {}


def whole_calls_compute_the_model(name):
    model, x = models.case(name).model, models.case(name).x
    graph = trace(model)
    values = dict(zip(graph.inputs, map(keras.ops.convert_to_tensor, keras.tree.flatten(x)), strict=True))
    for node in graph.nodes:
        values.update(zip(node.values, node.call(*(values[value] for value in node.inputs)), strict=True))
    assert_close([values[value] for value in graph.outputs], models.predicted(name)[0])


def test_the_whole_calls_compute_the_model():
    """Before any pass: `Node.call` of every node."""
    assert offenders(whole_calls_compute_the_model, models.NAMES) == {}


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


def test_a_dict_gives_each_input_of_a_nested_model_its_own():
    """By name, as Keras does: the sorted keys of the dict stand in another order than the inputs."""
    last, first = keras.Input((3,), name="z"), keras.Input((3,), name="a")
    inner = keras.Model([last, first], layers.Subtract()([last, first]), name="inner")
    one, two = keras.Input((3,), name="one"), keras.Input((3,), name="two")
    samples = [models.normal(4, 3, seed=seed) for seed in (1, 2)]
    graph = trace(keras.Model([one, two], inner({"z": one, "a": two})))
    np.testing.assert_array_equal(evaluate(graph, samples)[0], samples[0] - samples[1])


@pytest.mark.parametrize("outer, inner", [((4,), (4, 1)), ((4, 1), (4,))])
def test_a_nested_model_gives_or_takes_a_last_axis(outer, inner):
    x, inner_x = keras.Input(outer), keras.Input(inner)
    model = models.randomize(keras.Model(x, keras.Model(inner_x, layers.Dense(2)(inner_x))(x)), seed=1)
    samples = models.normal(3, *outer)
    np.testing.assert_array_equal(evaluate(trace(model), samples)[0], model(samples))


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
        patch.setattr(trace_module.Known, "opens", lambda known, node: False)
        with pytest.raises(AssertionError, match="a nested model is one node"):
            assert_inlined(model)

    def skip(tracer, node, name, values):
        return tuple(values[id(tensor)] for tensor in node.input_tensors)

    monkeypatch.setattr(trace_module._Tracer, "_inline", skip)
    with pytest.raises(AssertionError, match="a layer has no node"):
        assert_inlined(model)
    with pytest.raises(AssertionError, match="differs by"):
        assert_computes(passes.split_activations(trace(model)), model, x)


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


def test_canary_nodes_of_layers():
    """A call with a symbolic tensor leaves a node on the layer, and on the layer before."""
    first, second = layers.Dense(2), layers.Dense(2)
    second(first(keras.Input((3,))))
    assert (len(first._inbound_nodes), len(first._outbound_nodes), len(second._outbound_nodes)) == (1, 1, 0)


def test_canary_losses():
    """The losses of a layer's last call."""
    layer = layers.Dense(2, activity_regularizer="l2")
    layer(np.ones((1, 3)))
    assert len(layer._losses) == 1 and isinstance(layer._loss_ids, set)


CANARIES = {
    *("_nodes_by_depth", "_keras_history", "_functional", "_flatten_layers", "_inbound_nodes", "_outbound_nodes"),
    *("_losses", "_loss_ids"),
}
MASKS = {"_keras_mask"}


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
            allowed = MASKS if path.name == "masks.py" else set()
            assert not used & (CANARIES | MASKS) - allowed, f"{path.name} uses {used & (CANARIES | MASKS)}"


# What counts as a graph ---------------------------------------------------------------------------------------------


def test_a_subclassed_model_inside_is_looked_into():
    """It is known by what it does where that is a function of each value."""

    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__(name="inner")
            self.dense = layers.Dense(2, name="dense")

        def call(self, x):
            return 2 * self.dense(x)

    class Doubled(keras.Model):
        def call(self, x):
            return 2 * x

    x = keras.Input((3,))
    nodes = trace(keras.Model(x, Subclassed()(Doubled(name="doubled")(x)))).nodes
    assert [node.name for node in nodes] == ["doubled", "inner/dense", "inner/multiply"]


def test_a_functional_subclass_that_keeps_call_is_fine():
    class Named(keras.Model):
        pass

    x = keras.Input((3,))
    assert names(trace(Named(x, layers.Dense(2, name="dense")(x)))) == ["dense"]
