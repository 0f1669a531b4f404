"""Small Keras models by name, for many tests: `case(name)` gives one with its logits and data.

Every builder takes `head`, an activation for its last layer; the same builder with `head=None` gives the twin that ends
at the logits, made by Keras alone, against which the library's cut at the logits is held.
"""

import dataclasses
from functools import cache

import keras
import numpy as np
import tensorflow as tf
from comparing import assert_close  # noqa: F401  (many tests take it from here)
from keras import layers, ops

CLASSES = 3


@dataclasses.dataclass(frozen=True)
class Case:
    """A model, the same model ending at its logits, data, and the options an analyzer needs.

    Attributes:
        model: the Keras model.
        logits: a Keras model with the same weights that ends at the logits.
        x: an array, or a list or dict of arrays.
        options: keyword arguments for an analyzer.
    """

    model: keras.Model
    logits: keras.Model
    x: object
    options: dict


def randomize(model, seed):
    """Give a model random weights: biases of both signs, BatchNormalizations that do something, gammas of both signs."""
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        values = rng.normal(size=variable.shape)
        if variable.dtype.startswith(("int", "uint")):
            continue
        if variable.name == "moving_variance":
            values = rng.uniform(0.5, 2.0, variable.shape)
        elif "kernel" in variable.name:
            values /= np.sqrt(max(np.prod(variable.shape[:-1]), 1))
        elif variable.name == "gamma":
            values = rng.uniform(0.5, 1.5, variable.shape) * rng.choice([-1, 1], variable.shape)
        elif variable.name != "embeddings":
            values *= 0.3
        variable.assign(values)
    return model


def normal(*shape, seed=1, mean=0.2):
    """Random float32 samples."""
    return np.random.default_rng(seed).normal(mean, 1.0, shape).astype("float32")


def data_for(model, samples=6, seed=1):
    """Random samples in the structure of a model's inputs; tokens for integer inputs."""
    rng = np.random.default_rng(seed)

    def array(tensor):
        shape = (samples, *tensor.shape[1:])
        integer = tensor.dtype.startswith("int")
        return rng.integers(0, 7, shape).astype(tensor.dtype) if integer else rng.normal(0.2, 1, shape).astype("float32")

    structure = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
    return keras.tree.map_structure(array, structure)


def _dense(head):
    x = keras.Input((6,), name="x")
    value = layers.Dense(5, activation="tanh", name="second")(layers.Dense(5, activation="relu", name="first")(x))
    return keras.Model(x, layers.Dense(CLASSES, activation=head, name="out")(value))


def _conv_bn(head):
    x = keras.Input((8, 7, 2), name="x")
    value = layers.Conv2D(4, 3, name="conv1")(x)
    value = layers.ReLU(name="relu1")(layers.BatchNormalization(epsilon=0.01, name="bn1")(value))
    value = layers.Conv2D(4, 3, 2, "same", use_bias=False, name="conv2")(layers.MaxPooling2D(name="pool")(value))
    value = layers.BatchNormalization(scale=False, name="bn2")(value)
    value = layers.Dense(4, name="dense")(layers.Flatten(name="flat")(layers.Activation("relu", name="relu2")(value)))
    value = layers.Activation("relu", name="relu3")(layers.BatchNormalization(center=False, name="bn3")(value))
    return keras.Model(x, layers.Dense(CLASSES, activation=head, name="out")(value))


def _residual(head):
    x = keras.Input((6, 6, 2), name="x")
    stem = layers.Conv2D(4, 3, padding="same", activation="relu", name="stem")(x)
    branch = layers.BatchNormalization(name="bn")(layers.Conv2D(4, 3, padding="same", name="branch")(stem))
    value = layers.ReLU(name="relu")(layers.Add(name="add")([branch, stem]))
    value = layers.Subtract(name="subtract")([value, layers.Conv2D(4, 1, name="pointwise")(stem)])
    value = layers.Average(name="mean")([value, stem])
    value = layers.GlobalAveragePooling2D(name="gap")(layers.AveragePooling2D(2, padding="same", name="pool")(value))
    return keras.Model(x, layers.Dense(CLASSES, activation=head, name="out")(value))


