"""LiteRT and ONNX: the same numbers from their own runtimes, gradient kernels as forward operations, what is refused."""

import json

import keras
import models
import numpy as np
import pytest
import tensorflow as tf
from comparing import assert_close, offenders
from exports import image_model
from registered import create, model

import innvest_lite
from innvest_lite import ExportError, InvalidInputError
from innvest_lite.backend import formats
from innvest_lite.backend.portable import lowered

interpreters = pytest.importorskip("ai_edge_litert.interpreter")
onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

X = models.normal(5, 9, 8, 2)
TARGETS = np.array([2, 0, 1, 1, 2], "int32")


def litert(path):
    """A LiteRT file as a function of named arrays."""
    return interpreters.Interpreter(str(path)).get_signature_runner("serve")


def onnx_session(path):
    """An ONNX file as a function of named arrays."""
    session = onnxruntime.InferenceSession(str(path))
    names = [output.name for output in session.get_outputs()]
    return lambda **arrays: dict(zip(names, session.run(None, arrays), strict=True))


RUNTIMES = {"litert": (".tflite", litert), "onnx": (".onnx", onnx_session)}


@pytest.fixture(params=RUNTIMES)
def run(request, tmp_path):
    """A function that exports an analyzer to a format and gives the file as a function of named arrays."""
    ending, load = RUNTIMES[request.param]

    def exported(analyzer, **options):
        path = tmp_path / f"served{ending}"
        analyzer.export(path, format=request.param, **options)
        return load(path)

    exported.format = request.param
    return exported


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("gradient", "pattern.net", "lrp.epsilon")]


@pytest.mark.parametrize("name", ["pattern.attribution", *SLOW])
def test_other_runtimes_give_the_same(name, run, eager):
    analyzer = create(name)
    served = run(analyzer, target="input")
    for samples in (5, 1):
        results = served(x=X[:samples], target=TARGETS[:samples])
        assert_close(results["attributions"], analyzer(X[:samples], target=TARGETS[:samples]), 1e-4)
        assert_close(results["predictions"], model()(X[:samples]), 1e-4)
        if run.format == "litert":
            np.testing.assert_array_equal(results["target"], TARGETS[:samples])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["residual", "shapes"])
def test_other_models(name, run):
    if (run.format, name) == ("litert", "shapes"):
        pytest.skip("LiteRT's XNNPACK cannot prepare sums over values of five axes, as behind UpSampling2D")
    case = models.case(name)
    analyzer = models.fitted(innvest_lite.PatternAttribution, name)
    results = run(analyzer)(x=case.x)
    assert_close(results["attributions"], analyzer(case.x), 1e-4)
    np.testing.assert_array_equal(results["target"], models.predicted(name)[0][0].argmax(1))


@pytest.mark.slow
def test_several_inputs(run, eager):
    case = models.case("two_inputs")
    analyzer = innvest_lite.Gradient(case.model)
    results = run(analyzer, predictions=False)(a=case.x[0], b=case.x[1])
    for name, expected in zip("ab", analyzer(case.x), strict=True):
        assert_close(results[f"attributions_{name}"], expected, 1e-4)
    assert "predictions" not in results


@pytest.mark.slow
def test_images_in_and_pictures_out(run):
    stack = [keras.Input((9, 8, 3)), keras.layers.Conv2D(4, 3, activation="relu"), keras.layers.Flatten()]
    analyzer = innvest_lite.Gradient(models.randomize(keras.Sequential([*stack, keras.layers.Dense(3)]), 2))
    images = np.random.default_rng(0).integers(0, 256, (4, 9, 8, 3)).astype("uint8")
    results = run(analyzer, preprocess="vgg16", render="overlay")(x=images)
    heat = analyzer.analyze(innvest_lite.images.preprocess(images, "vgg16"))
    assert_close(results["attributions"], heat, 1e-4)
    picture = innvest_lite.visualize.overlay(heat, images)
    assert np.abs(results["picture"].astype(int) - picture.astype(int)).max() <= 1


def test_a_target_out_of_range_gives_no_number_and_a_neutral_picture(run):
    """These programs cannot stop."""
    serve = run(innvest_lite.Gradient(image_model()), target="input", render="heatmap", batch=5)
    results = serve(x=models.normal(5, 9, 8, 3), target=np.array([0, 3, 1, -1, 2], "int32"))
    assert [np.isnan(one).mean() for one in results["attributions"]] == [0, 1, 0, 1, 0]
    assert [bool((one == 255).all()) for one in results["picture"]] == [False, True, False, True, False]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_other_dtypes_are_named(dtype, tmp_path):
    x = keras.Input((4,), dtype=dtype)
    analyzer = innvest_lite.Gradient(keras.Model(x, keras.layers.Dense(3, "relu", dtype=dtype)(x)))
    for name, (ending, _) in RUNTIMES.items():
        try:
            analyzer.export(tmp_path / f"served{ending}", format=name)
        except ExportError as error:
            assert f"which computes in {dtype};" in str(error)


