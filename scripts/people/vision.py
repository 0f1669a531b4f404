"""Classic convolutional networks: LeNet to DenseNet, squeeze-and-excitation and attention on channels."""
# ruff: noqa: D102 (what Keras calls)

import keras
from keras import layers, ops

from .base import model, normal, pixels, unit


@model("LeNet, tanh and average pooling", "vision", unit(28, 28, 1))
def lenet():
    """As in the paper, with a softmax."""
    return keras.Sequential(
        [
            layers.Input((28, 28, 1)),
            layers.Conv2D(6, 5, padding="same", activation="tanh"),
            layers.AveragePooling2D(2),
            layers.Conv2D(16, 5, activation="tanh"),
            layers.AveragePooling2D(2),
            layers.Flatten(),
            layers.Dense(24, activation="tanh"),
            layers.Dense(10, activation="softmax"),
        ]
    )


@model("mnist convnet of keras.io", "vision", unit(28, 28, 1))
def mnist_convnet():
    """Two convolutions, dropout, softmax."""
    return keras.Sequential(
        [
            keras.Input(shape=(28, 28, 1)),
            layers.Conv2D(8, kernel_size=(3, 3), activation="relu"),
            layers.MaxPooling2D(pool_size=(2, 2)),
            layers.Conv2D(12, kernel_size=(3, 3), activation="relu"),
            layers.MaxPooling2D(pool_size=(2, 2)),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(10, activation="softmax"),
        ]
    )


@model("VGG, small, BatchNormalization before ReLU", "vision", normal(32, 32, 3))
def mini_vgg():
    """Blocks of two convolutions in a loop; the softmax is a layer."""
    inputs = keras.Input((32, 32, 3))
    x = inputs
    for filters in (6, 8, 12):
        for _ in range(2):
            x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
            x = layers.BatchNormalization()(x)
            x = layers.Activation("relu")(x)
        x = layers.MaxPooling2D((2, 2), strides=(2, 2))(x)
        x = layers.Dropout(0.25)(x)
    x = layers.Flatten()(x)
    x = layers.Dense(16, activation="relu")(x)
    return keras.Model(inputs, layers.Softmax()(layers.Dense(5)(x)))


@model("Network in Network, global average pooling as head", "vision", normal(24, 24, 3))
def network_in_network():
    """The last convolution has a channel for each class."""
    blocks = [keras.Input((24, 24, 3))]
    for filters, size in ((8, 5), (12, 3), (4, 3)):
        blocks += [layers.Conv2D(filters, size, padding="same", activation="relu")]
        blocks += [layers.Conv2D(filters, 1, activation="relu" if filters > 4 else None), layers.MaxPooling2D(3, 2)]
    return keras.Sequential([*blocks, layers.GlobalAveragePooling2D(), layers.Activation("softmax")])


@model("Inception modules", "vision", normal(24, 24, 3))
def inception():
    """Four branches joined, with 1x1 reductions; an auxiliary-free GoogLeNet."""

    def module(x, f1, f3r, f3, f5r, f5, proj):
        a = layers.Conv2D(f1, 1, padding="same", activation="relu")(x)
        b = layers.Conv2D(f3r, 1, padding="same", activation="relu")(x)
        b = layers.Conv2D(f3, 3, padding="same", activation="relu")(b)
        c = layers.Conv2D(f5r, 1, padding="same", activation="relu")(x)
        c = layers.Conv2D(f5, 5, padding="same", activation="relu")(c)
        d = layers.MaxPool2D(3, strides=1, padding="same")(x)
        d = layers.Conv2D(proj, 1, padding="same", activation="relu")(d)
        return layers.concatenate([a, b, c, d], axis=-1)

    inputs = keras.Input((24, 24, 3))
    x = layers.Conv2D(8, 5, strides=2, padding="same", activation="relu")(inputs)
    x = module(x, 4, 4, 6, 2, 3, 3)
    x = layers.MaxPool2D(3, 2, padding="same")(x)
    x = module(x, 6, 4, 8, 2, 4, 4)
    x = layers.Dropout(0.4)(layers.GlobalAvgPool2D()(x))
    return keras.Model(inputs, layers.Dense(5, activation="softmax")(x))


class Residual(keras.Model):
    """Dive into deep learning: a residual block as a model of its own."""

    def __init__(self, num_channels, use_1x1conv=False, strides=1):
        super().__init__()
        self.conv1 = layers.Conv2D(num_channels, padding="same", kernel_size=3, strides=strides)
        self.conv2 = layers.Conv2D(num_channels, kernel_size=3, padding="same")
        self.conv3 = layers.Conv2D(num_channels, kernel_size=1, strides=strides) if use_1x1conv else None
        self.bn1 = layers.BatchNormalization()
        self.bn2 = layers.BatchNormalization()

    def call(self, x):
        y = keras.activations.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.conv3 is not None:
            x = self.conv3(x)
        y += x
        return keras.activations.relu(y)


