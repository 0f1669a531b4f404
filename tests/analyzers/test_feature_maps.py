"""Which feature maps class activation maps look at by themselves, and how these lie over the input."""

import keras
import models
import numpy as np
import pytest
from cam_replicas import enlarged, expected_heat, features_and_gradient, slow_map
from comparing import assert_close, offenders
from keras import layers, ops
from loop_replicas import assert_saved

from innvest_lite import GradCAM, GradCAMPlusPlus, InvalidInputError, UnsupportedLayerError

BOTH = [GradCAM, GradCAMPlusPlus]


def vgg():
    stack = [keras.Input((12, 12, 3))]
    for block, filters in enumerate((4, 6), start=1):
        for number in (1, 2):
            name = f"block{block}_conv{number}"
            stack.append(layers.Conv2D(filters, 3, padding="same", activation="relu", name=name))
        stack.append(layers.MaxPooling2D(name=f"block{block}_pool"))
    stack += [layers.Flatten(), layers.Dense(8, activation="relu"), layers.Dense(3, activation="softmax")]
    return keras.Sequential(stack)


def pre_activated():
    """As ResNet50V2 ends: the sum of the last block, normalized and rectified."""
    x = keras.Input((8, 8, 2))
    stem = layers.Conv2D(4, 3, padding="same", name="stem")(x)
    value = layers.ReLU(name="relu1")(layers.BatchNormalization(name="bn1")(stem))
    value = layers.Add(name="add")([layers.Conv2D(4, 3, padding="same", name="branch")(value), stem])
    value = layers.ReLU(name="post_relu")(layers.BatchNormalization(name="post_bn")(value))
    return keras.Model(x, layers.Dense(3)(layers.GlobalAveragePooling2D(name="gap")(value)))


def mobile_v3(data_format="channels_last"):
    """As MobileNetV3 ends: global pooling that keeps the axes, and convolutions of one position as the head."""
    x = keras.Input((8, 8, 2) if data_format == "channels_last" else (2, 8, 8))
    lies, axis = {"data_format": data_format}, -1 if data_format == "channels_last" else 1
    value = layers.ReLU(name="last_relu")(layers.BatchNormalization(axis)(layers.Conv2D(4, 3, name="last", **lies)(x)))
    value = layers.GlobalAveragePooling2D(keepdims=True, **lies)(value)
    value = layers.Conv2D(5, 1, activation="relu", name="head", **lies)(value)
    value = layers.Conv2D(3, 1, name="logits", **lies)(value)
    return keras.Model(x, layers.Softmax()(layers.Flatten()(value)))


DEFAULTS = [
    (vgg, "block2_conv2"),
    (pre_activated, "post_relu"),
    (lambda: models.build("conv_bn"), "relu2"),
    (lambda: models.build("residual"), "pool"),
    (lambda: models.build("separable"), "bn2"),
    (lambda: models.build("sequential"), "conv"),
    (lambda: models.build("conv1d"), "separable"),
    (lambda: models.build("conv3d"), "conv"),
    (lambda: models.build("opaque"), "norm"),
    (lambda: models.build("gate"), "gated"),
    (mobile_v3, "last_relu"),
    (lambda: gated_lower_down(), "gated"),
]


def looks_at(build, layer):
    model = models.randomize(build(), seed=3)
    x = models.data_for(model)
    analyzer = GradCAM(model)
    heat = analyzer(x).numpy()
    np.testing.assert_array_equal(heat, GradCAM(model, layer=layer)(x))
    assert np.any(heat) and analyzer.layer == layer and analyzer.get_config()["layer"] is None


def test_by_default_it_looks_at_what_the_last_pooling_takes():
    assert offenders(looks_at, DEFAULTS) == {}


def with_head(x, value):
    return models.randomize(keras.Model(x, layers.Dense(3, name="out")(value)), seed=3)


def branches():
    """As DenseNet and Inception end: all branches of a Concatenate."""
    x = keras.Input((8, 6, 2))
    parts = [layers.Conv2D(4, size, padding="same", activation="relu", name=f"conv{size}")(x) for size in (1, 3)]
    value = layers.BatchNormalization(name="bn")(layers.Concatenate(name="both")(parts))
    return with_head(x, layers.GlobalAveragePooling2D()(layers.ReLU(name="relu")(value))), "relu"


def pooled_twice():
    x = keras.Input((8, 6, 2))
    value = layers.Conv2D(4, 3, name="conv")(x)
    return with_head(x, layers.Concatenate()([layers.GlobalMaxPooling2D()(value), keras.ops.mean(value, (1, 2))])), "conv"


