"""Convolutional networks that save: MobileNets, EfficientNet, Xception, ShuffleNet, GhostNet, RegNet, ConvNeXt."""
# ruff: noqa: D102 (what Keras calls)

import keras
from keras import layers, ops

from .base import model, normal, pixels


@model("MobileNetV1, ReLU6 by ReLU(6.0)", "vision", normal(32, 32, 3))
def mobilenet_v1():
    """Depthwise and pointwise convolutions with explicit padding."""
    inputs = keras.Input((32, 32, 3))
    x = layers.Conv2D(8, 3, padding="same", use_bias=False, strides=2)(inputs)
    x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
    for filters, strides in ((12, 1), (16, 2), (16, 1)):
        if strides == 2:
            x = layers.ZeroPadding2D(((0, 1), (0, 1)))(x)
        x = layers.DepthwiseConv2D(3, padding="same" if strides == 1 else "valid", strides=strides, use_bias=False)(x)
        x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
        x = layers.Conv2D(filters, 1, padding="same", use_bias=False)(x)
        x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
    x = layers.GlobalAveragePooling2D(keepdims=True)(x)
    x = layers.Conv2D(5, 1, padding="same")(layers.Dropout(1e-3)(x))
    return keras.Model(inputs, layers.Activation("softmax")(layers.Reshape((5,))(x)))


@model("MobileNetV2, linear bottlenecks, x / 127.5 - 1 inside", "vision", pixels(32, 32, 3))
def mobilenet_v2():
    """Inverted residuals; the preprocessing is arithmetic on tensors."""

    def inverted(x, expansion, filters, strides):
        y = layers.Conv2D(expansion * x.shape[-1], 1, use_bias=False)(x)
        y = layers.Activation("relu6")(layers.BatchNormalization()(y))
        y = layers.DepthwiseConv2D(3, strides=strides, padding="same", use_bias=False)(y)
        y = layers.Activation("relu6")(layers.BatchNormalization()(y))
        y = layers.BatchNormalization()(layers.Conv2D(filters, 1, use_bias=False)(y))
        return layers.Add()([x, y]) if strides == 1 and x.shape[-1] == filters else y

    inputs = keras.Input((32, 32, 3))
    x = inputs / 127.5 - 1.0
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(x)
    x = layers.Activation("relu6")(layers.BatchNormalization()(x))
    for expansion, filters, strides in ((1, 6, 1), (3, 8, 2), (3, 8, 1)):
        x = inverted(x, expansion, filters, strides)
    x = layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, layers.Dense(1)(x))


