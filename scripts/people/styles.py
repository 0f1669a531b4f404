"""The same small networks in many ways of writing them: heads, precisions, nesting, preprocessing, Keras's odd corners."""
# ruff: noqa: D102 (what Keras calls)

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from .base import listed, model, named, normal, pixels, policy, unit


def _small_cnn(inputs):
    x = layers.Conv2D(6, 3, activation="relu")(inputs)
    x = layers.MaxPooling2D()(x)
    x = layers.Conv2D(8, 3, activation="relu")(x)
    return layers.GlobalAveragePooling2D()(x)


@model("mixed_float16 policy, softmax in float32", "styles", unit(16, 16, 3))
def mixed_float16():
    """TensorFlow's guide to mixed precision."""
    with policy("mixed_float16"):
        inputs = keras.Input((16, 16, 3))
        x = layers.Dense(4)(layers.BatchNormalization()(_small_cnn(inputs)))
        outputs = layers.Activation("softmax", dtype="float32", name="predictions")(x)
        return keras.Model(inputs, outputs)


@model("mixed_bfloat16 policy, transformer block, logits in bfloat16", "styles", normal(8, 6))
def mixed_bfloat16():
    """As on TPUs."""
    with policy("mixed_bfloat16"):
        inputs = keras.Input((8, 6))
        x = layers.Dense(8)(inputs)
        x = layers.LayerNormalization()(x + layers.MultiHeadAttention(2, 4)(x, x))
        return keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling1D()(x)))


@model("float64 throughout", "styles", normal(7, dtype="float64"))
def float64():
    """A physicist's."""
    with policy("float64"):
        return keras.Sequential([keras.Input((7,)), layers.Dense(12, "tanh"), layers.Dense(12, "tanh"), layers.Dense(1)])


@model("float16 throughout, CNN", "styles", unit(16, 16, 1, dtype="float16"))
def float16():
    """Weights are of float16, too."""
    with policy("float16"):
        inputs = keras.Input((16, 16, 1))
        return keras.Model(inputs, layers.Dense(3)(_small_cnn(inputs)))


@model("channels first convolutions", "styles", normal(3, 16, 16))
def channels_first():
    """On CPUs that have them: data_format at each layer, BatchNormalization of axis 1."""
    inputs = keras.Input((3, 16, 16))
    x = layers.Conv2D(6, 3, data_format="channels_first", use_bias=False)(inputs)
    x = layers.Activation("relu")(layers.BatchNormalization(axis=1)(x))
    x = layers.Conv2D(8, 3, strides=2, data_format="channels_first", activation="relu")(x)
    x = layers.Flatten(data_format="channels_first")(x)
    return keras.Model(inputs, layers.Dense(3)(x))


@model("temperature and softmax by ops", "styles", unit(16, 16, 3))
def temperature():
    """Calibrated: logits divided by a number that is learned."""

    class Temperature(layers.Layer):
        def build(self, shape):
            self.t = self.add_weight(shape=(), initializer=keras.initializers.Constant(1.5), name="temperature")

        def call(self, logits):
            return ops.softmax(logits / self.t)

    inputs = keras.Input((16, 16, 3))
    return keras.Model(inputs, Temperature()(layers.Dense(4)(_small_cnn(inputs))))


@model("log softmax", "styles", unit(16, 16, 3))
def log_softmax():
    """Log-probabilities as output."""
    inputs = keras.Input((16, 16, 3))
    return keras.Model(inputs, ops.log_softmax(layers.Dense(4)(_small_cnn(inputs)), axis=-1))


@model("softmax by hand, shifted by the maximum", "styles", normal(6))
def softmax_by_hand():
    """exp(x - max) / sum."""

    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.fc1, self.fc2 = layers.Dense(12), layers.Dense(4)

        def call(self, x):
            z = self.fc2(ops.maximum(self.fc1(x), 0.0))
            e = ops.exp(z - ops.max(z, axis=-1, keepdims=True))
            return e / ops.sum(e, axis=-1, keepdims=True)

    return Net()


@model("sigmoid unit made two probabilities", "styles", normal(6))
def two_probabilities():
    """[1 - p, p] by concatenation, for a library that wants both."""
    inputs = keras.Input((6,))
    p = layers.Dense(1, activation="sigmoid")(layers.Dense(10, activation="relu")(inputs))
    return keras.Model(inputs, layers.Concatenate()([1 - p, p]))


@model("probability model around a trained one", "styles", unit(28, 28))
def probability_model():
    """TensorFlow's first tutorial: Sequential([model, Softmax()])."""
    net = keras.models.Sequential(
        [
            layers.Flatten(input_shape=(28, 28)),
            layers.Dense(16, activation="relu"),
            layers.Dropout(0.2),
            layers.Dense(10),
        ]
    )
    return keras.Sequential([net, layers.Softmax()])


@model("multi-label sigmoids", "styles", unit(16, 16, 3))
def multi_label():
    """Five sigmoids with label smoothing's bias."""
    inputs = keras.Input((16, 16, 3))
    return keras.Model(inputs, layers.Activation(keras.activations.sigmoid)(layers.Dense(5)(_small_cnn(inputs))))