def squeezed():
    """A gate by global pooling, as in squeeze-and-excitation, is not the last pooling."""
    x = keras.Input((8, 6, 2))
    value = layers.Conv2D(4, 3, name="conv")(x)
    gate = layers.Dense(4, activation="sigmoid")(layers.GlobalAveragePooling2D()(value))
    value = layers.Multiply(name="gated")([value, layers.Reshape((1, 1, 4))(gate)])
    return with_head(x, layers.GlobalAveragePooling2D()(layers.Dropout(0.2, name="drop")(value))), "drop"


def frozen_backbone():
    """A model in a model, and the pooling outside of it."""
    inner = keras.Sequential(
        [keras.Input((8, 6, 2)), layers.Conv2D(4, 3, name="conv"), layers.ReLU(name="relu")], name="inner"
    )
    x = keras.Input((8, 6, 2))
    return with_head(x, layers.GlobalMaxPooling2D()(inner(x, training=False))), "inner"


class Block(layers.Layer):
    """A residual block of one's own, of which nobody sees the inside."""

    def __init__(self, **options):
        super().__init__(**options)
        self.conv = layers.Conv2D(4, 3, padding="same", activation="relu")

    def build(self, shape):
        self.conv.build(shape)

    def call(self, x):
        return x + self.conv(x)


def own_blocks():
    x = keras.Input((8, 6, 2))
    value = Block(name="second")(Block(name="first")(layers.Conv2D(4, 3, name="stem")(x)))
    return with_head(x, layers.GlobalAveragePooling2D()(value)), "second"


def shuffled():
    """As ShuffleNet mixes the channels of groups: a reshape, a transpose, and back."""
    x = keras.Input((8, 6, 2))
    value = layers.Reshape((8, 6, 2, 2))(layers.Conv2D(4, 3, padding="same", name="conv")(x))
    value = layers.Reshape((8, 6, 4))(keras.ops.transpose(value, (0, 1, 2, 4, 3)))
    value = layers.Conv2D(5, 3, strides=2, activation="relu", name="last")(value)
    return with_head(x, layers.AveragePooling2D((3, 2), name="pool")(value)[:, 0, 0]), "last"


def convolved_to_a_point():
    """A head of convolutions: the last one sees all positions."""
    x = keras.Input((8, 6, 2))
    value = layers.Conv2D(4, 3, padding="same", activation="relu", name="conv")(x)
    value = layers.Conv2D(5, (8, 6), activation="relu", name="whole")(value)
    return with_head(x, layers.Flatten()(value)), "conv"


def pooled_by_a_window():
    """As early residual networks end: average pooling as large as the map, and a convolution as the head."""
    x = keras.Input((8, 6, 2))
    value = layers.MaxPooling2D(name="max")(layers.Conv2D(4, 3, padding="same", activation="relu", name="conv")(x))
    value = layers.Conv2D(5, 1, activation="relu", name="head")(layers.AveragePooling2D((4, 3), name="average")(value))
    return with_head(x, layers.Flatten()(value)), "max"


def dropped_before_flatten():
    x = keras.Input((8, 6, 2))
    value = layers.MaxPooling2D(name="pool")(layers.Conv2D(4, 3, activation="relu", name="conv")(x))
    return with_head(x, layers.Flatten()(layers.Dropout(0.3)(value))), "conv"


def recurrent():
    """As in readers of text lines: columns become steps."""
    x = keras.Input((8, 6, 2))
    value = layers.Conv2D(4, 3, padding="same", activation="relu", name="conv of lines")(x)
    value = layers.Reshape((6, 32))(layers.Permute((2, 1, 3), name="columns")(value))
    return with_head(x, layers.LSTM(4)(value)), "conv of lines"


BY_DATA_FLOW = (
    *(branches, pooled_twice, squeezed, frozen_backbone, own_blocks, shuffled, convolved_to_a_point),
    *(pooled_by_a_window, dropped_before_flatten, recurrent),
)


@pytest.mark.parametrize("method", BOTH)
def test_the_layer_on_a_tape(method):
    """The map of the layer that is meant, by the papers' formulas on a tape, without the package."""

    def is_of_that_layer(make):
        model, layer = make()
        x, analyzer = models.normal(3, 8, 6, 2), method(model)
        expected = expected_heat(method, model, layer, x)
        # A nested model hands on what its last layer does, and exchanged axes hold the same values.
        assert analyzer.layer == {"inner": "inner/relu", "conv of lines": "columns"}.get(layer, layer) and np.any(expected)
        assert_close(analyzer(x), expected, 2e-5)

    assert offenders(is_of_that_layer, BY_DATA_FLOW) == {}


