"""Every linear form in float64 against autodiff of the Keras layer itself, and the algebra that the rules stand on."""

import dataclasses
from functools import cache, partial

import keras
import models
import numpy as np
import pytest
import replicas
import tensorflow as tf
from keras import layers, ops

from innvest_lite.forms import Form, LinearForm, forms_of
from innvest_lite.forms.normalization import LAYERS as NORMALIZATIONS
from innvest_lite.forms.structure import ACTIVATIONS, MAXIMA, ROUTES, SCALES
from innvest_lite.graph import passes, trace

# Relative to the largest entry. Virtual kernels (1/3) are constants in float32.
EXACT, ROUNDED = 1e-12, 2e-7
# TensorFlow has no average pooling of three-dimensional float64 on CPU.
FLOAT32 = ("pool3d", "pool3d same")

Dense, Einsum = partial(layers.Dense, 3), layers.EinsumDense
Conv1D, Conv2D, Conv3D = layers.Conv1D, layers.Conv2D, layers.Conv3D
IMAGE, SEQUENCE = (6, 5, 4), (7, 4)
AVERAGE = layers.AveragePooling2D

# name: (layer, shapes of its inputs)
LINEAR = {
    "dense": (Dense, [(4,)]),
    "dense sequence": (Dense, [SEQUENCE]),
    "dense bare": (partial(Dense, use_bias=False), [(4,)]),
    "einsum": (partial(Einsum, "btd,dhk->bthk", (7, 2, 3), bias_axes="hk"), [SEQUENCE]),
    "einsum flat bias": (partial(Einsum, "btd,dhk->bhtk", (2, 7, 3), bias_axes="hk"), [SEQUENCE]),
    "einsum permuted": (partial(Einsum, "btd,dhk->bkth", (3, 7, 2), bias_axes="kh"), [SEQUENCE]),
    "einsum permuted flat bias": (partial(Einsum, "btd,dhk->bkht", (3, 2, 7), bias_axes="kh"), [SEQUENCE]),
    "einsum three units": (partial(Einsum, "bd,dhkm->bkmh", (3, 5, 2), bias_axes="kmh"), [(4,)]),
    "einsum batch letter": (partial(Einsum, "bthk,hkj->bthj", (5, 4, 2), bias_axes="hj"), [(5, 4, 3)]),
    "einsum two sums": (partial(Einsum, "bthk,hkd->btd", (5, 2), bias_axes="d"), [(5, 4, 3)]),
    "einsum positions": (partial(Einsum, "btd,tu->bud", (5, 4), bias_axes="u"), [SEQUENCE]),
    "einsum ellipsis": (partial(Einsum, "...d,de->...e", 3, bias_axes="e"), [SEQUENCE]),
    "einsum free letter": (partial(Einsum, "btd,de->be", 3), [SEQUENCE]),
    "conv1d": (partial(Conv1D, 3, 3, 2, "same"), [SEQUENCE]),
    "conv1d causal": (partial(Conv1D, 3, 3, padding="causal", dilation_rate=2), [SEQUENCE]),
    "conv1d groups": (partial(Conv1D, 4, 2, groups=2), [SEQUENCE]),
    "conv1d 1x1 stride": (partial(Conv1D, 3, 1, 2), [SEQUENCE]),
    "conv2d": (partial(Conv2D, 3, (3, 2)), [IMAGE]),
    "conv2d same": (partial(Conv2D, 3, 3, 2, "same"), [IMAGE]),
    "conv2d dilation": (partial(Conv2D, 3, 2, dilation_rate=2, padding="same"), [IMAGE]),
    "conv2d groups": (partial(Conv2D, 4, 3, groups=2, padding="same"), [IMAGE]),
    "conv2d bare": (partial(Conv2D, 3, 2, use_bias=False), [IMAGE]),
    "conv2d 1x1": (partial(Conv2D, 3, 1), [IMAGE]),
    "conv2d 1x1 stride": (partial(Conv2D, 3, 1, 2), [IMAGE]),
    "conv2d 1x1 strides": (partial(Conv2D, 3, 1, (3, 2), "same"), [IMAGE]),
    "conv2d 1x1 stride groups": (partial(Conv2D, 4, 1, 2, groups=2), [IMAGE]),
    "conv3d": (partial(Conv3D, 3, 2, 2, "same"), [(4, 5, 3, 2)]),
    "conv3d 1x1 stride": (partial(Conv3D, 3, 1, 2), [(4, 5, 3, 2)]),
    "depthwise1d": (partial(layers.DepthwiseConv1D, 3, depth_multiplier=2), [SEQUENCE]),
    "depthwise2d": (partial(layers.DepthwiseConv2D, 3, 2, "same"), [IMAGE]),
    "depthwise2d multiplier": (partial(layers.DepthwiseConv2D, 2, depth_multiplier=3), [IMAGE]),
    "depthwise2d dilation": (partial(layers.DepthwiseConv2D, 2, dilation_rate=2), [IMAGE]),
    "transposed1d": (partial(layers.Conv1DTranspose, 3, 3, 2, "same"), [SEQUENCE]),
    "transposed2d": (partial(layers.Conv2DTranspose, 3, (3, 2), (1, 2)), [IMAGE]),
    "transposed2d output": (partial(layers.Conv2DTranspose, 2, 3, 2, "same", output_padding=1), [IMAGE]),
    "transposed3d": (partial(layers.Conv3DTranspose, 3, 2, 2), [(2, 3, 3, 2)]),
    "add": (layers.Add, [IMAGE, IMAGE]),
    "add three": (layers.Add, [(4,), (4,), (4,)]),
    "add broadcast": (layers.Add, [IMAGE, (1, 1, 4)]),
    "add one channel": (layers.Add, [IMAGE, (6, 5, 1)]),
    "subtract": (layers.Subtract, [SEQUENCE, SEQUENCE]),
    "mean": (layers.Average, [SEQUENCE, SEQUENCE, SEQUENCE]),
    "pool1d": (partial(layers.AveragePooling1D, 2), [SEQUENCE]),
    "pool1d same": (partial(layers.AveragePooling1D, 3, 2, "same"), [SEQUENCE]),
    "pool2d": (partial(AVERAGE, 2), [IMAGE]),
    "pool2d overlapping": (partial(AVERAGE, (3, 2), 1), [IMAGE]),
    "pool2d strides": (partial(AVERAGE, (2, 1), (2, 1)), [IMAGE]),
    "pool2d same, not dividing": (partial(AVERAGE, 4, 3, "same"), [IMAGE]),
    "pool3d": (partial(layers.AveragePooling3D, 2), [(4, 5, 3, 2)]),
    "pool3d same": (partial(layers.AveragePooling3D, 2, 2, "same"), [(4, 5, 3, 2)]),
    "global1d": (layers.GlobalAveragePooling1D, [SEQUENCE]),
    "global2d": (layers.GlobalAveragePooling2D, [IMAGE]),
    "global2d keepdims": (partial(layers.GlobalAveragePooling2D, keepdims=True), [IMAGE]),
    "global3d": (layers.GlobalAveragePooling3D, [(4, 5, 3, 2)]),
}
WEIGHTED = [name for name in LINEAR if not name.startswith(("add", "subtract", "mean", "pool", "global"))]
FUSED = [
    "dense",
    "dense sequence",
    "einsum ellipsis",
    "conv2d same",
    "conv2d bare",
    "conv1d groups",
    "depthwise2d multiplier",
    "transposed2d output",
]
SAMPLES = 3


