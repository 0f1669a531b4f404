"""Every linear form in float64 against autodiff of the Keras layer itself, and the algebra that the rules stand on."""

import dataclasses
from functools import cache, partial

import keras
import models
import numpy as np
import pytest
import replicas
import tensorflow as tf
from comparing import FLOAT64, assert_close, offenders
from keras import layers, ops
from linear_layers import FUSED, GROUPED, LAYERS, SEPARABLE, WEIGHTED

from innvest_lite.forms import LinearForm, forms_of
from innvest_lite.forms.normalization import LAYERS as NORMALIZATIONS
from innvest_lite.forms.structure import ACTIVATIONS, MAXIMA, ROUTES, SCALES
from innvest_lite.graph import passes, trace

# Virtual kernels (1/3) are constants in float32.
ROUNDED = 2e-7
# TensorFlow has no average pooling of three-dimensional float64 on CPU.
FLOAT32 = ("pool3d", "pool3d same")
SAMPLES = 3


@dataclasses.dataclass(frozen=True)
class Material:
    """One layer as a form, with the layer, the whole model, inputs, a cotangent and another kernel, in float64."""

    name: str
    form: object
    layer: object
    model: object
    inputs: tuple
    cotangent: object
    kernel: object
    tolerance: float

    @property
    def own_kernel(self):
        return tf.cast(self.form.kernel(), self.cotangent.dtype)

    @property
    def output(self):
        return self.model(list(self.inputs))

    def assert_equal(self, actual, expected, what):
        assert_close(actual, expected, self.tolerance, what)


@cache
def material(name, batchnorm=False):
    factory, shapes = LAYERS[name]
    dtype = "float32" if name in FLOAT32 else "float64"
    inputs = [keras.Input(shape, dtype=dtype, name=f"x{index}") for index, shape in enumerate(shapes)]
    layer = factory(dtype=dtype, name="layer")
    value = layer(inputs if len(inputs) > 1 else inputs[0])
    if batchnorm:
        value = layers.BatchNormalization(dtype="float64", epsilon=0.1, name="bn")(value)
    model = models.randomize(keras.Model(inputs, value), seed=2)
    form = forms_of(passes.rewrite(trace(model), fuse=True, split=True))["layer"]
    assert (form.node.batchnorm is not None) == batchnorm
    rng = np.random.default_rng(3)
    return Material(
        name,
        form,
        layer,
        model,
        tuple(tf.constant(rng.normal(0.3, 1, (SAMPLES, *shape)), dtype) for shape in shapes),
        tf.constant(rng.normal(size=(SAMPLES, *value.shape[1:])), dtype),
        tf.constant(rng.normal(size=form.kernel_shape), dtype),
        FLOAT64 if name in WEIGHTED else ROUNDED,
    )


def inner(one, two):
    return float(tf.reduce_sum(one * two))


# The checks of a form ------------------------------------------------------------------------------------------------


def forward_is_the_layers_output(m):
    assert isinstance(m.form, LinearForm)
    (output,) = m.form.forward(*m.inputs)
    assert output.dtype == m.cotangent.dtype
    m.assert_equal(output, m.output, "forward")


def apply_with_the_kernel_and_the_bias_is_the_layers_output(m):
    """`apply` is what the VJPs differentiate; `forward` may be another computation of the same."""
    product, output = m.form.apply(m.inputs, m.own_kernel), m.output
    m.assert_equal(m.form.linear_part(output), product, "the output without its bias")
    bias = m.form.bias()
    m.assert_equal(product if bias is None else product + m.form.spread(bias), output, "the output with its bias")
    if m.name in WEIGHTED and m.layer.bias is not None:
        assert bias is not None and tuple(bias.shape) == m.form.unit_shape