@pytest.mark.parametrize("method", BOTH)
def test_rows_and_columns_that_were_exchanged_or_made_one_axis(method):
    """The map lies over the input as its positions do, not as the axes of the value happen to."""

    def lies_over_the_input(model, layer, unfolded):
        x = models.normal(3, 8, 6, 2)
        expected = enlarged(unfolded(slow_map(method, model, layer, x)), (8, 6))
        assert_close(np.sum(method(model)(x), axis=-1), expected, 2e-5)

    x = keras.Input((8, 6, 2))
    value = layers.Permute((2, 1, 3), name="permute")(layers.Conv2D(4, 3, padding="same", activation="relu")(x))
    pooled = with_head(x, layers.GlobalAveragePooling2D()(value))
    tokens = layers.Reshape((48, 4), name="tokens")(value)
    read = with_head(x, layers.GlobalMaxPooling1D()(tokens))
    patches = layers.Reshape((12, 4))(layers.Conv2D(4, 2, 2)(x))
    attended = layers.LayerNormalization(name="norm")(patches + layers.MultiHeadAttention(2, 2)(patches, patches))
    transformer = with_head(x, layers.GlobalAveragePooling1D()(layers.Dense(5, activation="relu", name="mlp")(attended)))
    cases = (
        (pooled, "permute", lambda heat: heat.transpose(0, 2, 1)),
        (read, "tokens", lambda heat: heat.reshape(-1, 6, 8).transpose(0, 2, 1)),
        (transformer, "mlp", lambda heat: heat.reshape(-1, 4, 3)),
    )
    assert offenders(lies_over_the_input, cases) == {}


def text():
    x = keras.Input((10,), dtype="int32", name="tokens")
    value = layers.Conv1D(4, 3, activation="relu", name="conv")(layers.Embedding(30, 6)(x))
    return with_head(x, layers.GlobalMaxPooling1D()(value))


@pytest.mark.parametrize("method", BOTH)
def test_over_the_words_of_a_text(method):
    x = np.random.default_rng(0).integers(1, 30, (4, 10)).astype("int32")
    model = text()
    heat = method(model).analyze(x)
    assert heat.shape == (4, 10) and heat.dtype == "float32"
    assert_close(heat, enlarged(slow_map(method, model, "conv", x), (10,)), 2e-5)
    signal = keras.Input((10,))
    value = layers.Conv1D(4, 3, activation="relu", name="conv")(layers.Reshape((10, 1))(signal))
    model, x = with_head(signal, layers.GlobalAveragePooling1D()(value)), models.normal(3, 10)
    assert_close(method(model).analyze(x), enlarged(slow_map(method, model, "conv", x), (10,)), 2e-5)


def test_padding_is_no_evidence():
    """Steps that Keras masks, and that reach nothing, are 0; where the pooling takes them all the same, they count."""
    x = np.array([[3, 9, 4, 1, 7, 0, 0, 0, 0, 0]], "int32")
    for pooling, counts in ((layers.GlobalAveragePooling1D(), False), (lambda value: keras.ops.max(value, 1), True)):
        tokens = keras.Input((10,), dtype="int32", name="tokens")
        value = layers.Embedding(30, 6, mask_zero=True, name="embedding")(tokens)
        model, unmasked = with_head(tokens, pooling(layers.Dense(4, name="dense")(value))), []
        table = model.get_layer("embedding").embeddings
        table.assign(keras.ops.concatenate([9 * table[:1], table[1:]]))
        for target in range(3):
            padded = GradCAM(model).analyze(x, target)[0, 5:]
            features, gradient, _ = features_and_gradient(model, "dense", x, target)
            reaches = np.any(gradient[0, 5:] != 0, axis=-1)
            assert reaches.any() == counts
            np.testing.assert_array_equal(padded[~reaches], 0)
            unmasked.append(np.maximum(features[0] @ gradient[0].mean(0), 0)[5:])
        assert np.any(unmasked)


@pytest.mark.parametrize("method", BOTH)
def test_one_of_several_inputs(method):
    image, table = keras.Input((8, 6, 2), name="image"), keras.Input((4,), name="table")
    value = layers.Conv2D(4, 3, activation="relu", name="conv")(image)
    model = with_head([table, image], layers.Concatenate()([layers.GlobalAveragePooling2D()(value), table]))
    x = [models.normal(3, 4), models.normal(3, 8, 6, 2, seed=1)]
    heat = enlarged(slow_map(method, model, "conv", x, 1), (8, 6))[..., None].repeat(2, -1) / 2
    for options in ({}, {"layer": "conv"}, {"input": "image"}):
        nothing, found = method(model, **options).analyze(x, target=1)
        assert_close(found, heat, 2e-5)
        np.testing.assert_array_equal(nothing, np.zeros((3, 4), "float32"))