@dataclasses.dataclass(frozen=True)
class Material:
    """One layer as a form, with the layer, the whole model, inputs, a cotangent and another kernel, in float64."""

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


@cache
def material(name, batchnorm=False):
    factory, shapes = LINEAR[name]
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
        form,
        layer,
        model,
        tuple(tf.constant(rng.normal(0.3, 1, (SAMPLES, *shape)), dtype) for shape in shapes),
        tf.constant(rng.normal(size=(SAMPLES, *value.shape[1:])), dtype),
        tf.constant(rng.normal(size=form.kernel_shape), dtype),
        EXACT if name in WEIGHTED else ROUNDED,
    )


def assert_equal(actual, expected, tolerance=EXACT):
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, f"{actual.shape}, expected {expected.shape}"
    largest = max(np.abs(expected).max(), 1e-300)
    assert np.abs(actual - expected).max() <= tolerance * largest, np.abs(actual - expected).max() / largest


def inner(one, two):
    return float(tf.reduce_sum(one * two))


every_form = pytest.mark.parametrize("name", LINEAR)
with_batchnorm = pytest.mark.parametrize(
    "name, batchnorm", [*((name, False) for name in LINEAR), *((name, True) for name in FUSED)]
)


@with_batchnorm
def test_forward_is_the_layers_output(name, batchnorm):
    m = material(name, batchnorm)
    assert isinstance(m.form, LinearForm)
    (output,) = m.form.forward(*m.inputs)
    assert output.dtype == m.cotangent.dtype
    assert_equal(output, m.model(list(m.inputs)), m.tolerance)


@with_batchnorm
def test_apply_with_the_kernel_and_the_bias_is_the_layers_output(name, batchnorm):
    """`apply` is what the VJPs differentiate; `forward` may be another computation of the same."""
    m = material(name, batchnorm)
    output = m.form.apply(m.inputs, m.own_kernel)
    assert_equal(m.form.linear_part(m.model(list(m.inputs))), output, m.tolerance)
    bias = m.form.bias()
    assert_equal(output if bias is None else output + m.form.spread(bias), m.model(list(m.inputs)), m.tolerance)
    if name in WEIGHTED and m.layer.bias is not None:
        assert bias is not None and tuple(bias.shape) == m.form.unit_shape


