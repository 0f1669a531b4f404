"""Operations with a weight among their arguments: which linear layers they are, and what is no bias."""

import composites
import keras
import models
import numpy as np
import pytest
from graphs import evaluate
from keras import layers, ops

from innvest_lite.forms import LinearForm, forms_of
from innvest_lite.graph import passes, trace


class Map(layers.Layer):
    """An operation with a weight of this shape, and a bias of that one."""

    def __init__(self, function, shape, bias=None, after=None, **options):
        super().__init__(**options)
        self.function, self.shape, self.bias_shape, self.after = function, shape, bias, after

    def build(self, _):
        self.w = self.add_weight(shape=self.shape, name="kernel", initializer="random_normal")
        self.b = self.add_weight(shape=self.bias_shape, name="bias", initializer="ones") if self.bias_shape else None

    def call(self, x):
        value = self.function(x, self.w)
        whole = value if self.b is None else value + self.b
        return whole if self.after is None else self.after(value, whole)


def graph_of(layer, *shape):
    """The graph of a model of the layer alone, through whose forms it computes what the model does."""
    x = keras.Input(shape, name="x")
    model, samples = models.randomize(keras.Model(x, layer(x)), seed=1), models.normal(3, *shape)
    graph = passes.split_activations(trace(model))
    np.testing.assert_allclose(evaluate(graph, samples)[0], model(samples), rtol=0, atol=1e-5)
    return graph


LINEAR = {
    "matmul": (ops.matmul, (4, 3), (3,), (4,), "Dense"),
    "matmul of steps": (ops.matmul, (4, 3), (1, 3), (5, 4), "Dense"),
    "tensordot": (lambda x, w: ops.tensordot(x, w, axes=1), (4, 3), (3,), (5, 4), "Dense"),
    "einsum": (lambda x, w: ops.einsum("btc,chd->bthd", x, w), (4, 2, 3), None, (5, 4), "EinsumDense"),
    "weight first": (lambda x, w: ops.einsum("kd,bnd->bnk", w, x), (3, 4), None, (5, 4), "EinsumDense"),
    "from the left": (lambda x, w: ops.matmul(w, x), (3, 5), None, (5, 4), "EinsumDense"),
    "tensordot of axes": (lambda x, w: ops.tensordot(x, w, axes=[[-1], [0]]), (4, 3), (3,), (5, 4), "Dense"),
    "conv 1": (lambda x, w: ops.conv(x, w, 2, "same"), (3, 4, 6), (6,), (9, 4), "Conv1D"),
    "conv 2": (lambda x, w: ops.conv(x, w, (2, 1), "valid"), (3, 2, 4, 6), (6,), (9, 8, 4), "Conv2D"),
    "groups": (lambda x, w: ops.conv(x, w), (2, 2, 2, 6), (1, 1, 6), (5, 5, 4), "Conv2D"),
    "depthwise": (lambda x, w: ops.depthwise_conv(x, w, 1, "same"), (3, 3, 4, 2), (8,), (5, 5, 4), "DepthwiseConv2D"),
    "transposed": (lambda x, w: ops.conv_transpose(x, w, 2, "same"), (3, 3, 6, 4), (6,), (5, 5, 4), "Conv2DTranspose"),
    "standardized": (lambda x, w: ops.conv(x, w - ops.mean(w, (0, 1, 2))), (3, 3, 4, 6), (6,), (5, 5, 4), "Conv2D"),
}


@pytest.mark.parametrize("name", LINEAR)
def test_linear_maps(name):
    """A node with a kernel and, where one is added, a bias: matched as the layer that computes this."""
    function, kernel, bias, shape, like = LINEAR[name]
    graph = graph_of(Map(function, kernel, bias, name="map"), *shape)
    (node,) = graph.nodes
    form = forms_of(graph)[node.name]
    assert isinstance(form, LinearForm) and form.kernel_shape == kernel
    assert (form.raw_bias() is None) == (bias is None)
    assert node.operation.like.__name__ == like and len(node.weights) == 1 + (bias is not None)


NO_BIAS = {
    "of positions": Map(ops.matmul, (4, 3), (5, 3), name="map"),
    "used before": Map(ops.matmul, (4, 3), (3,), lambda value, whole: whole * ops.sigmoid(value), name="map"),
    "used twice": Map(ops.matmul, (4, 3), (3,), lambda value, whole: ops.concatenate([value, whole]), name="map"),
}


@pytest.mark.parametrize("name", NO_BIAS)
def test_what_is_no_bias(name):
    """What is not one number a unit, and what others see without, stays a node of its own."""
    graph = graph_of(NO_BIAS[name], 5, 4)
    assert graph.nodes[0].operation.bias is None
    assert forms_of(graph)["map/add"].kind == "scale"


NOT_LINEAR = {
    "a factor for each value": lambda x, w: ops.einsum("bnd,d->bnd", ops.einsum("d,bnd->bnd", w[1], x), w[0]),
    "a sum over the samples": lambda x, w: ops.einsum("bnd,dk->nk", x, w),
    "weights that are looked up": lambda x, w: ops.take(w, ops.cast(x > 0, "int32")[..., 0], axis=0),
}


@pytest.mark.parametrize("name", NOT_LINEAR)
def test_what_is_no_linear_layer(name):
    graph = graph_of(Map(NOT_LINEAR[name], (4, 4), name="map"), 5, 4)
    assert not any(passes.is_linear_part(node) for node in graph.nodes)


@pytest.mark.skipif(not hasattr(layers, "ReversibleEmbedding"), reason="the oldest Keras has none")
def test_a_table_of_weights_is_an_embedding():
    """Also one that is tied: the same weights, transposed, are the head."""

    class Tied(keras.Model):
        def __init__(self):
            super().__init__(name="tied")
            self.table = layers.ReversibleEmbedding(9, 4, name="table")

        def call(self, tokens):
            return self.table(ops.mean(self.table(tokens), axis=1, keepdims=True), reverse=True)[:, 0]

    model, tokens = Tied(), np.array([[1, 2, 8], [3, 3, 0]], "int32")
    model(tokens)
    graph = trace(models.randomize(model, seed=1))
    kinds = [form.kind for form in forms_of(graph).values()]
    assert kinds == ["route", "embedding", "average", "linear", "route"]
    assert graph.nodes[1].operation.input_dim == 9
    np.testing.assert_allclose(evaluate(graph, tokens)[0], model(tokens), rtol=0, atol=1e-6)


def test_half_precision():
    """The kernel is that of the compute dtype, the bias too; forms widen both, as those of layers do."""
    layer = composites.Linear(3, name="own", dtype="mixed_bfloat16")
    x = keras.Input((4,), name="x")
    model, samples = models.randomize(keras.Model(x, layer(x)), seed=1), models.normal(3, 4)
    graph = trace(model)
    node = graph.node_of["own/matmul"]
    assert node.output_specs[0].dtype == "bfloat16"
    found = evaluate(graph, samples)[0].astype("float32")
    np.testing.assert_allclose(found, ops.cast(model(samples), "float32"), rtol=0, atol=2e-2)
