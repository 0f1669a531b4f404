"""Models whose output is dense, or several: segmentation, autoencoders, heat maps, detection."""
# ruff: noqa: D102 (what Keras calls)

import keras
from keras import layers, ops

from .base import model, normal, pixels, unit


@model("U-Net of keras.io, separable, residual", "outputs", normal(32, 32, 3))
def unet_keras_io():
    """Oxford pets: Xception-like, transposed convolutions, softmax of pixels."""
    inputs = keras.Input((32, 32, 3))
    x = layers.Conv2D(6, 3, strides=2, padding="same")(inputs)
    x = layers.Activation("relu")(layers.BatchNormalization()(x))
    previous = x
    for filters in [8, 12]:
        x = layers.Activation("relu")(x)
        x = layers.BatchNormalization()(layers.SeparableConv2D(filters, 3, padding="same")(x))
        x = layers.MaxPooling2D(3, strides=2, padding="same")(x)
        residual = layers.Conv2D(filters, 1, strides=2, padding="same")(previous)
        x = previous = layers.add([x, residual])
    for filters in [12, 8, 6]:
        x = layers.Activation("relu")(x)
        x = layers.BatchNormalization()(layers.Conv2DTranspose(filters, 3, padding="same")(x))
        x = layers.UpSampling2D(2)(x)
        residual = layers.Conv2D(filters, 1, padding="same")(layers.UpSampling2D(2)(previous))
        x = previous = layers.add([x, residual])
    return keras.Model(inputs, layers.Conv2D(3, 3, activation="softmax", padding="same")(x))


@model("U-Net, skips by concatenation, sigmoid", "outputs", unit(16, 16, 1))
def unet():
    """Ronneberger's, two levels, Conv2DTranspose up."""

    def double(x, filters):
        for _ in range(2):
            x = layers.Conv2D(filters, 3, activation="relu", padding="same")(x)
        return x

    inputs = keras.Input((16, 16, 1))
    one = double(inputs, 4)
    two = double(layers.MaxPooling2D()(one), 8)
    three = layers.Dropout(0.3)(double(layers.MaxPooling2D()(two), 12))
    x = layers.Conv2DTranspose(8, 2, strides=2, padding="same")(three)
    x = double(layers.concatenate([x, two]), 8)
    x = layers.Conv2DTranspose(4, 2, strides=2, padding="same")(x)
    x = double(layers.concatenate([x, one]), 4)
    return keras.Model(inputs, layers.Conv2D(1, 1, activation="sigmoid")(x))


class UNet(keras.Model):
    """Encoder and decoder blocks in lists; skips in a list."""

    def __init__(self, filters=(4, 8), num_classes=3):
        super().__init__()
        self.downs = [self.block(f) for f in filters]
        self.bottleneck = self.block(12)
        self.ups = [layers.Conv2DTranspose(f, 2, strides=2) for f in reversed(filters)]
        self.merges = [self.block(f) for f in reversed(filters)]
        self.pool = layers.MaxPool2D()
        self.last = layers.Conv2D(num_classes, 1)

    @staticmethod
    def block(filters):
        return keras.Sequential(
            [layers.Conv2D(filters, 3, padding="same", use_bias=False), layers.BatchNormalization(), layers.ReLU()]
        )

    def call(self, x):
        skips = []
        for down in self.downs:
            x = down(x)
            skips.append(x)
            x = self.pool(x)
        x = self.bottleneck(x)
        for up, merge in zip(self.ups, self.merges, strict=True):
            x = merge(ops.concatenate([up(x), skips.pop()], axis=-1))
        return self.last(x)


@model("U-Net, subclassed, logits", "outputs", normal(16, 16, 3))
def unet_subclassed():
    """The same idea as a class."""
    return UNet()


@model("attention U-Net", "outputs", normal(16, 16, 1))
def attention_unet():
    """Additive gates on the skips."""

    def gate(x, g, filters):
        theta = layers.Conv2D(filters, 2, strides=2)(x)
        phi = layers.Conv2D(filters, 1)(g)
        f = layers.Activation("relu")(layers.add([theta, phi]))
        psi = layers.Activation("sigmoid")(layers.Conv2D(1, 1)(f))
        return layers.multiply([x, layers.UpSampling2D(2)(psi)])

    inputs = keras.Input((16, 16, 1))
    one = layers.Conv2D(6, 3, padding="same", activation="relu")(inputs)
    two = layers.Conv2D(8, 3, padding="same", activation="relu")(layers.MaxPooling2D()(one))
    x = layers.concatenate([layers.UpSampling2D()(two), gate(one, two, 4)])
    x = layers.Conv2D(6, 3, padding="same", activation="relu")(x)
    return keras.Model(inputs, layers.Conv2D(2, 1, activation="softmax")(x))