@with_batchnorm
def test_vjp_inputs_with_the_kernel_is_autodiff_of_the_layer(name, batchnorm):
    m = material(name, batchnorm)
    with tf.GradientTape() as tape:
        tape.watch(m.inputs)
        output = m.model(list(m.inputs))
    expected = tape.gradient(output, list(m.inputs), m.cotangent)
    actual = m.form.vjp_inputs(m.inputs, m.own_kernel, m.cotangent)
    for one, two in zip(actual, expected, strict=True):
        assert_equal(one, two, m.tolerance)


@pytest.mark.parametrize("name", WEIGHTED)
def test_both_vjps_with_another_kernel_are_autodiff_of_the_layer_with_it(name):
    """In x with the kernel replaced; in the kernel, where its value must not matter."""
    m = material(name)
    kept = m.layer.kernel.numpy()
    try:
        m.layer.kernel.assign(m.kernel)
        with tf.GradientTape() as tape:
            tape.watch(m.inputs)
            output = m.layer(m.inputs[0])
        expected, in_kernel = tape.gradient(output, [m.inputs[0], m.layer.kernel.value], m.cotangent)
    finally:
        m.layer.kernel.assign(kept)
    assert_equal(m.form.vjp_inputs(m.inputs, m.kernel, m.cotangent)[0], expected)
    assert_equal(m.form.vjp_kernel(m.inputs, m.cotangent), in_kernel)


@with_batchnorm
def test_the_three_products_agree(name, batchnorm):
    """<c, f(x, w)> = <w, vjp_kernel(x, c)> = <x, vjp_inputs(w, c)>: f is linear in both, whatever w is."""
    m = material(name, batchnorm)
    value = inner(m.cotangent, m.form.apply(m.inputs, m.kernel))
    size = inner(tf.abs(m.cotangent), tf.abs(m.form.apply(m.inputs, m.kernel)))
    assert abs(inner(m.kernel, m.form.vjp_kernel(m.inputs, m.cotangent)) - value) <= m.tolerance * size
    back = m.form.vjp_inputs(m.inputs, m.kernel, m.cotangent)
    assert abs(sum(inner(x, r) for x, r in zip(m.inputs, back, strict=True)) - value) <= m.tolerance * size


@with_batchnorm
def test_units_of_kernel_and_output_are_the_same(name, batchnorm):
    """A number per unit may be multiplied to the kernel or to the output; `per_unit` is the transpose of `spread`."""
    form, m = material(name, batchnorm).form, material(name, batchnorm)
    numbers = tf.constant(np.random.default_rng(4).normal(size=form.unit_shape), m.kernel.dtype)
    scaled = form.apply(m.inputs, m.kernel * form.spread_over_kernel(numbers))
    assert_equal(scaled, form.apply(m.inputs, m.kernel) * form.spread(numbers), m.tolerance)
    assert tuple(form.per_unit(m.cotangent).shape) == form.unit_shape
    expected = inner(m.cotangent, form.spread(numbers))
    assert np.isclose(inner(form.per_unit(m.cotangent), numbers), expected, rtol=10 * m.tolerance, atol=10 * m.tolerance)


@every_form
def test_input_sums_are_the_kernel_vjp_of_ones(name):
    m = material(name)
    sums = m.form.input_sums(m.inputs, m.cotangent)
    assert tuple(sums.shape) == m.form.input_sums_shape
    expected = m.form.vjp_kernel(m.inputs, tf.ones_like(m.cotangent))
    assert_equal(np.broadcast_to(sums, m.form.kernel_shape), expected, m.tolerance)


FAN_IN = {
    "dense": ((0,), (4, 3)),
    "einsum": ((0,), (4, 2, 3)),
    "einsum permuted": ((0,), (4, 2, 3)),
    "einsum batch letter": ((1,), (4, 3, 2)),
    "einsum two sums": ((0, 1), (4, 3, 2)),
    "einsum positions": ((0,), (7, 5)),
    "einsum ellipsis": ((0,), (4, 3)),
    "conv2d": ((0, 1, 2), (3, 2, 4, 3)),
    "conv2d groups": ((0, 1, 2), (3, 3, 2, 4)),
    "conv3d": ((0, 1, 2, 3), (2, 2, 2, 2, 3)),
    "depthwise1d": ((0,), (3, 4, 2)),
    "depthwise2d": ((0, 1), (3, 3, 4, 1)),
    "add three": ((0,), (3, 4)),
    "pool2d": ((0, 1), (2, 2, 4)),
    "global1d": ((0,), (7, 4)),
    "global2d": ((0, 1), (6, 5, 4)),
}