def two_pictures():
    one, two = keras.Input((8, 6, 2), name="left"), keras.Input((4, 4, 2), name="right")
    values = [layers.Conv2D(4, 3, activation="relu", name=f"conv_{x.name}")(x) for x in (one, two)]
    value = layers.Concatenate()([layers.GlobalAveragePooling2D()(value) for value in values])
    return models.randomize(keras.Model({"left": one, "right": two}, layers.Dense(3, name="out")(value)), seed=3)


def test_the_input_is_named_where_several_could_be_meant(tmp_path):
    model, x = two_pictures(), {"left": models.normal(3, 8, 6, 2), "right": models.normal(3, 4, 4, 2, seed=1)}
    with pytest.raises(InvalidInputError, match="say input='left' or input='right'"):
        GradCAM(model)
    analyzer = GradCAM(model, input="right")
    assert analyzer.layer == "conv_right" and GradCAM(model, "conv_left").layer == "conv_left"
    heat = analyzer.analyze(x, target=1)
    expected = enlarged(slow_map(GradCAM, model, "conv_right", x, 1), (4, 4))
    assert_close(heat["right"].sum(-1), expected, 2e-5)
    np.testing.assert_array_equal(heat["left"], 0)
    assert_saved(analyzer, x, tmp_path)


def test_scaled_inputs_are_no_feature_maps():
    x = keras.Input((8, 6, 2), name="x")
    scaled = layers.Rescaling(0.5)(x)
    with pytest.raises(UnsupportedLayerError, match="No feature maps lie between the input 'x' and 'flatten"):
        GradCAM(with_head(x, layers.Flatten()(layers.MaxPooling2D()(scaled))))
    # Nor do they keep others from being found.
    value = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, activation="relu", name="conv")(scaled))
    assert GradCAM(with_head(x, layers.Concatenate()([layers.Flatten()(x), value]))).layer == "conv"


def test_a_map_of_one_position_is_said(caplog):
    x = keras.Input((2, 2, 2))
    value = layers.Conv2D(4, 1, activation="relu", name="last")(layers.AveragePooling2D(2)(x))
    assert GradCAM(with_head(x, layers.GlobalAveragePooling2D()(value))).layer == "last"
    assert "has a single position for inputs of this size" in caplog.text


def test_what_goes_past_the_layer_is_said(caplog):
    x = keras.Input((8, 6, 2))
    early = layers.Conv2D(4, 3, activation="relu", name="early")(x)
    late = layers.Conv2D(4, 3, activation="relu", name="late")(early)
    model = with_head(x, layers.Concatenate()([layers.GlobalAveragePooling2D()(value) for value in (early, late)]))
    assert GradCAM(model).layer == "late"
    assert "GradCAM looks at the output of late; what reaches the model's output from early past it" in caplog.text


def test_where_it_looks_with_the_channels_first():
    model = models.randomize(mobile_v3("channels_first"), seed=3)
    x = models.data_for(model)
    heat = GradCAM(model).analyze(x)
    np.testing.assert_array_equal(heat, GradCAM(model, layer="last_relu").analyze(x))
    assert np.any(heat)


CROPS = {
    "centre": (lambda x: layers.CenterCrop(6, 4)(x), slice(2, 8), slice(3, 7), 1),
    "uneven": (lambda x: layers.Cropping2D(((3, 1), (2, 4)))(x), slice(3, 9), slice(2, 6), 1),
    "scaled between": (lambda x: layers.CenterCrop(6, 4)(x * 0.5), slice(2, 8), slice(3, 7), 0.5),
    "twice": (lambda x: layers.CenterCrop(6, 4)(layers.Cropping2D(1)(x)), slice(2, 8), slice(3, 7), 1),
    "padded": (lambda x: layers.CenterCrop(6, 4)(layers.ZeroPadding2D(1)(x)), slice(2, 8), slice(3, 7), 1),
}