@model("FCN-8s-like, sums of scores", "outputs", normal(32, 32, 3))
def fcn():
    """Scores at three depths, upsampled and added."""
    inputs = keras.Input((32, 32, 3))
    pools, x = [], inputs
    for filters in (4, 6, 8):
        x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
        x = layers.MaxPooling2D(2)(x)
        pools.append(layers.Conv2D(3, 1)(x))
    x = layers.Conv2DTranspose(3, 4, strides=2, padding="same", use_bias=False)(pools[2])
    x = layers.Conv2DTranspose(3, 4, strides=2, padding="same", use_bias=False)(layers.add([x, pools[1]]))
    x = layers.UpSampling2D(2, interpolation="bilinear")(layers.add([x, pools[0]]))
    return keras.Model(inputs, layers.Activation("softmax")(x))


@model("DeepLab, ASPP with image pooling", "outputs", normal(32, 32, 3))
def deeplab():
    """keras.io's DeepLabV3+, small."""

    def convolution_block(x, filters=6, kernel_size=3, dilation_rate=1):
        x = layers.Conv2D(filters, kernel_size, dilation_rate=dilation_rate, padding="same", use_bias=False)(x)
        return ops.nn.relu(layers.BatchNormalization()(x))

    def dilated_pyramid(dspp):
        dims = dspp.shape
        x = layers.AveragePooling2D(pool_size=(dims[-3], dims[-2]))(dspp)
        x = convolution_block(x, kernel_size=1)
        pool = layers.UpSampling2D(size=(dims[-3] // x.shape[1], dims[-2] // x.shape[2]), interpolation="bilinear")(x)
        outs = [convolution_block(dspp, kernel_size=1 if rate == 1 else 3, dilation_rate=rate) for rate in (1, 2, 3)]
        return convolution_block(layers.Concatenate(axis=-1)([pool, *outs]), kernel_size=1)

    inputs = keras.Input((32, 32, 3))
    low = convolution_block(layers.Conv2D(6, 3, strides=2, padding="same")(inputs))
    high = layers.Conv2D(8, 3, strides=4, padding="same", activation="relu")(low)
    a = layers.UpSampling2D(size=(4, 4), interpolation="bilinear")(dilated_pyramid(high))
    b = convolution_block(low, filters=4, kernel_size=1)
    x = convolution_block(layers.Concatenate(axis=-1)([a, b]))
    x = layers.UpSampling2D(size=(2, 2), interpolation="bilinear")(x)
    return keras.Model(inputs, layers.Conv2D(3, kernel_size=(1, 1), padding="same")(x))


@model("feature pyramid network, class from all levels", "outputs", normal(32, 32, 3))
def fpn():
    """1x1 lateral, nearest upsampling, sums; pooled levels joined."""
    inputs = keras.Input((32, 32, 3))
    levels, x = [], inputs
    for filters in (6, 8, 10):
        x = layers.Conv2D(filters, 3, strides=2, padding="same", activation="relu")(x)
        levels.append(layers.Conv2D(8, 1)(x))
    p5 = levels[2]
    p4 = levels[1] + layers.UpSampling2D(2)(p5)
    p3 = levels[0] + layers.UpSampling2D(2)(p4)
    smooth = [layers.Conv2D(8, 3, padding="same")(p) for p in (p3, p4, p5)]
    pooled = layers.Concatenate()([layers.GlobalAveragePooling2D()(p) for p in smooth])
    return keras.Model(inputs, layers.Dense(4)(pooled))


@model("convolutional autoencoder", "outputs", unit(28, 28, 1))
def autoencoder():
    """keras.io: denoising digits."""
    inputs = layers.Input(shape=(28, 28, 1))
    x = layers.Conv2D(8, (3, 3), activation="relu", padding="same")(inputs)
    x = layers.MaxPooling2D((2, 2), padding="same")(x)
    x = layers.Conv2D(8, (3, 3), activation="relu", padding="same")(x)
    x = layers.MaxPooling2D((2, 2), padding="same")(x)
    for _ in range(2):
        x = layers.Conv2DTranspose(8, (3, 3), strides=2, activation="relu", padding="same")(x)
    return keras.Model(inputs, layers.Conv2D(1, (3, 3), activation="sigmoid", padding="same")(x))


@model("anomaly score, reconstruction error of an autoencoder", "outputs", unit(20))
def reconstruction_error():
    """Encoder and decoder as models; the error as output."""
    encoder = keras.Sequential([layers.Dense(8, activation="relu"), layers.Dense(4)], name="encoder")
    decoder = keras.Sequential([layers.Dense(8, activation="relu"), layers.Dense(20, activation="sigmoid")])
    inputs = keras.Input((20,))
    error = ops.mean(ops.abs(decoder(encoder(inputs)) - inputs), axis=-1, keepdims=True)
    return keras.Model(inputs, error)


class Sampling(layers.Layer):
    """Draws only while training, else the mean."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seed_generator = keras.random.SeedGenerator(1337)

    def call(self, inputs, training=False):
        z_mean, z_log_var = inputs
        if not training:
            return z_mean
        epsilon = keras.random.normal(shape=ops.shape(z_mean), seed=self.seed_generator)
        return z_mean + ops.exp(0.5 * z_log_var) * epsilon


@model("VAE encoder, mean, log variance and draw", "outputs", unit(28, 28, 1), output="z_mean")
def vae_encoder():
    """keras.io's encoder with three outputs."""
    inputs = keras.Input(shape=(28, 28, 1))
    x = layers.Conv2D(6, 3, activation="relu", strides=2, padding="same")(inputs)
    x = layers.Conv2D(8, 3, activation="relu", strides=2, padding="same")(x)
    x = layers.Dense(8, activation="relu")(layers.Flatten()(x))
    z_mean = layers.Dense(2, name="z_mean")(x)
    z_log_var = layers.Dense(2, name="z_log_var")(x)
    z = Sampling(name="z")([z_mean, z_log_var])
    return keras.Model(inputs, [z_mean, z_log_var, z], name="encoder")


@model("super-resolution by depth to space", "outputs", unit(10, 10, 1))
def super_resolution():
    """ESPCN: the rearrangement by reshape and transpose."""

    def depth_to_space(x, block=2):
        _, height, width, depth = x.shape
        x = ops.reshape(x, (-1, height, width, block, block, depth // block**2))
        x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
        return ops.reshape(x, (-1, height * block, width * block, depth // block**2))

    inputs = keras.Input((10, 10, 1))
    x = layers.Conv2D(8, 5, padding="same", activation="relu", kernel_initializer="orthogonal")(inputs)
    x = layers.Conv2D(4, 3, padding="same", activation="relu")(x)
    return keras.Model(inputs, depth_to_space(layers.Conv2D(4, 3, padding="same")(x)))


@model("low-light enhancement, curves in a loop", "outputs", unit(16, 16, 3))
def zero_dce():
    """Zero-DCE: x + r (x^2 - x), with slices of one output."""
    inputs = keras.Input((16, 16, 3))
    conv1 = layers.Conv2D(6, 3, activation="relu", padding="same")(inputs)
    conv2 = layers.Conv2D(6, 3, activation="relu", padding="same")(conv1)
    con = layers.Concatenate(axis=-1)([conv2, conv1])
    curves = layers.Conv2D(9, 3, activation="tanh", padding="same")(con)
    x = inputs
    for i in range(0, 9, 3):
        r = curves[:, :, :, i : i + 3]
        x = x + r * (ops.square(x) - x)
    return keras.Model(inputs, x)


@model("key point heat maps, hourglass", "outputs", normal(16, 16, 3))
def heat_maps():
    """Down and up with a residual beside."""
    inputs = keras.Input((16, 16, 3))
    x = layers.Conv2D(6, 3, padding="same", activation="relu")(inputs)
    skip = layers.Conv2D(6, 3, padding="same", activation="relu")(x)
    low = layers.MaxPooling2D()(x)
    for _ in range(2):
        low = layers.Conv2D(6, 3, padding="same", activation="relu")(low)
    x = layers.Add()([skip, layers.UpSampling2D()(low)])
    return keras.Model(inputs, layers.Conv2D(4, 1, activation="linear")(x))


@model("box regression and class, two outputs", "outputs", unit(32, 32, 3), output="classes")
def detection():
    """A single object: a box by sigmoid, a class by softmax."""
    inputs = keras.Input((32, 32, 3))
    x = inputs
    for filters in (6, 8):
        x = layers.MaxPooling2D()(layers.Conv2D(filters, 3, activation="relu")(x))
    x = layers.Flatten()(x)
    box = layers.Dense(4, activation="sigmoid", name="boxes")(layers.Dense(8, activation="relu")(x))
    label = layers.Dense(3, activation="softmax", name="classes")(layers.Dense(8, activation="relu")(x))
    return keras.Model(inputs, [box, label])


class RetinaHead(keras.Model):
    """Shared heads over the levels of a pyramid, joined anchors, a dict of outputs."""

    def __init__(self, num_classes=2, anchors=2):
        super().__init__()
        self.num_classes = num_classes
        self.stem = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")
        self.down = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")
        self.cls_head = keras.Sequential([layers.Conv2D(8, 3, padding="same", activation="relu")])
        self.cls_head.add(layers.Conv2D(anchors * num_classes, 3, padding="same"))
        self.box_head = keras.Sequential([layers.Conv2D(8, 3, padding="same", activation="relu")])
        self.box_head.add(layers.Conv2D(anchors * 4, 3, padding="same"))

    def call(self, image, training=False):
        features = [self.stem(image, training=training)]
        features.append(self.down(features[-1]))
        n = ops.shape(image)[0]
        boxes = [ops.reshape(self.box_head(feature), [n, -1, 4]) for feature in features]
        classes = [ops.reshape(self.cls_head(feature), [n, -1, self.num_classes]) for feature in features]
        return {"boxes": ops.concatenate(boxes, axis=1), "classes": ops.concatenate(classes, axis=1)}


@model("RetinaNet-like heads, dict of outputs, subclassed", "outputs", normal(16, 16, 3), output="classes")
def retina():
    """Anchors times classes as output."""
    return RetinaHead()


@model("YOLO-like grid", "outputs", pixels(32, 32, 3, dtype="uint8"))
def yolo():
    """Cells of box, objectness and classes; activations differ by slices; images of uint8."""
    inputs = keras.Input((32, 32, 3), dtype="uint8")
    x = ops.cast(inputs, "float32") / 255.0
    for filters in (6, 8, 12):
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
        x = layers.MaxPooling2D()(layers.LeakyReLU(0.1)(layers.BatchNormalization()(x)))
    x = layers.Reshape((4, 4, 2, 8))(layers.Conv2D(16, 1)(x))
    xy = ops.sigmoid(x[..., 0:2])
    wh = ops.exp(ops.clip(x[..., 2:4], -4.0, 4.0))
    confidence = ops.sigmoid(x[..., 4:5])
    classes = ops.softmax(x[..., 5:], axis=-1)
    return keras.Model(inputs, ops.concatenate([xy, wh, confidence, classes], axis=-1))


@model("CenterNet-like, heat map, size and offset", "outputs", normal(32, 32, 3), output="heatmap")
def centernet():
    """Deconvolutions and three heads."""
    inputs = keras.Input((32, 32, 3))
    x = inputs
    for filters in (6, 8, 10):
        x = layers.Conv2D(filters, 3, strides=2, padding="same", activation="relu")(x)
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2DTranspose(8, 4, strides=2, padding="same")(x)))
    heads = []
    for name, channels, activation in (("heatmap", 2, "sigmoid"), ("size", 2, None), ("offset", 2, None)):
        y = layers.Conv2D(8, 3, padding="same", activation="relu")(x)
        heads.append(layers.Conv2D(channels, 1, activation=activation, name=name)(y))
    return keras.Model(inputs, heads)


@model("image to image, instance normalization and tanh", "outputs", normal(16, 16, 3))
def image_to_image():
    """CycleGAN's generator: reflected padding, GroupNormalization of one channel a group."""

    class ReflectionPadding2D(layers.Layer):
        def __init__(self, padding=(1, 1)):
            super().__init__()
            self.padding = tuple(padding)

        def call(self, x):
            h, w = self.padding
            return ops.pad(x, [[0, 0], [h, h], [w, w], [0, 0]], mode="reflect")

    inputs = keras.Input((16, 16, 3))
    x = layers.Conv2D(6, 7, use_bias=False)(ReflectionPadding2D((3, 3))(inputs))
    x = layers.Activation("relu")(layers.GroupNormalization(groups=6)(x))
    for _ in range(2):
        y = layers.Conv2D(6, 3, use_bias=False)(ReflectionPadding2D()(x))
        x = layers.add([x, layers.GroupNormalization(groups=-1)(y)])
    x = layers.Conv2D(3, 7)(ReflectionPadding2D((3, 3))(x))
    return keras.Model(inputs, layers.Activation("tanh")(x))


@model("mixture density head", "outputs", normal(6), output="pi")
def mixture_density():
    """Means, scales by softplus, weights by softmax, as a dict."""
    inputs = keras.Input((6,))
    x = layers.Dense(12, activation="tanh")(inputs)
    outputs = {"mu": layers.Dense(3)(x), "sigma": layers.Dense(3, activation=lambda t: ops.elu(t) + 1.0 + 1e-6)(x)}
    outputs["pi"] = layers.Softmax()(layers.Dense(3)(x))
    return keras.Model(inputs, outputs)


@model("VGG as feature extractor, several layers as outputs", "outputs", normal(24, 24, 3), output="block2_conv")
def feature_extractor():
    """Style transfer: a model of the outputs of another one's layers."""
    base = keras.Sequential([layers.Input((24, 24, 3))])
    for block, filters in enumerate((4, 8), 1):
        base.add(layers.Conv2D(filters, 3, padding="same", activation="relu", name=f"block{block}_conv"))
        base.add(layers.MaxPooling2D(name=f"block{block}_pool"))
    chosen = [base.get_layer(name).output for name in ("block1_conv", "block2_conv")]
    return keras.Model(inputs=base.inputs, outputs=chosen)