@model("ResNet v1, blocks as subclassed models in Sequential", "vision", normal(32, 32, 3))
def resnet_sequential():
    """A Sequential of Sequentials."""
    net = keras.Sequential([layers.Input((32, 32, 3)), layers.Conv2D(8, 7, strides=2, padding="same")])
    net.add(layers.BatchNormalization())
    net.add(layers.Activation("relu"))
    net.add(layers.MaxPool2D(pool_size=3, strides=2, padding="same"))
    net.add(keras.Sequential([Residual(8), Residual(8)]))
    net.add(keras.Sequential([Residual(12, use_1x1conv=True, strides=2), Residual(12)]))
    net.add(layers.GlobalAvgPool2D())
    net.add(layers.Dense(units=5))
    return net


@model("ResNet v2, bottleneck, Functional", "vision", normal(32, 32, 3))
def resnet_v2():
    """Pre-activation, 1x1 - 3x3 - 1x1."""

    def block(x, filters, strides=1, conv_shortcut=False):
        preact = layers.ReLU()(layers.BatchNormalization(epsilon=1.001e-5)(x))
        if conv_shortcut:
            shortcut = layers.Conv2D(4 * filters, 1, strides=strides)(preact)
        else:
            shortcut = layers.MaxPooling2D(1, strides=strides)(x) if strides > 1 else x
        x = layers.Conv2D(filters, 1, use_bias=False)(preact)
        x = layers.ReLU()(layers.BatchNormalization()(x))
        x = layers.ZeroPadding2D(((1, 1), (1, 1)))(x)
        x = layers.Conv2D(filters, 3, strides=strides, use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
        return layers.Add()([shortcut, layers.Conv2D(4 * filters, 1)(x)])

    inputs = keras.Input((32, 32, 3))
    x = layers.Conv2D(8, 7, strides=2, padding="same")(inputs)
    x = block(x, 4, conv_shortcut=True)
    x = block(x, 4, strides=2)
    x = block(x, 6, strides=2, conv_shortcut=True)
    x = layers.ReLU(name="post_relu")(layers.BatchNormalization(name="post_bn")(x))
    x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
    return keras.Model(inputs, layers.Dense(4, activation="softmax", name="predictions")(x))


class ResidualUnit(layers.Layer):
    """Géron's residual unit: main layers and skip layers in lists."""

    def __init__(self, filters, strides=1, activation="relu", **kwargs):
        super().__init__(**kwargs)
        self.activation = keras.activations.get(activation)
        self.main_layers = [
            layers.Conv2D(filters, 3, strides=strides, padding="same", use_bias=False),
            layers.BatchNormalization(),
            self.activation,
            layers.Conv2D(filters, 3, strides=1, padding="same", use_bias=False),
            layers.BatchNormalization(),
        ]
        self.skip_layers = []
        if strides > 1:
            self.skip_layers = [
                layers.Conv2D(filters, 1, strides=strides, padding="same", use_bias=False),
                layers.BatchNormalization(),
            ]

    def call(self, inputs):
        z = inputs
        for layer in self.main_layers:
            z = layer(z)
        skip_z = inputs
        for layer in self.skip_layers:
            skip_z = layer(skip_z)
        return self.activation(z + skip_z)


@model("ResNet v1, layers in lists", "vision", normal(32, 32, 3))
def resnet_lists():
    """Géron's ResNet-34, shorter."""
    model = keras.Sequential(
        [
            layers.Input((32, 32, 3)),
            layers.Conv2D(8, 7, strides=2, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.Activation("relu"),
            layers.MaxPool2D(pool_size=3, strides=2, padding="same"),
        ]
    )
    prev_filters = 8
    for filters in [8, 8, 12, 12]:
        model.add(ResidualUnit(filters, strides=1 if filters == prev_filters else 2))
        prev_filters = filters
    model.add(layers.GlobalAvgPool2D())
    model.add(layers.Flatten())
    model.add(layers.Dense(10, activation="softmax"))
    return model


class ResNet(keras.Model):
    """Blocks in a list, training passed on, layers in a dict for the shortcuts."""

    def __init__(self, widths=(6, 8), num_classes=4):
        super().__init__()
        self.stem = layers.Conv2D(widths[0], 3, padding="same")
        self.convs = [[layers.Conv2D(w, 3, padding="same"), layers.Conv2D(w, 3, padding="same")] for w in widths]
        self.norms = [[layers.BatchNormalization(), layers.BatchNormalization()] for _ in widths]
        self.shortcuts = {str(i): layers.Conv2D(w, 1) for i, w in enumerate(widths)}
        self.classifier = layers.Dense(num_classes)

    def call(self, inputs, training=False):
        x = self.stem(inputs)
        for i, (convs, norms) in enumerate(zip(self.convs, self.norms, strict=True)):
            y = x
            for conv, norm in zip(convs, norms, strict=True):
                y = ops.relu(norm(conv(y), training=training))
            x = self.shortcuts[str(i)](x) + y
            x = ops.max_pool(x, 2, 2)
        return self.classifier(ops.mean(x, axis=[1, 2]))


@model("ResNet, one subclassed model, layers in lists and a dict", "vision", normal(16, 16, 3))
def resnet_subclassed():
    """All in one class."""
    return ResNet()


@model("DenseNet-BC", "vision", normal(24, 24, 3))
def densenet():
    """Concatenations, 1x1 bottlenecks, transitions with average pooling."""

    def conv_block(x, growth_rate):
        y = layers.ReLU()(layers.BatchNormalization()(x))
        y = layers.Conv2D(4 * growth_rate, 1, use_bias=False)(y)
        y = layers.ReLU()(layers.BatchNormalization()(y))
        y = layers.Conv2D(growth_rate, 3, padding="same", use_bias=False)(y)
        return layers.Concatenate()([x, y])

    inputs = keras.Input((24, 24, 3))
    x = layers.Conv2D(8, 3, padding="same")(inputs)
    for stage in range(2):
        for _ in range(3):
            x = conv_block(x, 4)
        if stage == 0:
            x = layers.Conv2D(x.shape[-1] // 2, 1, use_bias=False)(layers.ReLU()(layers.BatchNormalization()(x)))
            x = layers.AveragePooling2D(2)(x)
    x = layers.GlobalAveragePooling2D()(layers.ReLU()(layers.BatchNormalization()(x)))
    return keras.Model(inputs, layers.Dense(5, activation="softmax")(x))


class SEBlock(layers.Layer):
    """Squeeze and excitation."""

    def __init__(self, ratio=4, **kwargs):
        super().__init__(**kwargs)
        self.ratio = ratio

    def build(self, input_shape):
        channels = input_shape[-1]
        self.squeeze = layers.GlobalAveragePooling2D(keepdims=True)
        self.excite = keras.Sequential(
            [layers.Dense(channels // self.ratio, activation="relu"), layers.Dense(channels, activation="sigmoid")]
        )
        self.excite.build((None, 1, 1, channels))

    def call(self, x):
        return x * self.excite(self.squeeze(x))


@model("SE-ResNet, custom layer in Functional", "vision", normal(20, 20, 3))
def se_resnet():
    """A squeeze-and-excitation layer in each block."""
    inputs = keras.Input((20, 20, 3))
    x = layers.Conv2D(8, 3, activation="relu")(inputs)
    for _ in range(2):
        y = layers.BatchNormalization()(layers.Conv2D(8, 3, padding="same")(x))
        x = layers.Activation("relu")(layers.add([x, SEBlock()(y)]))
    return keras.Model(inputs, layers.Dense(3)(layers.GlobalMaxPooling2D()(x)))


@model("CBAM, Functional with Lambda layers", "vision", normal(20, 20, 3))
def cbam():
    """Attention on channels, then on places."""

    def channel_attention(x, ratio=4):
        channel = x.shape[-1]
        one, two = layers.Dense(channel // ratio, activation="relu"), layers.Dense(channel)
        avg = two(one(layers.Reshape((1, 1, channel))(layers.GlobalAveragePooling2D()(x))))
        top = two(one(layers.Reshape((1, 1, channel))(layers.GlobalMaxPooling2D()(x))))
        return layers.multiply([x, layers.Activation("sigmoid")(layers.Add()([avg, top]))])

    def spatial_attention(x):
        avg = layers.Lambda(lambda t: ops.mean(t, axis=3, keepdims=True))(x)
        top = layers.Lambda(lambda t: ops.max(t, axis=3, keepdims=True))(x)
        both = layers.Concatenate(axis=3)([avg, top])
        return layers.multiply([x, layers.Conv2D(1, 7, padding="same", activation="sigmoid", use_bias=False)(both)])

    inputs = keras.Input((20, 20, 3))
    x = layers.Conv2D(8, 3, padding="same", activation="relu")(inputs)
    x = layers.MaxPooling2D()(spatial_attention(channel_attention(x)))
    x = layers.Conv2D(12, 3, padding="same", activation="relu")(x)
    x = layers.Flatten()(spatial_attention(channel_attention(x)))
    return keras.Model(inputs, layers.Dense(1, activation="sigmoid")(x))


@model("cats and dogs, augmentation and rescaling inside", "vision", pixels(32, 32, 3))
def cats_and_dogs():
    """keras.io: image classification from scratch, a small Xception with augmentation."""
    inputs = keras.Input(shape=(32, 32, 3))
    x = keras.Sequential([layers.RandomFlip("horizontal"), layers.RandomRotation(0.1)])(inputs)
    x = layers.Rescaling(1.0 / 255)(x)
    x = layers.Conv2D(8, 3, strides=2, padding="same")(x)
    x = layers.Activation("relu")(layers.BatchNormalization()(x))
    previous_block_activation = x
    for size in [12, 16]:
        x = layers.Activation("relu")(x)
        x = layers.BatchNormalization()(layers.SeparableConv2D(size, 3, padding="same")(x))
        x = layers.Activation("relu")(x)
        x = layers.BatchNormalization()(layers.SeparableConv2D(size, 3, padding="same")(x))
        x = layers.MaxPooling2D(3, strides=2, padding="same")(x)
        residual = layers.Conv2D(size, 1, strides=2, padding="same")(previous_block_activation)
        x = layers.add([x, residual])
        previous_block_activation = x
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(0.25)(x)
    return keras.Model(inputs, layers.Dense(1, activation=None)(x))
