"""Looking into composite layers: what is found computes the same, is named, leaves nothing behind, and says why not."""

import threading

import composites
import keras
import models
import numpy as np
import pytest
import tensorflow as tf
from comparing import offenders
from graphs import names
from keras import layers, ops

import innvest_lite
from innvest_lite.errors import UnsupportedLayerError
from innvest_lite.forms import forms_of
from innvest_lite.graph import passes, trace
from innvest_lite.graph.interpret import interpret

# Keras says of some models, whenever they are called, that masks end in them.
pytestmark = pytest.mark.filterwarnings("ignore:.*was passed an input with a mask")


def computed(graph, x):
    """The outputs of a graph, by the whole calls of its nodes, as arrays."""
    given = [x[value.node] for value in graph.inputs] if isinstance(x, dict) else keras.tree.flatten(x)
    values = interpret(graph, lambda node, taken: node.call(*taken), [ops.convert_to_tensor(one) for one in given])
    return [values[value].numpy() for value in graph.outputs]


def computes_the_model(name):
    model, x = composites.case(name)
    graph = trace(model)
    for samples in (x, keras.tree.map_structure(lambda one: np.concatenate([one, one[:2]])[::-1], x)):
        for found, expected in zip(computed(graph, samples), keras.tree.flatten(model(samples)), strict=True):
            np.testing.assert_array_equal(found, expected)


def test_the_nodes_compute_the_model():
    """To the bit, for numbers of samples that were not recorded."""
    assert offenders(computes_the_model, composites.CASES) == {}


def is_wholly_open(name):
    graph = trace(composites.case(name)[0])
    assert [(node.name, node.closed) for node in graph.nodes if node.closed] == []
    kinds = {type(node.operation) for node in graph.nodes}
    assert not [kind for kind in kinds if kind.__module__ in ("composites", "keras.src.layers.attention.attention")]


def test_all_of_them_are_open():
    assert offenders(is_wholly_open, composites.CASES) == {}


def stays_as_it_was(name):
    model, _ = composites.case(name)
    known = model._flatten_layers()

    def state():
        nodes = [(len(layer._inbound_nodes), len(layer._outbound_nodes), layer.name, len(layer.losses)) for layer in known]
        return nodes, [weight.numpy().tobytes() for weight in model.weights]

    before = state()
    trace(model)
    assert state() == before
    assert model._flatten_layers() == known


def test_the_model_stays_as_it_was():
    """No node of Keras's graph, no loss, no layer is left behind, and no weight changes."""
    assert offenders(stays_as_it_was, composites.CASES) == {}


EXPECTED_NODES = {
    "net": (
        "stem/conv stem/re_lu block/first block/first_bn block/relu block/drop block/second block/second_bn block/short "
        "block/add block/relu#2 pool hidden/matmul hidden/re_lu head"
    ),
    "twice": (
        "block/first block/first_bn block/relu block/drop block/second block/second_bn block/short block/add block/relu#2 "
        "block#2/first block#2/first_bn block#2/relu block#2/drop block#2/second block#2/second_bn block#2/short "
        "block#2/add block#2/relu#2 pool"
    ),
    "named": "pair/right pair/left pair/add pair/left#2 pair/get_item pair/multiply nested/deep flatten",
    "heads": "heads/query heads/key heads/value heads/attention_output pool "
    + " ".join(f"heads/dot_product_attention/{name}" for name in ("einsum", "multiply", "softmax", "einsum#2")),
}


@pytest.mark.parametrize("name", EXPECTED_NODES)
def test_names_of_nodes(name):
    """Layers by their names behind that of the composite; what is made anew at each call by what it is."""
    model, _ = composites.case(name)
    assert sorted(names(trace(model))) == sorted(EXPECTED_NODES[name].split())
    assert names(trace(model)) == names(trace(model))


def test_a_composite_hands_a_value_on():
    """By its name, as a layer does: for `keep`, and for `layer` of class activation maps."""
    graph = trace(composites.case("net")[0])
    assert graph.layer_values["block"].node == "block/relu#2"
    assert trace(composites.case("twice")[0]).layer_values["block#2"].node == "block#2/relu#2"