@model("regression head scaled to a range", "styles", unit(12))
def ranged():
    """sigmoid times (high - low) plus low, as fastai's y_range."""
    low, high = -2.0, 7.0
    inputs = keras.Input((12,))
    x = layers.Dense(10, activation="mish")(inputs)
    return keras.Model(inputs, layers.Lambda(lambda y: ops.sigmoid(y) * (high - low) + low)(layers.Dense(1)(x)))


@model("ensemble of three, averaged probabilities", "styles", normal(8))
def ensemble():
    """Models in a list, Average of their outputs."""

    def member(index):
        x = inputs = keras.Input((8,))
        x = layers.Dense(10 + index, activation="relu")(x)
        return keras.Model(inputs, layers.Dense(3, activation="softmax")(x), name=f"member_{index}")

    inputs = keras.Input((8,))
    return keras.Model(inputs, layers.Average()([member(i)(inputs) for i in range(3)]))


@model("models in models in models", "styles", unit(16, 16, 3))
def nested():
    """Encoder in a feature extractor in a classifier; names that occur twice."""
    i1 = keras.Input((16, 16, 3), name="image")
    encoder = keras.Model(i1, layers.Conv2D(6, 3, activation="relu", name="conv")(i1), name="encoder")
    i2 = keras.Input((16, 16, 3), name="image")
    features = keras.Model(
        i2, layers.GlobalAveragePooling2D()(layers.Conv2D(8, 3, name="conv")(encoder(i2))), name="features"
    )
    i3 = keras.Input((16, 16, 3), name="image")
    return keras.Model(i3, layers.Dense(3, name="head")(ops.relu(features(i3))))


@model("a model that subclasses Functional by super().__init__", "styles", normal(6))
def functional_subclass():
    """keras.Model with inputs and outputs given in __init__."""

    class Classifier(keras.Model):
        def __init__(self, units):
            inputs = keras.Input((6,))
            hidden = layers.Dense(units, activation="relu")(inputs)
            super().__init__(inputs=inputs, outputs=layers.Dense(2)(hidden))
            self.units = units

    return Classifier(9)


@model("a model with a train_step of its own around a network", "styles", unit(14, 14, 1))
def wrapped():
    """A trainer class whose call is the network's, with an augmenter that acts while training only."""

    class Trainer(keras.Model):
        def __init__(self, network):
            super().__init__()
            self.network = network
            self.augmenter = layers.RandomTranslation(0.1, 0.1)
            self.loss_tracker = keras.metrics.Mean(name="loss")

        def call(self, x, training=False):
            if training:
                x = self.augmenter(x, training=True)
            return self.network(x, training=training)

        def train_step(self, data):
            return super().train_step(data)

    inputs = keras.Input((14, 14, 1))
    return Trainer(keras.Model(inputs, layers.Dense(10, activation="softmax")(_small_cnn(inputs))))


@model("tf functions in call: tf.nn.conv2d and tf.Variable-like weights", "styles", unit(12, 12, 3))
def tensorflow_functions():
    """TensorFlow 1's style in a layer."""

    class TFConv(layers.Layer):
        def __init__(self, filters):
            super().__init__()
            self.filters = filters

        def build(self, shape):
            self.w = self.add_weight(shape=(3, 3, shape[-1], self.filters), name="conv_kernel")
            self.b = self.add_weight(shape=(self.filters,), initializer="zeros", name="bias")

        def call(self, x):
            x = tf.nn.conv2d(x, tf.convert_to_tensor(self.w), strides=1, padding="SAME")
            x = tf.nn.relu(tf.nn.bias_add(x, tf.convert_to_tensor(self.b)))
            return tf.nn.max_pool2d(x, 2, 2, "VALID")

    inputs = keras.Input((12, 12, 3))
    return keras.Model(inputs, layers.Dense(3)(layers.Flatten()(TFConv(8)(TFConv(6)(inputs)))))


@model("tf.image and caffe-style preprocessing in the model", "styles", pixels(20, 20, 3))
def tf_image():
    """Resized by tf.image in a Lambda, RGB to BGR, the mean taken off."""

    def preprocess(x):
        x = tf.image.resize(x, (16, 16))
        return (x[..., ::-1] - tf.constant([103.939, 116.779, 123.68])) / 64.0

    inputs = keras.Input((20, 20, 3))
    x = layers.Lambda(preprocess, output_shape=(16, 16, 3))(inputs)
    return keras.Model(inputs, layers.Dense(3, activation="softmax")(_small_cnn(x)))


@model("keras.applications preprocessing called on tensors", "styles", pixels(16, 16, 3))
def applications_preprocessing():
    """preprocess_input of mobilenet_v2, noise and contrast layers, grey made three channels."""
    inputs = keras.Input((16, 16, 3))
    x = keras.applications.mobilenet_v2.preprocess_input(inputs)
    x = layers.RandomContrast(0.1)(layers.GaussianNoise(0.02)(x))
    grey = ops.mean(x, axis=-1, keepdims=True)
    x = layers.Concatenate()([grey, grey, grey])
    return keras.Model(inputs, layers.Dense(4)(_small_cnn(x)))