@pytest.mark.slow
def test_a_loop(run):
    """Its quick part is the lowered loop below."""
    analyzer = create("integrated_gradients")
    assert_close(run(analyzer)(x=X)["attributions"], analyzer(X), 1e-4)


# Quick are the same numbers in `test_draws.py`, and from a seed that is an input in `test_served.py`.
@pytest.mark.slow
def test_random_methods_in_onnx(tmp_path):
    dense, x = models.case("dense").model, models.case("dense").x
    innvest_lite.Random(dense).export(tmp_path / "served.onnx", format="onnx", predictions=False)
    for seed in (0, 2**40 + 3):
        results = onnx_session(tmp_path / "served.onnx")(x=x, seed=np.array(seed))
        assert_close(results["attributions"], innvest_lite.Random(dense, seed=seed)(x), 1e-4)


LACKING = {"AvgPool3DGrad": (innvest_lite.Gradient, "conv3d"), "LeftShift": (innvest_lite.Random, "dense")}


@pytest.mark.parametrize("operation", ["AvgPool3DGrad", pytest.param("LeftShift", marks=pytest.mark.slow)])
def test_litert_says_which_operations_it_lacks(operation, tmp_path):
    method, name = LACKING[operation]
    with pytest.raises(ExportError, match=rf"LiteRT cannot hold this analyzer: it has no .*{operation}.* SavedModel"):
        method(models.case(name).model).export(tmp_path / "served.tflite", format="litert", predictions=False)
    assert not list(tmp_path.iterdir())


def test_onnx_says_which_operations_it_lacks(tmp_path):
    case = models.case("conv3d")
    analyzer = innvest_lite.Gradient(case.model)
    with pytest.raises(ExportError, match="ONNX cannot hold this analyzer: it has no .*AvgPool3DGrad"):
        analyzer.export(tmp_path / "served.onnx", format="onnx")
    assert not list(tmp_path.iterdir())