def _shared(head):
    x = keras.Input((5,), name="x")
    shared = layers.Dense(5, activation="relu", name="shared")
    norm = layers.BatchNormalization(name="bn")
    value = layers.Concatenate(name="both")([norm(shared(x)), norm(shared(shared(x)))])
    return keras.Model(x, layers.Dense(CLASSES, activation=head, name="out")(value))


def _inner(name, functional=True):
    if not functional:
        stack = [keras.Input((4, 4, 2)), layers.Conv2D(2, 3, padding="same", activation="relu", name="conv")]
        return keras.Sequential([*stack, layers.BatchNormalization(name="bn")], name=name)
    x = keras.Input((4, 4, 2), name=f"{name}_x")
    value = layers.Conv2D(2, 3, padding="same", activation="relu", name="conv")(x)
    return keras.Model(x, layers.Add(name="add")([value, layers.Dropout(0.5, name="drop")(x)]), name=name)


def _nested(head):
    """A model in a model in a model, and a Sequential, called as one does to freeze a backbone."""
    x = keras.Input((4, 4, 2), name="x")
    middle_x = keras.Input((4, 4, 2), name="middle_x")
    middle = keras.Model(middle_x, layers.ReLU(name="relu")(_inner("inner")(middle_x)), name="middle")
    value = _inner("stack", functional=False)(middle(x, training=False))
    return keras.Model(x, layers.Dense(CLASSES, activation=head, name="out")(layers.Flatten(name="flat")(value)))


def _nested_twice(head):
    x = keras.Input((4, 4, 2), name="x")
    inner = _inner("inner")
    value = layers.Flatten(name="flat")(inner(layers.ReLU(name="relu")(inner(x))))
    return keras.Model(x, layers.Dense(CLASSES, activation=head, name="out")(value))


def _two_inputs(head, names=("a", "b"), as_dict=False):
    one, two = keras.Input((4,), name=names[0]), keras.Input((3, 2), name=names[1])
    hidden = layers.Dense(5, activation="relu", name="hidden")(layers.Flatten(name="flat")(two))
    value = layers.Concatenate(name="both")([layers.Dense(4, activation="relu", name="first")(one), hidden])
    inputs = {names[0]: one, names[1]: two} if as_dict else [one, two]
    return keras.Model(inputs, layers.Dense(CLASSES, activation=head, name="out")(value))


def _dict_inputs(head):
    """The names are not in the order in which the inputs were made."""
    return _two_inputs(head, names=("z", "a"), as_dict=True)


def _operators(head):
    x = keras.Input((5, 4), name="x")
    value = layers.Dense(4, activation="relu", name="hidden")(x)
    value = value * 2 + x[:, :, ::-1] - 0.5
    value = ops.multiply(value, ops.sigmoid(layers.Dense(4, name="gate")(x))) / 3
    value = ops.relu(value[:, 1:] - value[:, :-1])
    value = ops.concatenate([value, -ops.transpose(value, (0, 2, 1))[:, :, :4]], axis=1)
    return keras.Model(x, layers.Dense(CLASSES, activation=head, name="out")(ops.reshape(value, (-1, 32))))


def _separable(head):
    x = keras.Input((7, 6, 2), name="x")
    value = layers.SeparableConv2D(3, 3, depth_multiplier=2, padding="same", activation="relu", name="separable")(x)
    value = layers.DepthwiseConv2D(2, 2, depth_multiplier=2, name="depthwise")(value)
    value = layers.ReLU(name="relu")(layers.BatchNormalization(name="bn1")(value))
    value = layers.BatchNormalization(name="bn2")(layers.SeparableConv2D(4, 2, use_bias=False, name="plain")(value))
    value = layers.Dense(CLASSES, activation=head, name="out")(layers.Flatten(name="flat")(value))
    return keras.Model(x, value)