def vjp_inputs_with_the_kernel_is_autodiff_of_the_model(m):
    with tf.GradientTape() as tape:
        tape.watch(m.inputs)
        output = m.output
    expected = tape.gradient(output, list(m.inputs), m.cotangent)
    m.assert_equal(list(m.form.vjp_inputs(m.inputs, m.own_kernel, m.cotangent)), expected, "the gradient in x")


def both_vjps_with_another_kernel_are_autodiff_of_the_layer_with_it(m):
    """In x with the kernel replaced; in the kernel, where its value must not matter."""
    if m.name not in WEIGHTED or m.form.node.batchnorm is not None:
        return
    kept = m.layer.kernel.numpy()
    try:
        m.layer.kernel.assign(m.kernel)
        with tf.GradientTape() as tape:
            tape.watch(m.inputs)
            output = m.layer(m.inputs[0])
        expected, in_kernel = tape.gradient(output, [m.inputs[0], m.layer.kernel.value], m.cotangent)
    finally:
        m.layer.kernel.assign(kept)
    m.assert_equal(m.form.vjp_inputs(m.inputs, m.kernel, m.cotangent)[0], expected, "the gradient in x of another kernel")
    m.assert_equal(m.form.vjp_kernel(m.inputs, m.cotangent), in_kernel, "the gradient in the kernel")


def the_three_products_agree(m):
    """<c, f(x, w)> = <w, vjp_kernel(x, c)> = <x, vjp_inputs(w, c)>: f is linear in both, whatever w is."""
    output = m.form.apply(m.inputs, m.kernel)
    value, size = inner(m.cotangent, output), inner(tf.abs(m.cotangent), tf.abs(output))
    assert abs(inner(m.kernel, m.form.vjp_kernel(m.inputs, m.cotangent)) - value) <= m.tolerance * size
    back = m.form.vjp_inputs(m.inputs, m.kernel, m.cotangent)
    assert abs(sum(inner(x, r) for x, r in zip(m.inputs, back, strict=True)) - value) <= m.tolerance * size


def units_of_kernel_and_output_are_the_same(m):
    """A number per unit may be multiplied to the kernel or to the output; `per_unit` is the transpose of `spread`."""
    form = m.form
    assert form.unit_shape == tuple(size for axis, size in enumerate(form.kernel_shape) if axis not in form.fan_in)
    numbers = tf.constant(np.random.default_rng(4).normal(size=form.unit_shape), m.kernel.dtype)
    scaled = form.apply(m.inputs, m.kernel * form.spread_over_kernel(numbers))
    m.assert_equal(scaled, form.apply(m.inputs, m.kernel) * form.spread(numbers), "a scaled kernel's output")
    assert tuple(form.per_unit(m.cotangent).shape) == form.unit_shape
    expected = inner(m.cotangent, form.spread(numbers))
    assert np.isclose(inner(form.per_unit(m.cotangent), numbers), expected, rtol=10 * m.tolerance, atol=10 * m.tolerance)


def input_sums_are_the_kernel_vjp_of_ones(m):
    if m.form.node.batchnorm is not None:
        return
    sums = m.form.input_sums(m.inputs, m.cotangent)
    assert tuple(sums.shape) == m.form.input_sums_shape
    expected = m.form.vjp_kernel(m.inputs, tf.ones_like(m.cotangent))
    m.assert_equal(np.broadcast_to(sums, m.form.kernel_shape), expected, "the sums of inputs")


CHECKS = {
    check.__name__: check
    for check in (
        forward_is_the_layers_output,
        apply_with_the_kernel_and_the_bias_is_the_layers_output,
        vjp_inputs_with_the_kernel_is_autodiff_of_the_model,
        both_vjps_with_another_kernel_are_autodiff_of_the_layer_with_it,
        the_three_products_agree,
        units_of_kernel_and_output_are_the_same,
        input_sums_are_the_kernel_vjp_of_ones,
    )
}


UNGROUPED = [(name, False) for name in LAYERS if name not in GROUPED] + [(name, True) for name in FUSED]