@model("MobileNetV3, hard swish by hand, squeeze by 1x1 convolutions", "vision", normal(32, 32, 3))
def mobilenet_v3():
    """hard_sigmoid is ReLU(x + 3, max 6) / 6."""

    def hard_sigmoid(x):
        return layers.ReLU(6.0)(x + 3.0) * (1.0 / 6.0)

    def hard_swish(x):
        return layers.Multiply()([x, hard_sigmoid(x)])

    def squeeze(x):
        y = layers.GlobalAveragePooling2D(keepdims=True)(x)
        y = layers.ReLU()(layers.Conv2D(x.shape[-1] // 4, 1)(y))
        return layers.Multiply()([x, hard_sigmoid(layers.Conv2D(x.shape[-1], 1)(y))])

    inputs = keras.Input((32, 32, 3))
    x = hard_swish(layers.BatchNormalization()(layers.Conv2D(8, 3, strides=2, padding="same")(inputs)))
    for filters, strides in ((8, 1), (12, 2)):
        y = hard_swish(layers.BatchNormalization()(layers.Conv2D(3 * filters, 1, use_bias=False)(x)))
        y = layers.DepthwiseConv2D(5, strides=strides, padding="same", use_bias=False)(y)
        y = squeeze(hard_swish(layers.BatchNormalization()(y)))
        y = layers.BatchNormalization()(layers.Conv2D(filters, 1, use_bias=False)(y))
        x = layers.Add()([x, y]) if strides == 1 else y
    x = hard_swish(layers.Conv2D(16, 1)(layers.GlobalAveragePooling2D(keepdims=True)(x)))
    return keras.Model(inputs, layers.Softmax()(layers.Flatten()(layers.Conv2D(4, 1)(x))))


class MBConv(layers.Layer):
    """EfficientNet's block with swish, squeeze and excitation and stochastic depth."""

    def __init__(self, filters, expand_ratio=4, drop_rate=0.2):
        super().__init__()
        self.filters, self.expand_ratio = filters, expand_ratio
        self.drop = layers.Dropout(drop_rate, noise_shape=(None, 1, 1, 1))

    def build(self, input_shape):
        inner = input_shape[-1] * self.expand_ratio
        self.expand = keras.Sequential([layers.Conv2D(inner, 1, use_bias=False), layers.BatchNormalization()])
        self.depthwise = keras.Sequential(
            [layers.DepthwiseConv2D(3, padding="same", use_bias=False), layers.BatchNormalization()]
        )
        self.reduce = layers.Conv2D(max(1, input_shape[-1] // 4), 1, activation="swish")
        self.restore = layers.Conv2D(inner, 1, activation="sigmoid")
        self.project = keras.Sequential([layers.Conv2D(self.filters, 1, use_bias=False), layers.BatchNormalization()])

    def call(self, inputs, training=None):
        x = ops.silu(self.expand(inputs, training=training))
        x = ops.silu(self.depthwise(x, training=training))
        s = ops.mean(x, axis=(1, 2), keepdims=True)
        x = x * self.restore(self.reduce(s))
        x = self.project(x, training=training)
        if inputs.shape[-1] == self.filters:
            x = self.drop(x, training=training) + inputs
        return x


@model("EfficientNet, MBConv layers, normalization by constants", "vision", pixels(32, 32, 3))
def efficientnet():
    """Rescaling and Normalization with ImageNet's numbers."""
    inputs = keras.Input((32, 32, 3))
    x = layers.Rescaling(1.0 / 255.0)(inputs)
    x = layers.Normalization(mean=[0.485, 0.456, 0.406], variance=[0.229**2, 0.224**2, 0.225**2])(x)
    x = layers.Activation("swish")(layers.BatchNormalization()(layers.Conv2D(8, 3, 2, padding="same")(x)))
    for filters in (8, 8, 12):
        x = MBConv(filters)(x)
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(16, 1, activation="swish")(x))
    return keras.Model(inputs, layers.Dense(5, activation="softmax")(layers.Dropout(0.2)(x)))


@model("Xception, separable convolutions with residual", "vision", normal(32, 32, 3))
def xception():
    """Entry, middle and exit flow, short."""
    inputs = keras.Input((32, 32, 3))
    x = layers.Conv2D(8, 3, strides=2, use_bias=False, activation="relu")(inputs)
    residual = layers.BatchNormalization()(layers.Conv2D(12, 1, strides=2, padding="same", use_bias=False)(x))
    x = layers.SeparableConv2D(12, 3, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization()(x)
    x = layers.MaxPooling2D(3, strides=2, padding="same")(x)
    x = layers.add([x, residual])
    for _ in range(2):
        residual = x
        for _ in range(2):
            x = layers.Activation("relu")(x)
            x = layers.SeparableConv2D(12, 3, padding="same", use_bias=False)(x)
            x = layers.BatchNormalization()(x)
        x = layers.add([x, residual])
    x = layers.SeparableConv2D(16, 3, padding="same", activation="relu", depth_multiplier=2)(x)
    return keras.Model(inputs, layers.Dense(4)(layers.GlobalAveragePooling2D()(x)))


class LayerScale(layers.Layer):
    """keras.applications' gamma for each channel."""

    def __init__(self, init_values, projection_dim, **kwargs):
        super().__init__(**kwargs)
        self.init_values, self.projection_dim = init_values, projection_dim

    def build(self, _):
        self.gamma = self.add_weight(
            shape=(self.projection_dim,), initializer=keras.initializers.Constant(self.init_values), name="gamma"
        )

    def call(self, x):
        return x * self.gamma


class StochasticDepth(layers.Layer):
    """Drops a residual branch of a sample while training."""

    def __init__(self, drop_path_rate, **kwargs):
        super().__init__(**kwargs)
        self.drop_path_rate = drop_path_rate
        self.seed_generator = keras.random.SeedGenerator(1)

    def call(self, x, training=None):
        if training:
            keep_prob = 1 - self.drop_path_rate
            shape = (ops.shape(x)[0],) + (1,) * (len(x.shape) - 1)
            random_tensor = keep_prob + keras.random.uniform(shape, 0, 1, seed=self.seed_generator)
            return (x / keep_prob) * ops.floor(random_tensor)
        return x


@model("ConvNeXt, LayerScale and stochastic depth", "vision", normal(32, 32, 3))
def convnext():
    """7x7 depthwise (a grouped Conv2D), LayerNormalization, GELU."""
    inputs = keras.Input((32, 32, 3))
    x = layers.LayerNormalization(epsilon=1e-6)(layers.Conv2D(8, 4, strides=4)(inputs))
    for dim in (8, 12):
        if x.shape[-1] != dim:
            x = layers.Conv2D(dim, 2, strides=2)(layers.LayerNormalization(epsilon=1e-6)(x))
        for _ in range(2):
            y = layers.Conv2D(dim, 7, padding="same", groups=dim)(x)
            y = layers.LayerNormalization(epsilon=1e-6)(y)
            y = layers.Activation("gelu")(layers.Dense(4 * dim)(y))
            y = LayerScale(1e-6, dim)(layers.Dense(dim)(y))
            x = x + StochasticDepth(0.1)(y)
    x = layers.LayerNormalization(epsilon=1e-6)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, layers.Dense(5)(x))


@model("ResNeXt, grouped convolutions", "vision", normal(24, 24, 3))
def resnext():
    """Groups of the Conv2D layer."""
    inputs = keras.Input((24, 24, 3))
    x = layers.Conv2D(16, 3, strides=2, padding="same", activation="relu")(inputs)
    for _ in range(2):
        y = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(8, 1, use_bias=False)(x)))
        y = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(8, 3, padding="same", groups=4, use_bias=False)(y)))
        y = layers.BatchNormalization()(layers.Conv2D(16, 1, use_bias=False)(y))
        x = layers.ReLU()(x + y)
    return keras.Model(inputs, layers.Dense(4, activation="softmax")(layers.GlobalAveragePooling2D()(x)))