def test_onnx_without_its_converter(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tf2onnx", None)
    with pytest.raises(ExportError, match="tf2onnx, which is not installed: pip install"):
        create("gradient").export(tmp_path / "served.onnx", format="onnx")


def test_an_onnx_file_carries_the_description_and_names_its_open_axis(tmp_path):
    innvest_lite.Gradient(models.case("dense").model).export(tmp_path / "served.onnx", format="onnx", target="input")
    file = onnx.load(tmp_path / "served.onnx")
    (entry,) = file.metadata_props
    facts = json.loads(entry.value)
    assert entry.key == "description" and facts["method"] == "Gradient" and list(facts["signatures"]) == ["serve"]
    axes = {value.name: value.type.tensor_type.shape.dim[0].dim_param for value in (*file.graph.input, *file.graph.output)}
    assert axes == dict.fromkeys(("x", "target", "attributions", "predictions"), "batch")


def test_a_folder_for_the_file_must_be_there(tmp_path):
    with pytest.raises(OSError, match="There is no folder"):
        create("gradient").export(tmp_path / "nowhere" / "served.onnx", format="onnx")
    (tmp_path / "served.onnx").mkdir()
    with pytest.raises(OSError, match="is a folder"):
        create("gradient").export(tmp_path / "served.onnx", format="onnx")
    with pytest.raises(InvalidInputError, match="ends in .onnx"):
        create("gradient").export(tmp_path / "served.tflite", format="onnx")
    with pytest.raises(InvalidInputError, match="ends as a file of the format 'onnx' does: say format='onnx'"):
        create("gradient").export(tmp_path / "other.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["served.onnx"]


# Operations ----------------------------------------------------------------------------------------------------------


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def gradient_of(function):
    """The gradient of a function of one tensor, with cotangents that differ everywhere."""

    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function(x)
        weights = tf.reshape(tf.math.cos(tf.range(tf.size(y), dtype=tf.float32)), tf.shape(y))
        return tape.gradient(y, x, weights)

    return gradient


def plain_and_lowered(function, shape, dtype="float32"):
    """Both as concrete functions, and for each the types of its operations."""
    signature = [tf.TensorSpec(shape, dtype)]
    plain = tf.function(function, input_signature=signature, autograph=False).get_concrete_function()
    low = tf.function(lowered(plain), input_signature=signature, autograph=False).get_concrete_function()
    return plain, low, *({operation.type for operation in one.graph.get_operations()} for one in (plain, low))


def assert_lowered(function, x, gone, open_axes=(0,), stays=False):
    """The lowered gradient is the plain one, without the operations `gone`."""
    shape = [None if axis in open_axes else size for axis, size in enumerate(x.shape)]
    plain, low, before, after = plain_and_lowered(gradient_of(function), shape, x.dtype)
    assert gone in before and (gone in after) == stays
    np.testing.assert_allclose(low(tf.constant(x))[0], plain(tf.constant(x)), rtol=2e-5, atol=1e-6)


ACTIVATIONS = {
    "ReluGrad": tf.nn.relu,
    "Relu6Grad": lambda x: tf.nn.relu6(4 * x),
    "EluGrad": tf.nn.elu,
    "SeluGrad": tf.nn.selu,
    "LeakyReluGrad": lambda x: tf.nn.leaky_relu(x, 0.3),
    "SoftsignGrad": tf.nn.softsign,
    "TanhGrad": tf.tanh,
    "SigmoidGrad": tf.sigmoid,
    "RsqrtGrad": lambda x: tf.math.rsqrt(x * x + 1),
    "SqrtGrad": lambda x: tf.sqrt(x * x + 1),
    "ReciprocalGrad": lambda x: tf.math.reciprocal(x * x + 1),
}


def test_activations():
    x = random(7, 5)
    # Where rectifiers have corners.
    x[0], x[1] = 0, 1.5
    assert offenders(lambda gone: assert_lowered(ACTIVATIONS[gone], x, gone), ACTIVATIONS) == {}


WINDOWS = [
    (2, 2, "VALID"),
    (2, 2, "SAME"),
    (3, 2, "SAME"),
    (3, 1, "SAME"),
    (3, 2, "VALID"),
    (2, 3, "VALID"),
    (1, 2, "SAME"),
    ((2, 3), (1, 2), "SAME"),
]


def test_maxima():
    """Also with ties, which go to the first; values below 0 must not lose against the padding."""
    x = random(3, 7, 8, 2) - 3
    x = np.concatenate([x, np.round(x)])
    pool = lambda *window: assert_lowered(lambda x: tf.nn.max_pool2d(x, *window), x, "MaxPoolGrad")  # noqa: E731
    assert offenders(pool, WINDOWS) == {}


def test_averages():
    x = random(3, 7, 8, 2)
    pool = lambda *window: assert_lowered(lambda x: tf.nn.avg_pool2d(x, *window), x, "AvgPoolGrad")  # noqa: E731
    assert offenders(pool, WINDOWS) == {}


CONVOLUTIONS = [
    *((kernel, stride, 1, padding) for kernel in (1, 2, 3) for stride in (1, 2) for padding in ("SAME", "VALID")),
    *((3, 1, 2, padding) for padding in ("SAME", "VALID")),
    (2, 3, 1, "SAME"),
]


def test_convolutions():
    def lowers(kernel, stride, dilation, padding):
        weights = random(kernel, kernel + 1, 4, 6)
        convolve = lambda x: tf.nn.conv2d(x, weights, stride, padding, dilations=dilation)  # noqa: E731
        assert_lowered(convolve, random(2, 9, 8, 4), "Conv2DBackpropInput")

    assert offenders(lowers, CONVOLUTIONS) == {}


def test_grouped_convolutions():
    def lowers(stride, padding):
        convolve = lambda x: tf.nn.conv2d(x, random(3, 3, 2, 6), stride, padding)  # noqa: E731
        assert_lowered(convolve, random(2, 9, 8, 4), "Conv2DBackpropInput", ())

    assert offenders(lowers, [(1, "SAME"), (2, "VALID")]) == {}


@pytest.mark.slow
def test_depthwise_convolutions():
    def lowers(kernel, stride, dilation, padding, multiplier):
        weights, strides = random(kernel, kernel, 4, multiplier), (1, stride, stride, 1)
        convolve = lambda x: tf.nn.depthwise_conv2d(x, weights, strides, padding, dilations=(dilation,) * 2)  # noqa: E731
        assert_lowered(convolve, random(2, 9, 8, 4), "DepthwiseConv2dNativeBackpropInput")

    # Several outputs of a channel with one of each kind: even and odd, strided, dilated, with a stride beyond the kernel.
    several = [options for options in CONVOLUTIONS if options[0] == 3 or options[1] == 3]
    assert offenders(lowers, [*((*options, 1) for options in CONVOLUTIONS), *((*options, 3) for options in several)]) == {}


SLICES = {
    "rows": lambda x: x[:, 1:4],
    "strided": lambda x: x[:, ::2, 1::3],
    "one": lambda x: x[:, 2],
    "last": lambda x: x[:, -1],
    "from the end": lambda x: x[:, -3:-1],
    "backwards": lambda x: x[:, ::-1, 5:0:-2],
    "ellipsis": lambda x: x[..., 1],
    "new axis": lambda x: x[:, None, 1:, ..., None],
}


def test_slices():
    x = random(3, 6, 7, 2)
    assert offenders(lambda name: assert_lowered(SLICES[name], x, "StridedSliceGrad"), SLICES) == {}


def test_slices_of_open_axes():
    assert_lowered(lambda x: x[..., ::2], random(3, 6, 7), "StridedSliceGrad", (1,))
    assert_lowered(lambda x: x[..., 1:4], random(3, 6, 7), "StridedSliceGrad", (0, 1), stays=True)


def test_what_has_no_forward_form_is_copied():
    """Channels first, which TensorFlow's kernels on CPU refuse to run."""
    pool = lambda x: tf.nn.max_pool2d(x, 2, 2, "VALID", data_format="NCHW")  # noqa: E731
    _, _, before, after = plain_and_lowered(gradient_of(pool), (None, 2, 6, 6))
    assert "MaxPoolGrad" in before & after
    over_channels = lambda x: tf.nn.max_pool2d(x, (1, 1, 1, 2), (1, 1, 1, 2), "VALID")  # noqa: E731
    assert "MaxPoolGrad" in plain_and_lowered(gradient_of(over_channels), (None, 6, 6, 2))[3]


def test_sums_over_no_axes():
    plain, low, before, after = plain_and_lowered(lambda x: tf.reduce_sum(x, tf.constant([], "int32")), (None, 3))
    assert "Sum" in before and "Sum" not in after
    np.testing.assert_array_equal(low(tf.constant(random(4, 3)))[0], plain(tf.constant(random(4, 3))))


def test_functions_within():
    inner = tf.function(gradient_of(tf.nn.relu), autograph=False)
    plain, low, before, after = plain_and_lowered(lambda x: inner(2 * x), (None, 3))
    assert {"PartitionedCall", "StatefulPartitionedCall"} & before and "ReluGrad" not in after
    assert not {"PartitionedCall", "StatefulPartitionedCall"} & after
    np.testing.assert_array_equal(low(tf.constant(random(4, 3)))[0], plain(tf.constant(random(4, 3))))


def test_a_loop_whose_state_grows():
    def grown(x):
        more = lambda rows: (tf.concat([rows, tf.nn.relu(rows[:1])], 0),)  # noqa: E731
        return tf.while_loop(lambda rows: tf.shape(rows)[0] < 5, more, (x[:1],), (tf.TensorShape((None, 3)),))

    plain, low, _, _ = plain_and_lowered(grown, (4, 3))
    np.testing.assert_array_equal(low(tf.constant(random(4, 3)))[0], plain(tf.constant(random(4, 3)))[0])


BROADCASTS = {
    "a number": lambda x: x * tf.reduce_sum(x, axis=(1, 2), keepdims=True),
    "an outer product": lambda x: x[:, :, :1] * x[:, :1],
    "einsum": lambda x: tf.einsum("...d,df->...f", x, random(7, 3)),
}


def test_broadcast_shapes():
    x = random(3, 6, 7)
    assert offenders(lambda name: assert_lowered(BROADCASTS[name], x, "BroadcastGradientArgs"), BROADCASTS) == {}


def test_division_by_zero():
    x = random(4, 3)
    x[1] = 0
    signature = [tf.TensorSpec((None, 3))]
    plain = tf.function(lambda x: tf.math.divide_no_nan(x + 1, x), signature, autograph=False).get_concrete_function()
    low = tf.function(lowered(plain), signature, autograph=False).get_concrete_function()
    np.testing.assert_array_equal(low(tf.constant(x))[0], plain(tf.constant(x)))
    assert "DivNoNan" not in {operation.type for operation in low.graph.get_operations()}


def test_joined_values():
    assert_lowered(lambda x: tf.concat([x, 2 * x[:, 1:]], axis=1), random(3, 6, 2), "ConcatOffset")


def test_maxima_along_axes():
    for axis in (1, (1, 2), -1):
        assert_lowered(lambda x, axis=axis: tf.reduce_max(x, axis=axis), random(3, 6, 2), "DynamicStitch")


def test_weights_become_constants():
    weight = tf.Variable(random(3, 2))
    traced = formats.endpoint(lambda x: {"y": x @ weight}, [formats.named_spec((None, 3), "float32", "x")])
    low = formats._portable(traced).get_concrete_function()
    assert not low.graph.captures and formats._weights([traced]) == [weight]
    expected = traced(tf.constant(random(4, 3)))["y"]
    weight.assign_add(tf.ones((3, 2)))
    np.testing.assert_array_equal(low(tf.constant(random(4, 3)))["y"], expected)