@pytest.mark.parametrize("name, batchnorm", UNGROUPED)
def test_a_form_is_its_layer(name, batchnorm):
    m = material(name, batchnorm)
    assert offenders(lambda check: CHECKS[check](m), CHECKS) == {}


@pytest.mark.slow
@pytest.mark.parametrize("name, batchnorm", [*((name, False) for name in GROUPED), ("conv1d groups", True)])
def test_a_grouped_form_is_its_layer(name, batchnorm):
    """Keras has XLA compile a grouped convolution, anew at each call."""
    test_a_form_is_its_layer(name, batchnorm)


def test_a_grouped_convolution_in_one_program():
    """The quick part of the test above: all that a rule asks of the form, in one compilation."""
    m = material("conv2d groups")

    @partial(tf.function, jit_compile=True, autograph=False)
    def program(x, cotangent):
        with tf.GradientTape() as tape:
            tape.watch(x)
            output = m.layer(x)
        wanted = [output, *tape.gradient(output, [x, m.layer.kernel.value], cotangent)]
        kernel = m.form.kernel()
        found = [m.form.forward(x)[0], m.form.vjp_inputs((x,), kernel, cotangent)[0], m.form.vjp_kernel((x,), cotangent)]
        return [*found, m.form.apply((x,), kernel) + m.form.spread(m.form.bias())], [*wanted, output]

    m.assert_equal(*program(m.inputs[0], m.cotangent), "a grouped convolution")


FAN_IN = {
    "dense": ((0,), (4, 3)),
    "einsum": ((0,), (4, 2, 3)),
    "einsum permuted": ((0,), (4, 2, 3)),
    "einsum batch letter": ((1,), (4, 3, 2)),
    "einsum two sums": ((0, 1), (4, 3, 2)),
    "einsum positions": ((0,), (6, 5)),
    "einsum ellipsis": ((0,), (4, 3)),
    "conv2d": ((0, 1, 2), (3, 2, 4, 3)),
    "conv2d groups": ((0, 1, 2), (3, 3, 2, 4)),
    "conv3d": ((0, 1, 2, 3), (2, 2, 2, 2, 3)),
    "depthwise1d": ((0,), (3, 4, 2)),
    "depthwise2d": ((0, 1), (3, 3, 4, 1)),
    "add three": ((0,), (3, 4)),
    "pool2d": ((0, 1), (2, 2, 4)),
    "global1d": ((0,), (6, 4)),
    "global2d": ((0, 1), (5, 4, 4)),
}


def test_fan_in_and_shapes():
    forms = {name: material(name).form for name in FAN_IN}
    assert {name: (form.fan_in, form.kernel_shape) for name, form in forms.items()} == FAN_IN
    for name in set(FAN_IN) & set(WEIGHTED):
        assert forms[name].kernel_shape == tuple(material(name).layer.kernel.shape)


@pytest.mark.parametrize("name", ["dense", "conv2d same", "einsum", "depthwise2d", "add"])
def test_a_kernel_that_is_off_by_a_thousandth_is_caught(name):
    """By the checks above that hold it against the layer."""
    m = material(name)
    planted = dataclasses.replace(m, form=_with_kernel(m.form, m.form.kernel() * 1.001))
    for check in (
        apply_with_the_kernel_and_the_bias_is_the_layers_output,
        vjp_inputs_with_the_kernel_is_autodiff_of_the_model,
    ):
        check(m)
        with pytest.raises(AssertionError, match="differs by"):
            check(planted)


def _with_kernel(form, kernel):
    """The form, which says that its kernel is another."""

    class Planted:
        def __getattr__(self, name):
            return (lambda: kernel) if name == "kernel" else getattr(form, name)

    return Planted()