@model("adapted Normalization of images, centre crop, uint8", "styles", pixels(20, 20, 3, dtype="uint8"))
def adapted():
    """Numbers of uint8 to floats by Rescaling."""
    normalization = layers.Normalization(axis=-1)
    normalization.adapt(np.random.default_rng(0).uniform(0, 1, (16, 8, 8, 3)).astype("float32"))
    model = keras.Sequential(
        [keras.Input((20, 20, 3), dtype="uint8"), layers.CenterCrop(16, 16), layers.Rescaling(1 / 255)]
    )
    for layer in (normalization, layers.Conv2D(8, 3, strides=2, activation="relu"), layers.Flatten(), layers.Dense(3)):
        model.add(layer)
    return model


@model("image and table, two branches joined", "styles", named(image=unit(16, 16, 3), meta=normal(5)))
def image_and_table():
    """Skin lesions on Kaggle: a picture and a patient."""
    image, meta = keras.Input((16, 16, 3), name="image"), keras.Input((5,), name="meta")
    x = _small_cnn(image)
    y = layers.Dropout(0.3)(layers.BatchNormalization()(layers.Dense(8, activation="swish")(meta)))
    x = layers.concatenate([x, y])
    return keras.Model(
        {"image": image, "meta": meta}, layers.Dense(1, activation="sigmoid")(layers.Dense(8, activation="relu")(x))
    )


@model("FiLM, features scaled and shifted by a condition", "styles", listed(unit(12, 12, 3), normal(4)))
def film():
    """Gamma and beta by dense layers."""
    image, condition = keras.Input((12, 12, 3)), keras.Input((4,))
    x = layers.Conv2D(8, 3, padding="same")(image)
    for _ in range(2):
        gamma, beta = layers.Dense(8)(condition), layers.Dense(8)(condition)
        y = layers.BatchNormalization(center=False, scale=False)(layers.Conv2D(8, 3, padding="same")(x))
        y = (1 + gamma[:, None, None, :]) * y + beta[:, None, None, :]
        x = layers.Add()([x, layers.ReLU()(y)])
    return keras.Model([image, condition], layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))


@model("hypernetwork, weights made from a second input", "styles", named(x=normal(6), context=normal(4)))
def hypernetwork():
    """A kernel for each sample."""
    x, context = keras.Input((6,), name="x"), keras.Input((4,), name="context")
    kernel = layers.Reshape((6, 5))(layers.Dense(30)(layers.Dense(8, activation="relu")(context)))
    h = ops.relu(ops.squeeze(ops.matmul(x[:, None, :], kernel), axis=1) + layers.Dense(5)(context))
    return keras.Model({"x": x, "context": context}, layers.Dense(2)(h))


@model("Dense on images, EinsumDense, locally connected by patches", "styles", unit(8, 8, 3))
def unusual_linear():
    """Linear layers that are less common."""
    inputs = keras.Input((8, 8, 3))
    x = layers.Dense(6, activation="relu")(inputs)
    x = layers.EinsumDense("bhwc,hwcd->bhwd", output_shape=(8, 8, 4), bias_axes="hwd", activation="relu")(x)
    x = layers.Cropping2D(1)(layers.ZeroPadding2D(2)(x))
    x = layers.AveragePooling2D(2, padding="same")(x)
    return keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x)))


@model("weights tied, a kernel used forth and back", "styles", unit(12))
def tied():
    """An autoencoder whose decoder is the transposed encoder."""

    class DenseTranspose(layers.Layer):
        def __init__(self, dense, activation=None):
            super().__init__()
            self.dense, self.activation = dense, keras.activations.get(activation)

        def build(self, shape):
            self.biases = self.add_weight(shape=(12,), initializer="zeros", name="bias")

        def call(self, x):
            return self.activation(ops.matmul(x, ops.transpose(self.dense.kernel)) + self.biases)

    dense = layers.Dense(5, activation="selu")
    inputs = keras.Input((12,))
    return keras.Model(inputs, DenseTranspose(dense, "sigmoid")(dense(inputs)))


@model("LoRA on a dense layer", "styles", normal(8))
def lora():
    """Frozen weights with a low rank beside, by enable_lora."""
    dense = layers.Dense(10, activation="gelu")
    model = keras.Sequential([keras.Input((8,)), dense, layers.Dense(3)])
    dense.enable_lora(2)
    return model


@model("binarized and clipped weights, straight-through", "styles", normal(10))
def binarized():
    """sign(w) + stop_gradient; hard tanh."""

    class BinaryDense(layers.Dense):
        def call(self, x):
            binary = self.kernel + ops.stop_gradient(ops.sign(self.kernel) * 0.3 - self.kernel)
            return self.activation(ops.matmul(x, binary) + self.bias)

    return keras.Sequential([keras.Input((10,)), BinaryDense(12, activation="hard_tanh"), layers.Dense(3)])