def _conv1d(head):
    x = keras.Input((10, 3), name="x")
    value = layers.Conv1D(4, 3, padding="causal", dilation_rate=2, activation="relu", name="causal")(x)
    value = layers.Conv1D(4, 3, strides=2, groups=2, padding="same", name="groups")(value)
    value = layers.MaxPooling1D(2, name="pool")(layers.LeakyReLU(name="leaky")(value))
    value = layers.DepthwiseConv1D(2, activation="relu", name="depthwise")(value)
    value = layers.SeparableConv1D(4, 1, name="separable")(layers.ZeroPadding1D(1, name="pad")(value))
    return keras.Model(x, layers.Dense(CLASSES, activation=head, name="out")(layers.Flatten(name="flat")(value)))


def _conv3d(head):
    x = keras.Input((4, 5, 4, 2), name="x")
    value = layers.AveragePooling3D(2, name="pool")(layers.Conv3D(3, 2, activation="relu", name="conv")(x))
    return keras.Model(x, layers.Dense(CLASSES, activation=head, name="out")(layers.Flatten(name="flat")(value)))


def _einsum(head):
    """Heads out, heads in, batch letters, and units that are not the last axis."""
    x = keras.Input((4, 6), name="x")
    value = layers.EinsumDense("btd,dhk->bthk", (4, 2, 5), bias_axes="hk", activation="relu", name="split")(x)
    value = layers.EinsumDense("bthk,hkj->bthj", (4, 2, 3), bias_axes="hj", name="by_head")(value)
    value = layers.EinsumDense("bthj,hjd->btd", (4, 4), bias_axes="d", activation="relu", name="merge")(value)
    value = layers.EinsumDense("btd,tu->bud", (5, 4), bias_axes="u", activation="relu", name="mix")(value)
    value = layers.EinsumDense("...d,de->...e", 3, bias_axes="e", name="last")(value)
    return keras.Model(x, layers.Dense(CLASSES, activation=head, name="out")(layers.Flatten(name="flat")(value)))


def _text(head):
    x = keras.Input((6,), dtype="int32", name="x")
    value = layers.Embedding(8, 4, name="embedding")(x)
    value = layers.Conv1D(4, 2, padding="same", activation="relu", name="conv")(value)
    value = layers.GlobalAveragePooling1D(name="gap")(value)
    return keras.Model(x, layers.Dense(CLASSES, activation=head, name="out")(value))


def _masked_text(head):
    """Token 0 is masked, through a layer that is cut in two, so that the average leaves it out."""
    x = keras.Input((6,), dtype="int32", name="x")
    value = layers.Embedding(8, 4, mask_zero=True, name="embedding")(x)
    value = layers.GlobalAveragePooling1D(name="gap")(layers.Dense(4, activation="relu", name="hidden")(value))
    return keras.Model(x, layers.Dense(CLASSES, activation=head, name="out")(value))


def _activation_layers(head):
    x = keras.Input((6,), name="x")
    value = layers.LeakyReLU(negative_slope=0.2, name="leaky")(layers.Dense(6, name="one")(x))
    value = layers.PReLU(name="prelu")(layers.Dense(6, name="two")(value))
    value = layers.ELU(name="elu")(layers.Dense(6, name="three")(value))
    value = layers.ReLU(max_value=1.0, negative_slope=0.1, threshold=0.1, name="relu")(layers.Dense(6, name="four")(value))
    return keras.Model(x, layers.Dense(CLASSES, activation=head, name="out")(value))


def _shapes(head):
    x = keras.Input((4, 3, 2), name="x")
    value = layers.Conv2D(4, 2, padding="same", activation="relu", name="conv")(layers.UpSampling2D(2, name="up")(x))
    value = layers.Permute((2, 1, 3), name="permute")(layers.Cropping2D(1, name="crop")(value))
    value = layers.Reshape((-1, 4), name="reshape")(layers.Rescaling(0.5, 0.1, name="rescale")(value))
    return keras.Model(x, layers.Dense(CLASSES, activation=head, name="out")(layers.GlobalMaxPooling1D(name="max")(value)))