def test_replicas_agree_on_the_virtual_kernels():
    """A third witness for sums and averages, with kernels that are not constant: NumPy alone."""
    for name in ("pool2d", "pool2d overlapping", "global2d", "pool1d", "pool3d"):
        m = material(name)
        x = m.inputs[0].numpy()
        size, strides, dilations, padding = replicas.geometry(m.layer, x.shape) if "3d" not in name else (
            (2,) * 3, (2,) * 3, (1,) * 3, "valid")  # fmt: skip
        patches = replicas.extract_patches(x, size, strides, dilations, padding)
        rank = len(size)
        taps = tuple(range(1 + rank, 1 + 2 * rank))
        expected = np.sum(patches * m.kernel.numpy(), axis=taps)
        m.assert_equal(m.form.apply(m.inputs, m.kernel), expected.reshape(m.cotangent.shape), name)
    m = material("add three")
    expected = sum(x.numpy() * kernel for x, kernel in zip(m.inputs, m.kernel.numpy(), strict=True))
    m.assert_equal(m.form.apply(m.inputs, m.kernel), expected, "add three")


@pytest.mark.parametrize("name", SEPARABLE)
def test_both_halves_of_a_separable_convolution(name):
    factory, (shape,) = SEPARABLE[name]
    x = keras.Input(shape, dtype="float64")
    layer = factory(dtype="float64", name="layer")
    model = models.randomize(keras.Model(x, layer(x)), seed=5)
    forms = forms_of(passes.rewrite(trace(model), fuse=True, split=True))
    first, second = forms["layer/depthwise"], forms["layer/pointwise"]
    rng = np.random.default_rng(6)
    data = tf.constant(rng.normal(size=(SAMPLES, *shape)))
    with tf.GradientTape() as tape:
        tape.watch(data)
        output = layer(data)
    cotangent = tf.constant(rng.normal(size=output.shape))
    weights = [layer.depthwise_kernel.value, layer.pointwise_kernel.value]
    expected = tape.gradient(output, [data, *weights], cotangent)
    (hidden,) = first.forward(data)
    (back,) = second.vjp_inputs((hidden,), second.kernel(), cotangent)
    whole = forms_of(passes.rewrite(trace(model), fuse=False))["layer"]
    pairs = {
        "the output": (second.forward(hidden)[0], output),
        "the gradient in x": (first.vjp_inputs((data,), first.kernel(), back)[0], expected[0]),
        "the gradient in the first kernel": (first.vjp_kernel((data,), back), expected[1]),
        "the gradient in the second kernel": (second.vjp_kernel((hidden,), cotangent), expected[2]),
        "the whole's output": (whole.forward(data)[0], output),
        "the whole's gradient": (whole.vjp_inputs((data,), whole.kernel(), cotangent)[0], expected[0]),
        "the whole's linear part": (whole.apply((data,), whole.kernel()), whole.linear_part(output)),
    }
    assert offenders(lambda what: assert_close(*pairs[what], FLOAT64, what), pairs) == {}


# Which form a node gets ----------------------------------------------------------------------------------------------


def kinds(name, fuse=True, split=True):
    return {name: form.kind for name, form in forms_of(passes.rewrite(trace(models.case(name).model), fuse, fuse)).items()}


def test_kinds():
    assert kinds("residual")["add"] == "sum"
    assert kinds("residual")["pool"] == kinds("residual")["gap"] == "average"
    assert kinds("conv_bn", fuse=False)["bn1"] == "scale"
    assert kinds("activation_layers") == {
        **dict.fromkeys(("one", "two", "three", "four", "out"), "linear"),
        **dict.fromkeys(("leaky", "prelu", "elu", "relu"), "activation"),
    }
    assert kinds("gate")["gated"] == "product"
    assert kinds("text")["embedding"] == "embedding"
    assert kinds("masked_text")["gap"] == "average"  # but no linear form: it has another kernel for every sample
    attention = dict.fromkeys(
        ("attention/query", "attention/key", "attention/value", "attention/attention_output"), "linear"
    )
    inside = {"einsum": "matmul", "multiply": "scale", "softmax": "softmax", "einsum#2": "matmul"}
    attention.update({f"attention/dot_product_attention/{name}": kind for name, kind in inside.items()})
    assert kinds("opaque") == {**attention, "norm": "normalization", "closed": "opaque", "out": "linear"}
    inline = kinds("inline")
    assert inline["relu/activation"] == "rectifier"
    assert inline["gelu/activation"] == inline["hard_silu/activation"] == "activation"
    assert inline["softmax/activation"] == "softmax"