def test_weights_are_read_when_a_node_is_called():
    """Also those that a `call` computes with by itself: nothing of them is kept from the time of tracing."""
    for name in ("scale", "table", "sizes", "tokens"):
        model, x = composites.case(name)
        graph, before = trace(model), model.get_weights()
        models.randomize(model, seed=7)
        np.testing.assert_array_equal(computed(graph, x)[0], model(x))
        model.set_weights(before)


def computes_what_zeros_hid(name):
    model, x = composites.case(name)
    before = model.get_weights()
    try:
        model.set_weights([np.zeros_like(weight) for weight in before])
        graph = trace(model)
    finally:
        model.set_weights(before)
    for found, expected in zip(computed(graph, x), keras.tree.flatten(model(x)), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_weights_of_zero_hide_nothing():
    """What is found, and its proof, do not hang on what the model has learned so far."""
    assert offenders(computes_what_zeros_hid, composites.CASES) == {}


def test_a_node_names_the_weights_that_it_reads():
    """Those among its arguments count as those of its layer."""
    model, _ = composites.case("scale")
    layer, graph = model.get_layer("scale"), trace(model)
    assert {id(weight) for node in graph.nodes for weight in node.weights} >= {id(weight) for weight in layer.weights}


def test_a_function_of_each_value_stays_one_node():
    """A layer of one's own is known by what it does, wherever it stands."""

    class Swish(layers.Layer):
        def call(self, x):
            return x * ops.sigmoid(x)

    class Wide(layers.Layer):
        def __init__(self, **options):
            super().__init__(**options)
            self.dense, self.swish = layers.Dense(4, name="dense"), Swish(name="swish")

        def call(self, x):
            return self.swish(self.dense(x))

    x = keras.Input((3,), name="x")
    model = keras.Model(x, Swish(name="outer")(Wide(name="wide")(x)))
    assert names(trace(model)) == ["wide/dense", "wide/swish", "outer"]


def test_masks_go_through_composites():
    """What a composite leaves on its output, and what comes in and is asked for inside, changes the numbers."""
    model, x = composites.case("tokens")
    graph = trace(model)
    assert graph.node_of["pool"].input_specs[0].masked
    without = composites.tokens(3, 7)
    without[without == 0] = 3
    assert not np.allclose(computed(graph, x)[0], computed(graph, without)[0])


def closed(layer, *shape):
    """Why the only composite of a model is not looked into; what is found still computes the model."""
    model = models.randomize(composites.functional(layer, *shape), seed=1)
    graph, x = trace(model), models.normal(3, *shape)
    np.testing.assert_array_equal(computed(graph, x)[0], model(x))
    return {node.name: node.closed for node in graph.nodes if node.closed}


class Raw(layers.Layer):
    """Asks TensorFlow, which takes no tensors without values."""

    def __init__(self, **options):
        super().__init__(**options)
        self.dense = layers.Dense(3)

    def call(self, x):
        return tf.math.l2_normalize(self.dense(x), axis=-1)


def test_what_does_not_trace_is_one_node_and_says_why():
    assert closed(Raw(name="raw"), 4)["raw"] == "its call uses functions of TensorFlow or NumPy in place of keras.ops"


def test_only_what_does_not_trace_stays_closed():
    class Outer(layers.Layer):
        def __init__(self, **options):
            super().__init__(**options)
            self.raw, self.dense = Raw(name="raw"), layers.Dense(4, name="dense")

        def call(self, x):
            return self.dense(self.raw(x))

    layer = Outer(name="outer")
    assert list(closed(layer, 4)) == ["outer/raw"]
    assert names(trace(composites.functional(layer, 4)))[:2] == ["outer/raw", "outer/dense"]


class Liar(layers.Layer):
    """Does something else where tensors have no values."""

    def __init__(self, **options):
        super().__init__(**options)
        self.dense = layers.Dense(3, name="dense")

    def call(self, x):
        return self.dense(x) * (2.0 if isinstance(x, keras.KerasTensor) else 3.0)


def test_what_is_found_is_proven():
    """The layer, not what it seemed to be, is what is kept; one that stands in another does not close that one."""
    assert closed(Liar(name="liar"), 4) == {"liar": "what was found in it does not give the same numbers"}

    class Outer(layers.Layer):
        def __init__(self, **options):
            super().__init__(**options)
            self.liar, self.block = Liar(name="liar"), composites.Scale(name="scale")

        def call(self, x):
            return self.block(self.liar(x))

    layer = Outer(name="outer")
    assert closed(layer, 4) == {"outer/liar": "what was found in it does not give the same numbers"}
    assert "outer/scale/inner" in names(trace(composites.functional(layer, 4)))


def test_what_gives_no_numbers_proves_nothing():
    class Log(Liar):
        def call(self, x):
            return super().call(ops.log(x))

    assert closed(Log(name="log"), 4) == {"log": "what was found in it does not give the same numbers"}


def test_an_input_called_as_a_node():
    """Names of inputs and of nodes are told apart."""

    class Called(keras.Model):
        def __init__(self):
            super().__init__(name="called")
            self.dense = layers.Dense(2, name="input")

        def call(self, x):
            return self.dense(x) + self.dense(x[:, ::-1])

    model, x = Called(), models.normal(3, 4)
    model(x)
    graph = trace(models.randomize(model, seed=1))
    assert names(graph) == ["input#2", "get_item", "input#3", "add"] and graph.inputs[0].node == "input"
    np.testing.assert_array_equal(computed(graph, x)[0], model(x))


def test_losses_of_the_last_call_stay():
    layer = composites.Scale(name="scale", activity_regularizer="l2")
    model = composites.functional(layer, 4)
    model(models.normal(3, 4))
    before = [float(loss) for loss in model.losses]
    trace(model)
    assert before and [float(loss) for loss in model.losses] == before


def test_several_arguments_are_refused():
    class Two(keras.Model):
        def call(self, x, y):
            return x + y

    model = Two(name="two")
    model(models.normal(3, 4), models.normal(3, 4))
    with pytest.raises(UnsupportedLayerError, match="called with several arguments"):
        trace(model)


def test_what_stands_in_functions_is_opaque():
    """Weights in a function that a loop is given are seen by nobody, so that the proof fails."""

    class Mapped(layers.Layer):
        def build(self, shape):
            self.w = self.add_weight(shape=(shape[-1], 3), name="w")

        def call(self, x):
            return ops.vectorized_map(lambda row: ops.matmul(row, self.w), x)

    graph = trace(composites.functional(Mapped(name="mapped"), 4))
    assert forms_of(graph)["mapped"].kind == "opaque"
    assert graph.node_of["mapped"].closed == "what was found in it does not give the same numbers"


def test_sizes_that_cannot_be_followed():
    class Odd(layers.Layer):
        def build(self, shape):
            self.dense = layers.Dense(3, name="dense")

        def call(self, x):
            return self.dense(x) + float(ops.shape(x)[0]) ** 2

        def compute_output_spec(self, x):
            return keras.KerasTensor((*x.shape[:-1], 3))

    class Steps(layers.Layer):
        def build(self, shape):
            self.dense = layers.Dense(4, name="dense")

        def call(self, x):
            for _ in range(ops.shape(x)[0]):
                x = self.dense(x)
            return x

        def compute_output_spec(self, x):
            return keras.KerasTensor((*x.shape[:-1], 4))

    for layer in (Odd(name="odd"), Steps(name="odd")):
        model = composites.functional(layer, 4)
        assert {node.name for node in trace(model).nodes if node.closed} == {"odd"}


def test_keras_is_put_back():
    """Also where a call raises."""

    def state():
        variable = [vars(keras.Variable).get(f"__{name}__") for name in ("mul", "matmul")]
        filters = keras.config.is_traceback_filtering_enabled()
        return keras.Layer.__call__, keras.Layer.symbolic_call, keras.Operation.symbolic_call, *variable, filters

    before = state()
    trace(composites.case("net")[0])
    trace(composites.functional(Liar(name="liar"), 4))

    class Broken(layers.Layer):
        def call(self, x):
            raise (ValueError if isinstance(x, keras.KerasTensor) and x.shape[0] else KeyError)("no")

        def compute_output_spec(self, x):
            return keras.KerasTensor(x.shape, x.dtype)

    assert "ValueError: no" in trace(composites.functional(Broken(name="broken"), 4)).node_of["broken"].closed
    assert state() == before


def test_other_threads_go_on():
    """A call that another thread makes while a layer is looked into is no part of it, and leaves its own nodes."""
    made = []

    class Threaded(layers.Layer):
        def __init__(self, **options):
            super().__init__(**options)
            self.dense = layers.Dense(3, name="dense")

        def call(self, x):
            if isinstance(x, keras.KerasTensor):
                thread = threading.Thread(
                    target=lambda: made.append(keras.Model(i := keras.Input((2,)), layers.Dense(2)(i)))
                )
                thread.start()
                thread.join()
            return self.dense(x)

    model = composites.functional(Threaded(name="threaded"), 4)
    made.clear()
    assert names(trace(model)) == ["threaded/dense", "flat", "out"]
    assert made and all(len(other.layers[1]._inbound_nodes) == 1 for other in made)


def test_of_a_given_size():
    """`input_shape` fixes what the model leaves open, so that what asks for a size gets one."""

    class Places(layers.Layer):
        def build(self, shape):
            self.table = self.add_weight(shape=(9, shape[-1]), name="table", initializer="random_normal")
            self.dense = layers.Dense(4, name="dense")

        def call(self, x):
            return self.dense(x + ops.slice(self.table, (0, 0), (ops.shape(x)[1], x.shape[2])))

    x = keras.Input((None, 3), name="x")
    model = keras.Model(x, layers.GlobalAveragePooling1D(name="pool")(Places(name="places")(x)))
    assert "places" in names(trace(model))
    graph, samples = trace(model, input_shape=(7, 3)), models.normal(3, 7, 3)
    assert names(graph) == ["places/add", "places/dense", "pool"]
    assert graph.input_specs[0].shape == (None, 7, 3)
    np.testing.assert_array_equal(computed(graph, samples)[0], model(samples))


def test_a_model_that_was_never_called_wants_a_shape():
    model = composites.Net(name="fresh")
    graph = trace(model, input_shape=(9, 9, 2))
    assert graph.input_specs[0].shape == (None, 9, 9, 2)
    assert names(graph) == names(trace(composites.case("net")[0]))


def test_linear_maps_by_weights_are_linear_nodes():
    """`ops.matmul(x, w) + b` is a node with a kernel and a bias, as that of a Dense layer."""
    graph = trace(composites.case("net")[0])
    for name in ("stem/conv", "hidden/matmul"):
        assert passes.is_linear_part(graph.node_of[name])
        assert graph.node_of[name].operation.bias is not None


class Counting(keras.Model):
    """Counts its calls, keeps what it computed last, and a note that no other call made."""

    def __init__(self):
        super().__init__()
        self.dense, self.calls, self.last = layers.Dense(3), 0, None

    def call(self, x):
        self.calls += 1
        self.last = self.dense(x)
        self.note = self.calls
        return ops.tanh(self.last)


def test_attributes_that_a_call_changes_stay_as_they_were():
    model = Counting()
    model(models.normal(2, 4))
    before, fresh = (model.calls, model.last, model.note), keras.Sequential([keras.Input((4,)), Counting()])
    graph = trace(model)
    assert (model.calls, id(model.last), model.note) == (before[0], id(before[1]), before[2]) and len(graph.nodes) == 2
    inner = fresh.layers[0]
    inner.last = inner.calls = None
    del inner.note
    inner.calls = 7
    trace(fresh)
    assert inner.calls == 7 and inner.last is None and not hasattr(inner, "note")


class Divided(keras.Layer):
    """Attention by hand, whose logits a number of NumPy's scales, from either side."""

    def call(self, x):
        weights = keras.ops.softmax(np.float64(2) * keras.ops.einsum("bid,bjd->bij", x, x) / np.sqrt(8))
        return x + keras.ops.einsum("bij,bjd->bid", weights, x)


def test_numbers_of_numpy_leave_the_dtype_as_tensorflow_does():
    """Keras takes them for float64, and relevance would meet values of float32."""
    x = keras.Input((4, 3))
    model = keras.Model(x, keras.layers.Dense(2)(keras.layers.Flatten()(Divided()(x))))
    specs = [spec.dtype for node in trace(model).nodes for spec in (*node.input_specs, *node.output_specs)]
    assert set(specs) == {"float32"}
    samples = np.random.default_rng(0).normal(size=(3, 4, 3)).astype("float32")
    found = innvest_lite.LRP(model, "epsilon_plus").analyze(samples, target=1)
    np.testing.assert_allclose(found.sum((1, 2)), np.asarray(model(samples))[:, 1], rtol=1e-3)