def _gate(head):
    x = keras.Input((4, 4, 2), name="x")
    value = layers.Conv2D(4, 2, activation="relu", name="conv")(x)
    gate = layers.GlobalAveragePooling2D(keepdims=True, name="squeeze")(value)
    gate = layers.Dense(4, activation="sigmoid", name="excite")(layers.Dense(2, activation="relu", name="narrow")(gate))
    value = layers.Flatten(name="flat")(layers.Multiply(name="gated")([value, gate]))
    return keras.Model(x, layers.Dense(CLASSES, activation=head, name="out")(value))


def _inline(head):
    x = keras.Input((6,), name="x")
    value = x
    for name in ("gelu", "silu", "hard_silu", "sigmoid", "relu", "softmax"):
        value = layers.Dense(6, activation=name, name=name)(value)
    return keras.Model(x, layers.Dense(CLASSES, activation=head, name="out")(value))


@keras.saving.register_keras_serializable("tests")
class Closed(keras.Layer):
    """A layer into which nobody can look: what it calls is TensorFlow's, and no linear map."""

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 3), name="kernel")

    def call(self, x):
        return tf.math.reduce_euclidean_norm(tf.linalg.matmul(tf.math.square(x), self.kernel) + 1.0, axis=1)

    def compute_output_shape(self, shape):
        return (shape[0], 3)


def _opaque(head):
    """A layer that no pattern method understands, but the gradient does, behind attention."""
    x = keras.Input((5, 4), name="x")
    value = layers.LayerNormalization(name="norm")(layers.MultiHeadAttention(2, 3, name="attention")(x, x))
    return keras.Model(x, layers.Dense(CLASSES, activation=head, name="out")(Closed(name="closed")(value)))


def _head_layer(layer, units=CLASSES):
    def build(head):
        x = keras.Input((4,), name="x")
        value = layers.Dense(units, name="out")(layers.Dense(5, activation="relu", name="hidden")(x))
        return keras.Model(x, layer()(value) if head else value)

    return build


def _sigmoid(head):
    x = keras.Input((4,), name="x")
    value = layers.Dense(5, activation="relu", name="hidden")(x)
    return keras.Model(x, layers.Dense(1, activation=head and "sigmoid", name="out")(value))


def _several(head):
    """The explained output has the logits; the other is something else."""
    x = keras.Input((4,), name="x")
    value = layers.Dense(5, activation="relu", name="hidden")(x)
    out = layers.Dense(CLASSES, activation=head, name="out")(value)
    other = layers.Dense(2, activation="relu", name="other")(value)
    return keras.Model(x, [other, out] if head else out)


def _sequential(head):
    stack = [layers.Conv1D(3, 2, activation="relu", name="conv"), layers.Flatten(name="flat")]
    return keras.Sequential([keras.Input((5, 2)), *stack, layers.Dense(CLASSES, activation=head, name="out")], name="model")


def _built(head):
    stack = [layers.Dense(4, activation="relu", name="hidden"), layers.Dense(CLASSES, activation=head, name="out")]
    model = keras.Sequential(stack, name="model")
    model.build((None, 5))
    return model