@pytest.mark.parametrize(
    "crop", ["uneven", *(pytest.param(name, marks=pytest.mark.slow) for name in CROPS if name != "uneven")]
)
def test_a_map_lies_where_the_network_looks(crop):
    """That of the body, which sees the cropped image alone, with zeros around it."""
    cropped, rows, columns, scale = CROPS[crop]
    inner = keras.Input((6, 4, 2))
    value = layers.Conv2D(4, 3, padding="same", activation="relu")(inner)
    body = models.randomize(keras.Model(inner, layers.Dense(3)(layers.GlobalAveragePooling2D()(value))), seed=1)
    x = keras.Input((10, 10, 2))
    images = models.normal(3, 10, 10, 2)
    expected = np.zeros_like(images)
    expected[:, rows, columns] = GradCAM(body).analyze(images[:, rows, columns] * scale)
    assert np.any(expected)
    assert_close(GradCAM(keras.Model(x, body(cropped(x)))).analyze(images), expected, 1e-5)


def test_a_crop_behind_a_resizing():
    """Of an image of twice the size, whose centre is looked at: a square in it lights up where it stands."""
    x = keras.Input((32, 32, 1))
    value = layers.CenterCrop(8, 8)(layers.Resizing(16, 16)(x))
    value = layers.Conv2D(1, 1, activation="relu", use_bias=False)(value)
    model = keras.Model(x, layers.Dense(1, use_bias=False)(layers.GlobalAveragePooling2D()(value)))
    model.set_weights([np.ones_like(weight) for weight in model.get_weights()])
    images = np.zeros((1, 32, 32, 1), "float32")
    images[:, 10:14, 18:22] = 1
    heat = GradCAM(model).analyze(images)[0, ..., 0]
    rows, columns = np.indices(heat.shape)
    assert np.isclose((heat * rows).sum() / heat.sum(), 11.5, atol=0.1)
    assert np.isclose((heat * columns).sum() / heat.sum(), 19.5, atol=0.1)
    assert not heat[:8].any() and not heat[:, :8].any() and not heat[24:].any() and not heat[:, 24:].any()


def test_channels_in_another_order():
    """As the preprocessing of VGG and ResNet, inside the model."""
    inner = keras.Input((8, 6, 3))
    value = layers.Conv2D(4, 3, activation="relu", name="conv")(inner)
    body = models.randomize(keras.Model(inner, layers.Dense(3)(layers.GlobalAveragePooling2D()(value))), seed=1)
    x = keras.Input((8, 6, 3))
    turned = ops.stack([x[..., channel] for channel in (2, 1, 0)], axis=-1) - np.float32([3, 2, 1])
    images = models.normal(3, 8, 6, 3)
    expected = GradCAM(body).analyze(images[..., ::-1] - np.float32([3, 2, 1]))
    assert_close(GradCAM(keras.Model(x, body(turned))).analyze(images), expected, 1e-5)


def test_of_a_flat_picture_nobody_knows_the_rows():
    x = keras.Input((192,))
    value = layers.Conv2D(4, 3, activation="relu", name="conv")(layers.Reshape((8, 8, 3))(x))
    with pytest.raises(UnsupportedLayerError, match="Grad|positions"):
        GradCAM(with_head(x, layers.GlobalAveragePooling2D()(value)))
    # A series is one, flat or not.
    x = keras.Input((24,))
    value = layers.Conv1D(4, 3, activation="relu", name="conv")(layers.Reshape((24, 1))(x))
    assert np.any(GradCAM(with_head(x, layers.GlobalAveragePooling1D()(value))).analyze(models.normal(2, 24)))


def test_a_layer_of_a_nested_model_by_its_own_name():
    model = frozen_backbone()[0]
    x = models.normal(3, 8, 6, 2)
    name = GradCAM(model).layer
    assert "/" in name
    np.testing.assert_array_equal(
        GradCAM(model, layer=name.split("/")[-1]).analyze(x), GradCAM(model, layer=name).analyze(x)
    )
    with pytest.raises(InvalidInputError, match="'nowhere' names no layer of the model"):
        GradCAM(model, layer="nowhere")


def gated_lower_down():
    """A value that is gated goes on where the gate is applied, not where it is computed."""
    x = keras.Input((6, 6, 2))
    conv = layers.Conv2D(4, 3, name="conv")(x)
    gate = layers.Activation("sigmoid", name="gate")(conv)
    end = layers.Multiply(name="gated")([conv, layers.Dropout(0.1, name="between")(gate)])
    return keras.Model(x, layers.Dense(3)(layers.GlobalAveragePooling2D()(end)))


def test_a_layer_of_a_nested_model():
    case = models.case("nested")
    heat = GradCAM(case.model)(case.x)
    np.testing.assert_array_equal(heat, GradCAM(case.model, layer="stack/bn")(case.x))
    assert not np.array_equal(heat, GradCAM(case.model, layer="stack/conv")(case.x))