@model("ResNeXt, groups by slices and concatenation", "vision", normal(16, 16, 3))
def resnext_slices():
    """How groups were written before Conv2D had them."""
    inputs = keras.Input((16, 16, 3))
    x = layers.Conv2D(8, 3, padding="same")(inputs)
    groups = []
    for c in range(4):
        part = layers.Lambda(lambda z, c=c: z[:, :, :, c * 2 : (c + 1) * 2])(x)
        groups.append(layers.Conv2D(2, 3, padding="same")(part))
    y = layers.LeakyReLU()(layers.BatchNormalization()(layers.concatenate(groups)))
    x = layers.add([x, y])
    return keras.Model(inputs, layers.Dense(3)(layers.Flatten()(layers.AveragePooling2D(4)(x))))


@model("ShuffleNet, channel shuffle by reshape and transpose", "vision", normal(24, 24, 3))
def shufflenet():
    """V2: split, a branch, concatenation, shuffle."""

    def channel_shuffle(x, groups=2):
        _, height, width, channels = x.shape
        x = ops.reshape(x, (-1, height, width, groups, channels // groups))
        x = ops.transpose(x, (0, 1, 2, 4, 3))
        return ops.reshape(x, (-1, height, width, channels))

    inputs = keras.Input((24, 24, 3))
    x = layers.MaxPooling2D(3, 2, padding="same")(layers.Conv2D(12, 3, padding="same", activation="relu")(inputs))
    for _ in range(2):
        left, right = ops.split(x, 2, axis=-1)
        right = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(6, 1, use_bias=False)(right)))
        right = layers.BatchNormalization()(layers.DepthwiseConv2D(3, padding="same", use_bias=False)(right))
        right = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(6, 1, use_bias=False)(right)))
        x = channel_shuffle(layers.Concatenate()([left, right]))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(16, 1, activation="relu")(x))
    return keras.Model(inputs, layers.Dense(5)(x))


class GhostModule(layers.Layer):
    """Some channels by a convolution, the rest from them by a cheap depthwise one."""

    def __init__(self, out, ratio=2):
        super().__init__()
        self.primary = layers.Conv2D(out // ratio, 1, padding="same", use_bias=False)
        self.cheap = layers.DepthwiseConv2D(3, padding="same", use_bias=False, depth_multiplier=ratio - 1)
        self.concat = layers.Concatenate()

    def call(self, x):
        x = self.primary(x)
        return self.concat([x, self.cheap(x)])


@model("GhostNet, modules of custom layers", "vision", normal(24, 24, 3))
def ghostnet():
    """Ghost bottlenecks with a depthwise shortcut."""
    inputs = keras.Input((24, 24, 3))
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")(inputs)
    y = layers.ReLU()(layers.BatchNormalization()(GhostModule(16)(x)))
    y = layers.DepthwiseConv2D(3, strides=2, padding="same")(y)
    y = layers.BatchNormalization()(GhostModule(12)(y))
    shortcut = layers.Conv2D(12, 1)(layers.DepthwiseConv2D(3, strides=2, padding="same")(x))
    x = layers.Add()([y, shortcut])
    return keras.Model(inputs, layers.Dense(3, activation="softmax")(layers.GlobalAveragePooling2D()(x)))


@model("RegNetY, stages as functions of x", "vision", normal(32, 32, 3))
def regnet():
    """Functions that give functions, as keras.applications writes them; groups and squeeze."""

    def y_block(filters, group_width, stride):
        def apply(inputs):
            skip = inputs
            if stride != 1 or inputs.shape[-1] != filters:
                skip = layers.BatchNormalization()(layers.Conv2D(filters, 1, strides=stride, use_bias=False)(inputs))
            x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(filters, 1, use_bias=False)(inputs)))
            x = layers.Conv2D(filters, 3, stride, padding="same", groups=filters // group_width, use_bias=False)(x)
            x = layers.ReLU()(layers.BatchNormalization()(x))
            se = layers.GlobalAveragePooling2D(keepdims=True)(x)
            se = layers.Conv2D(filters, 1, activation="sigmoid")(layers.Conv2D(2, 1, activation="relu")(se))
            x = layers.BatchNormalization()(layers.Conv2D(filters, 1, use_bias=False)(ops.multiply(x, se)))
            return layers.ReLU()(x + skip)

        return apply

    inputs = keras.Input((32, 32, 3))
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(8, 3, strides=2, padding="same")(inputs)))
    for filters in (8, 16):
        x = y_block(filters, 4, 1)(y_block(filters, 4, 2)(x))
    return keras.Model(inputs, layers.Dense(5)(layers.GlobalAveragePooling2D()(x)))