BUILDERS = {
    "dense": _dense,
    "conv_bn": _conv_bn,
    "residual": _residual,
    "shared": _shared,
    "nested": _nested,
    "nested_twice": _nested_twice,
    "two_inputs": _two_inputs,
    "dict_inputs": _dict_inputs,
    "operators": _operators,
    "separable": _separable,
    "conv1d": _conv1d,
    "conv3d": _conv3d,
    "einsum": _einsum,
    "text": _text,
    "masked_text": _masked_text,
    "activation_layers": _activation_layers,
    "shapes": _shapes,
    "gate": _gate,
    "inline": _inline,
    "opaque": _opaque,
    "activation_head": _head_layer(lambda: layers.Activation("softmax", name="softmax")),
    "softmax_head": _head_layer(lambda: layers.Softmax(name="softmax")),
    "operation_head": _head_layer(lambda: ops.softmax),
    "sigmoid_layer_head": _head_layer(lambda: layers.Activation("sigmoid", name="sigmoid"), units=1),
    "sigmoid_head": _sigmoid,
    "several": _several,
    "sequential": _sequential,
    "built": _built,
}
NAMES = tuple(BUILDERS)
OPTIONS = {"several": {"output": "out"}}
# Models that every method can explain, for what is the same in all.
PATTERNED = tuple(name for name in NAMES if name not in ("operators", "inline", "opaque", "masked_text"))


def build(name, head="softmax", seed=3):
    """A new model with its own weights, the same at every call."""
    return randomize(BUILDERS[name](head), seed)


def logits_of(name, model):
    """The twin that ends at the logits, with the model's weights."""
    twin = BUILDERS[name](None)
    weights = {variable.path: variable for variable in model.weights}
    for variable in twin.weights:
        variable.assign(weights[variable.path])
    return twin


@cache
def case(name):
    """The model of that name; cached, so tests must not change it."""
    model = build(name)
    return Case(model, logits_of(name, model), data_for(model), OPTIONS.get(name, {}))


@cache
def predicted(name):
    """What Keras says of a case, `(outputs, logits)`, flat arrays; by a call, for `predict` compiles each model."""
    one = case(name)
    found = [keras.tree.flatten(model(one.x, training=False)) for model in (one.model, one.logits)]
    return [[ops.convert_to_numpy(tensor) for tensor in tensors] for tensors in found]


@cache
def fitted(method, name, **options):
    """An analyzer of a named model, with patterns where it takes some; cached, so tests must not change it."""
    analyzer = method(case(name).model, **case(name).options, **options)
    return analyzer.fit(data_for(case(name).model, 48, seed=7), batch_size=16, verbose=0)


def chain(depth=None):
    """A chain that `replicas.explain` understands: a small CNN, or `depth` dense layers."""
    stack = [keras.Input((9, 8, 2)), layers.Conv2D(4, 3, name="fused"), layers.BatchNormalization(), layers.ReLU()]
    stack += [layers.MaxPooling2D(), layers.Conv2D(5, 2, padding="same", activation="relu", name="inline")]
    stack += [layers.DepthwiseConv2D(2, activation="relu", name="depthwise"), layers.Flatten()]
    stack += [layers.Dense(6, activation="relu", name="hidden"), layers.Dense(CLASSES, activation="softmax", name="out")]
    if depth:
        stack = [layers.Dense(4, activation="relu", name=f"d{index}") for index in range(depth)]
        stack = [keras.Input((4,)), *stack, layers.Dense(CLASSES, name="out")]
    return randomize(keras.Sequential(stack), seed=3)


def branched(policy):
    """A value that a convolution and a pooling take, as in Inception, in one precision."""
    options = {"dtype": policy}
    x = keras.Input((6, 6, 2), dtype="float64" if policy == "float64" else "float32")
    stem = layers.Conv2D(4, 3, padding="same", activation="relu", name="stem", **options)(x)
    pooled = layers.MaxPooling2D(3, 1, "same", name="pool", **options)(stem)
    branch = layers.Conv2D(4, 3, padding="same", activation="relu", name="branch", **options)(stem)
    both = layers.Concatenate(name="both", **options)([pooled, branch])
    norm = layers.BatchNormalization(name="bn", **options)(layers.Conv2D(4, 1, name="mix", **options)(both))
    value = layers.Flatten(name="flat", **options)(layers.Add(name="add", **options)([norm, stem]))
    return randomize(keras.Model(x, layers.Dense(CLASSES, name="out", **options)(value)), seed=6)
