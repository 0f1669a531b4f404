"""The forms of `keras.ops`: what linear operations hand on is what a tape finds, whatever they are called."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from comparing import assert_close

import innvest_lite
from innvest_lite.forms import LinearForm, forms_of
from innvest_lite.graph import trace

layers, ops = keras.layers, keras.ops
RNG = np.random.default_rng(0)
MATRIX = RNG.normal(size=(6, 4)).astype("float32")
X = RNG.normal(size=(3, 5, 6)).astype("float32")
# Linear operations -> the kind of their form, and whether they have a kernel.
LINEAR = {
    "mean over positions": (lambda x: ops.mean(x, axis=1), "average", True),
    "mean over all": (lambda x: ops.mean(x, axis=(1, 2)), "average", False),
    "mean over channels": (lambda x: ops.mean(x, axis=-1), "average", True),
    "mean, kept": (lambda x: ops.mean(x, axis=1, keepdims=True), "average", True),
    "sum": (lambda x: ops.sum(x, axis=1), "average", False),
    "average pool": (lambda x: ops.average_pool(x, 2), "average", True),
    "average pool, same": (lambda x: ops.average_pool(x, 3, 2, "same"), "average", True),
    "matmul": (lambda x: ops.matmul(x, MATRIX), "linear", True),
    "dot": (lambda x: ops.dot(x, MATRIX), "linear", True),
    "tensordot": (lambda x: ops.tensordot(x, MATRIX, 1), "linear", True),
    "einsum": (lambda x: ops.einsum("btc,cu->btu", x, MATRIX), "linear", True),
    "einsum, turned": (lambda x: ops.einsum("uc,btc->btu", MATRIX.T, x), "linear", True),
    "einsum of a diagonal": (lambda x: ops.einsum("btc,cc->bt", x, MATRIX @ MATRIX.T), "average", False),
    "tensordot of two axes": (lambda x: ops.tensordot(x, MATRIX[:5] @ MATRIX.T, 2), "average", False),
    "from the left": (lambda x: ops.matmul(MATRIX[:5, :].T, x), "average", False),
    "resize": (lambda x: ops.image.resize(x[..., None], (4, 9))[..., 0], "average", False),
    "cumsum": (lambda x: ops.cumsum(x, axis=1), "average", False),
    "diff": (lambda x: ops.diff(x, axis=1), "average", False),
}


def node_of(function):
    x = keras.Input(X.shape[1:])
    model = keras.Model(x, function(x))
    graph = trace(model)
    forms = forms_of(graph)
    return model, [forms[node.name] for node in graph.nodes]


@pytest.mark.parametrize("name", LINEAR)
def test_linear_operations(name, eager):
    function, kind, has_kernel = LINEAR[name]
    model, forms = node_of(function)
    known = [form for form in forms if form.kind not in ("route",)]
    assert [(form.kind, isinstance(form, LinearForm)) for form in known] == [(kind, has_kernel)]
    (form,) = known
    if has_kernel:
        assert_close(form.apply((tf.constant(X),), form.kernel()), form.forward(tf.constant(X))[0], 1e-5)
    # LRP-0 through a linear map alone is x times the gradient, by a tape.
    x = tf.constant(X)
    with tf.GradientTape() as tape:
        tape.watch(x)
        largest = tf.reduce_max(tf.reshape(model(x), (len(X), -1)), axis=1)
    assert_close(innvest_lite.LRP(model, "zero").analyze(X), X * tape.gradient(largest, x), 1e-4)


@pytest.mark.slow
def test_the_pattern_methods_take_them(eager):
    x = keras.Input((8, 8, 3))
    h = layers.Conv2D(4, 3, activation="relu")(x)
    model = keras.Model(x, layers.Dense(2)(ops.matmul(ops.mean(ops.average_pool(h, 2), axis=(1, 2)), MATRIX[:4])))
    twin_x = keras.Input((8, 8, 3))
    dense = layers.Dense(4, use_bias=False)
    h = layers.AveragePooling2D(2)(model.layers[1](twin_x))
    twin = keras.Model(twin_x, model.layers[-1](dense(layers.GlobalAveragePooling2D()(h))))
    dense.set_weights([MATRIX[:4]])
    data = RNG.normal(size=(100, 8, 8, 3)).astype("float32")
    for method in (innvest_lite.PatternNet, innvest_lite.PatternAttribution):
        actual, expected = (method(each).fit(data, verbose=0).analyze(data[:4]) for each in (model, twin))
        assert_close(actual, expected, 1e-4)


class Add(keras.Operation):
    """Not what it is called."""

    def call(self, a, b):
        return a * b

    def compute_output_spec(self, a, b):
        return keras.KerasTensor(a.shape, a.dtype)


class Reshape(keras.Operation):
    def call(self, a):
        return 3 * a

    def compute_output_spec(self, a):
        return keras.KerasTensor(a.shape, a.dtype)


def test_a_users_operation_is_what_it_does():
    one, two = keras.Input((4,)), keras.Input((4,))
    graph = trace(keras.Model([one, two], Add()(one, two)))
    assert forms_of(graph)[graph.nodes[-1].name].kind == "opaque"
    x = keras.Input((4,))
    graph = trace(keras.Model(x, Reshape()(x)))
    assert forms_of(graph)[graph.nodes[-1].name].kind == "scale"


def test_a_maximum_with_a_constant_is_no_winner():
    """The largest of several takes all; where a constant wins, nothing of the input is left."""
    kinds = {}
    for name, function in {
        "pool": lambda x: ops.max_pool(x, 2),
        "max": lambda x: ops.max(x, axis=1),
        "two": lambda x: ops.maximum(x, ops.flip(x, 1)),
        "zero": lambda x: ops.maximum(x, 0.0),
        "one": lambda x: ops.maximum(x, 1.0),
        "of samples": lambda x: ops.max(x, axis=0, keepdims=True),
    }.items():
        kinds[name] = node_of(function)[1][-1].kind
    functions = {"zero": "rectifier", "one": "activation", "of samples": "opaque"}
    assert kinds == {**dict.fromkeys(("pool", "max", "two"), "max"), **functions}