def test_kinds_of_operators():
    found = list(kinds("operators").values())
    assert "opaque" not in found
    counted = {kind: found.count(kind) for kind in set(found)}
    # x * 2, - 0.5, / 3, negative; x + y, x - y; one gate
    assert (counted["scale"], counted["sum"], counted["product"]) == (4, 2, 1)


def test_a_subclass_with_a_call_of_its_own_is_what_it_does():
    """What a layer inherits says nothing of what it computes."""
    known = {layer.__name__: layer for layer in (*ROUTES, *SCALES, *MAXIMA, *NORMALIZATIONS, *ACTIVATIONS)}
    # Of what takes another rank, or several inputs, nothing is seen here.
    doubled = {name: _kind_of_a_subclass(layer, lambda x: x * 2) for name, layer in known.items()}
    assert set(doubled.values()) <= {"scale", "activation", "opaque"} and list(doubled.values()).count("scale") > 5
    sort = {name: _kind_of_a_subclass(layer, lambda x: keras.ops.sort(x, -1)) for name, layer in known.items()}
    assert sort == dict.fromkeys(known, "opaque")


def _kind_of_a_subclass(layer, compute):
    class Other(layer):
        def call(self, x):
            return compute(x)

    arguments = {layers.Reshape: [(4,)], layers.RepeatVector: [2], layers.Permute: [(1,)], layers.Rescaling: [2.0]}
    arguments |= {layers.Activation: ["relu"]} | {cls: [2] for cls in MAXIMA if cls.__name__.startswith("Adaptive")}
    with_rate = any(word in layer.__name__ for word in ("Dropout", "Noise"))
    built = layer(*([0.5] if with_rate else arguments.get(layer, [])))
    built.__class__ = Other
    graph = trace(models.case("dense").model)
    node = graph.nodes[0].replace(operation=built)
    return forms_of(graph.replace(nodes=(node,)))["first"].kind


def test_sums_without_a_fixed_number_of_channels_have_no_kernel():
    one, two = keras.Input((None,), name="one"), keras.Input((None,), name="two")
    graph = trace(keras.Model([one, two], layers.Add(name="add")([one, two])))
    form = forms_of(graph)["add"]
    assert form.kind == "sum" and not isinstance(form, LinearForm) and form.weights == (1.0, 1.0)


def test_weights_are_shared_by_layer_part_and_batchnorm():
    forms = forms_of(passes.rewrite(trace(models.case("shared").model), fuse=True, split=True))
    assert forms["shared"].weights_key == forms["shared#2"].weights_key == forms["shared#3"].weights_key
    assert forms["shared"].weights_key != forms["out"].weights_key
    residual = forms_of(passes.rewrite(trace(models.case("residual").model), fuse=True, split=True))
    assert len({residual[name].weights_key for name in ("add", "subtract", "mean", "branch")}) == 4


def test_float16_kernels_are_combined_in_float32():
    x = keras.Input((4,), dtype="float16")
    value = layers.BatchNormalization(dtype="float16")(layers.Dense(3, dtype="float16", name="dense")(x))
    form = forms_of(passes.rewrite(trace(keras.Model(x, value)), fuse=True, split=True))["dense"]
    assert form.kernel().dtype == form.bias().dtype == tf.float32
    assert form.forward(ops.ones((2, 4), "float16"))[0].dtype == tf.float16