@pytest.mark.parametrize("name", FAN_IN)
def test_fan_in_and_shapes(name):
    form = material(name).form
    assert (form.fan_in, form.kernel_shape) == FAN_IN[name]
    assert form.unit_shape == tuple(size for axis, size in enumerate(form.kernel_shape) if axis not in form.fan_in)
    if name in WEIGHTED:
        assert form.kernel_shape == tuple(material(name).layer.kernel.shape)


@pytest.mark.parametrize("name", ["dense", "conv2d same", "einsum", "depthwise2d", "add"])
def test_a_kernel_that_is_off_by_a_thousandth_is_caught(name):
    """The comparison of the first test, on a planted defect."""
    m = material(name)
    wrong = m.form.apply(m.inputs, m.own_kernel * 1.001)
    with pytest.raises(AssertionError):
        assert_equal(m.form.apply(m.inputs, m.own_kernel), wrong, m.tolerance)


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
        assert_equal(m.form.apply(m.inputs, m.kernel), expected.reshape(m.cotangent.shape), m.tolerance)
    m = material("add three")
    expected = sum(x.numpy() * kernel for x, kernel in zip(m.inputs, m.kernel.numpy(), strict=True))
    assert_equal(m.form.apply(m.inputs, m.kernel), expected)


SEPARABLE = {
    "2d": (partial(layers.SeparableConv2D, 3, 3, depth_multiplier=2, padding="same"), IMAGE),
    "2d stride": (partial(layers.SeparableConv2D, 3, 2, 2, use_bias=False), IMAGE),
    "2d dilation": (partial(layers.SeparableConv2D, 3, 2, dilation_rate=2), IMAGE),
    "1d": (partial(layers.SeparableConv1D, 3, 3, depth_multiplier=2), SEQUENCE),
}


@pytest.mark.parametrize("name", SEPARABLE)
def test_both_halves_of_a_separable_convolution(name):
    factory, shape = SEPARABLE[name]
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
    assert_equal(second.forward(hidden)[0], output)
    (back,) = second.vjp_inputs((hidden,), second.kernel(), cotangent)
    assert_equal(first.vjp_inputs((data,), first.kernel(), back)[0], expected[0])
    assert_equal(first.vjp_kernel((data,), back), expected[1])
    assert_equal(second.vjp_kernel((hidden,), cotangent), expected[2])
    whole = forms_of(passes.rewrite(trace(model), fuse=False))["layer"]
    assert_equal(whole.forward(data)[0], output)
    assert_equal(whole.vjp_inputs((data,), whole.kernel(), cotangent)[0], expected[0])
    assert_equal(whole.apply((data,), whole.kernel()), whole.linear_part(output))


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
    assert kinds("opaque") == {"attention": "opaque", "norm": "normalization", "lstm": "opaque", "out": "linear"}
    inline = kinds("inline")
    assert inline["relu/activation"] == "rectifier"
    assert inline["gelu/activation"] == inline["hard_silu/activation"] == "activation"
    assert inline["softmax/activation"] == "opaque"


def test_kinds_of_operators():
    found = list(kinds("operators").values())
    assert "opaque" not in found
    counted = {kind: found.count(kind) for kind in set(found)}
    # x * 2, - 0.5, / 3, negative; x + y, x - y; one gate
    assert (counted["scale"], counted["sum"], counted["product"]) == (4, 2, 1)


@pytest.mark.parametrize("layer", [*ROUTES, *SCALES, *MAXIMA, *NORMALIZATIONS, *ACTIVATIONS])
def test_a_subclass_with_a_call_of_its_own_is_opaque(layer):
    """What a layer inherits says nothing of what it computes."""

    class Other(layer):
        def call(self, x):
            return x * 2

    arguments = {layers.Reshape: [(4,)], layers.RepeatVector: [2], layers.Permute: [(1,)], layers.Rescaling: [2.0]}
    with_rate = any(word in layer.__name__ for word in ("Dropout", "Noise"))
    built = layer(*([0.5] if with_rate else arguments.get(layer, [])))
    built.__class__ = Other
    graph = trace(models.case("dense").model)
    node = graph.nodes[0].replace(operation=built)
    assert forms_of(graph.replace(nodes=(node,)))["first"].kind == "opaque"


def test_sums_without_a_fixed_number_of_channels_are_opaque():
    one, two = keras.Input((None,), name="one"), keras.Input((None,), name="two")
    graph = trace(keras.Model([one, two], layers.Add(name="add")([one, two])))
    assert type(forms_of(graph)["add"]) is Form


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
