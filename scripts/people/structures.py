"""Graphs, point clouds, flows, physics and kernels: what is neither a table, an image, a text nor a series."""
# ruff: noqa: D102 (what Keras calls)

import keras
import numpy as np
from keras import layers, ops

from .base import listed, model, named, normal, numbers


def _adjacency(nodes):
    def inputs(generator):
        edges = np.triu(generator.uniform(size=(3, nodes, nodes)) < 0.4, 1).astype("float32")
        return edges + edges.transpose(0, 2, 1)

    return inputs


class GraphConvolution(layers.Layer):
    """Kipf and Welling: normalized adjacency times features times weights."""

    def __init__(self, units, activation=None):
        super().__init__()
        self.units, self.activation = units, keras.activations.get(activation)

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(input_shape[0][-1], self.units), name="kernel")
        self.bias = self.add_weight(shape=(self.units,), initializer="zeros", name="bias")

    def call(self, inputs):
        features, adjacency = inputs
        adjacency = adjacency + ops.eye(adjacency.shape[-1])
        degree = ops.rsqrt(ops.sum(adjacency, axis=-1))
        normalized = adjacency * degree[:, :, None] * degree[:, None, :]
        return self.activation(ops.matmul(normalized, ops.matmul(features, self.kernel)) + self.bias)


@model("GCN, dense adjacency as input, class of a graph", "styles", listed(normal(6, 4), _adjacency(6)))
def gcn():
    """Two convolutions, a sum over nodes."""
    features, adjacency = keras.Input((6, 4)), keras.Input((6, 6))
    x = GraphConvolution(8, "relu")([features, adjacency])
    x = layers.Dropout(0.2)(x)
    x = GraphConvolution(8, "relu")([x, adjacency])
    return keras.Model([features, adjacency], layers.Dense(3, activation="softmax")(ops.sum(x, axis=1)))


@model("graph attention, masked by adjacency, subclassed", "attention", named(x=normal(6, 4), adj=_adjacency(6)))
def gat():
    """Scores of pairs by LeakyReLU; -1e9 where there is no edge."""

    class GAT(keras.Model):
        def __init__(self, units=6):
            super().__init__()
            self.w, self.out = layers.Dense(units, use_bias=False), layers.Dense(2)
            self.left, self.right = layers.Dense(1), layers.Dense(1, use_bias=False)

        def call(self, inputs):
            h, adjacency = self.w(inputs["x"]), inputs["adj"] + ops.eye(6)
            e = ops.leaky_relu(self.left(h) + ops.transpose(self.right(h), (0, 2, 1)), 0.2)
            alpha = ops.softmax(ops.where(adjacency > 0, e, -1e9), axis=-1)
            return self.out(ops.max(ops.elu(ops.matmul(alpha, h)), axis=1))

    return GAT()


@model(
    "message passing, edges as pairs of numbers, segment sums",
    "styles",
    named(atoms=numbers(6, 5), bonds=normal(8, 3), pairs=lambda r: r.integers(0, 6, (3, 8, 2), "int32")),
    tokens=("atoms",),
)
def message_passing():
    """Gathers of senders, sums at receivers by one-hot products, a GRU cell as update."""
    atoms, bonds = keras.Input((6,), dtype="int32", name="atoms"), keras.Input((8, 3), name="bonds")
    pairs = keras.Input((8, 2), dtype="int32", name="pairs")
    h = layers.Embedding(5, 6)(atoms)
    message_net, update = layers.Dense(6, activation="relu"), layers.Dense(6, activation="tanh")
    for _ in range(2):
        senders = ops.take_along_axis(h, pairs[..., :1], axis=1)
        messages = message_net(layers.Concatenate()([senders, bonds]))
        receivers = ops.one_hot(pairs[..., 1], 6)
        h = h + update(ops.concatenate([h, ops.einsum("ben,bed->bnd", receivers, messages)], axis=-1))
    return keras.Model({"atoms": atoms, "bonds": bonds, "pairs": pairs}, layers.Dense(1)(ops.mean(h, axis=1)))


@model("PointNet with T-nets", "styles", normal(16, 3))
def pointnet():
    """keras.io: learned transformations by Dot, a maximum over points."""

    def conv_bn(x, filters):
        x = layers.Conv1D(filters, kernel_size=1, padding="valid")(x)
        return layers.Activation("relu")(layers.BatchNormalization(momentum=0.0)(x))

    def dense_bn(x, filters):
        return layers.Activation("relu")(layers.BatchNormalization(momentum=0.0)(layers.Dense(filters)(x)))

    def tnet(inputs, num_features):
        bias = keras.initializers.Constant(np.eye(num_features).flatten())
        x = layers.GlobalMaxPooling1D()(conv_bn(conv_bn(inputs, 6), 10))
        x = layers.Dense(num_features * num_features, kernel_initializer="zeros", bias_initializer=bias)(dense_bn(x, 8))
        return layers.Dot(axes=(2, 1))([inputs, layers.Reshape((num_features, num_features))(x)])

    inputs = keras.Input(shape=(16, 3))
    x = conv_bn(tnet(inputs, 3), 6)
    x = conv_bn(tnet(x, 6), 10)
    x = layers.Dropout(0.3)(dense_bn(layers.GlobalMaxPooling1D()(x), 8))
    return keras.Model(inputs, layers.Dense(4, activation="softmax")(x))


@model("EdgeConv on nearest neighbours", "styles", normal(10, 3))
def dgcnn():
    """Neighbours by top_k of distances, gathered; a maximum over them."""

    def edge_conv(x, k, filters):
        inner = ops.matmul(x, ops.transpose(x, (0, 2, 1)))
        square = ops.sum(x**2, axis=-1, keepdims=True)
        _, index = ops.top_k(-(square - 2 * inner + ops.transpose(square, (0, 2, 1))), k)
        count, dim = x.shape[1], x.shape[2]
        neighbours = ops.take_along_axis(x, ops.reshape(index, (-1, count * k, 1)), axis=1)
        neighbours = ops.reshape(neighbours, (-1, count, k, dim))
        centre = ops.tile(x[:, :, None], (1, 1, k, 1))
        edges = layers.Concatenate()([centre, neighbours - centre])
        return ops.max(layers.LeakyReLU(0.2)(layers.Conv2D(filters, 1)(edges)), axis=2)

    inputs = keras.Input((10, 3))
    x1 = edge_conv(inputs, 3, 6)
    x2 = edge_conv(x1, 3, 6)
    x = layers.Concatenate()([layers.GlobalMaxPooling1D()(x1), layers.GlobalAveragePooling1D()(x2)])
    return keras.Model(inputs, layers.Dense(3)(x))


class Coupling(layers.Layer):
    """RealNVP: half of the numbers scale and shift the other half."""

    def __init__(self, flip, dim=6):
        super().__init__()
        self.mask = np.array([(i + flip) % 2 for i in range(dim)], "float32")
        self.s = keras.Sequential([layers.Dense(8, activation="relu"), layers.Dense(dim, activation="tanh")])
        self.t = keras.Sequential([layers.Dense(8, activation="relu"), layers.Dense(dim)])

    def call(self, x):
        kept = x * self.mask
        s, t = self.s(kept) * (1 - self.mask), self.t(kept) * (1 - self.mask)
        return kept + (x * ops.exp(s) + t) * (1 - self.mask), ops.sum(s, axis=-1)


@model("normalizing flow, log-likelihood as output", "styles", normal(6))
def flow():
    """Four couplings and a normal density."""
    x = inputs = keras.Input((6,))
    log_det = 0.0
    for i in range(4):
        x, change = Coupling(i % 2)(x)
        log_det = log_det + change
    prior = -0.5 * ops.sum(ops.square(x), axis=-1) - 3.0 * float(np.log(2 * np.pi))
    return keras.Model(inputs, ops.expand_dims(prior + log_det, -1))


@model("neural ODE, Runge-Kutta steps in a loop", "styles", normal(5))
def neural_ode():
    """One network is called again and again."""

    class ODEBlock(layers.Layer):
        def __init__(self, dim, steps=4):
            super().__init__()
            self.steps = steps
            self.f = keras.Sequential([layers.Dense(8, activation="tanh"), layers.Dense(dim)])

        def call(self, y):
            h = 1.0 / self.steps
            for _ in range(self.steps):
                k1 = self.f(y)
                k2 = self.f(y + 0.5 * h * k1)
                y = y + h * k2
            return y

    return keras.Sequential([layers.Input((5,)), layers.Dense(6), ODEBlock(6), layers.Dense(2, activation="softmax")])


@model("deep equilibrium, Euler steps by ops.fori_loop", "styles", normal(5))
def equilibrium():
    """A loop that is none of Python's."""

    class FixedPoint(layers.Layer):
        def __init__(self, dim):
            super().__init__()
            self.u, self.w = layers.Dense(dim), layers.Dense(dim, use_bias=False)

        def build(self, shape):
            self.u.build(shape)
            self.w.build((None, self.u.units))

        def call(self, x):
            ux = self.u(x)
            return ops.fori_loop(0, 8, lambda _, z: 0.5 * z + 0.5 * ops.tanh(0.5 * self.w(z) + ux), ops.zeros_like(ux))

    inputs = keras.Input((5,))
    return keras.Model(inputs, layers.Dense(2)(FixedPoint(6)(inputs)))


@model("physics, constants and formulas around a small net", "styles", listed(normal(1), normal(1), normal(1)))
def physics():
    """A throw with a learned drag; sines, products and quotients of inputs."""
    t, v, angle = (keras.Input((1,), name=name) for name in ("t", "v", "angle"))
    gravity = ops.convert_to_tensor(9.81)
    time, speed = ops.softplus(t), 5.0 + ops.abs(v)
    drag = layers.Dense(1, activation="softplus")(layers.Dense(6, activation="tanh")(ops.concatenate([time, speed], -1)))
    across = speed * ops.cos(angle) * time / (1.0 + drag * time)
    up = speed * ops.sin(angle) * time - 0.5 * gravity * time**2
    return keras.Model([t, v, angle], ops.concatenate([across, up, ops.sqrt(across**2 + up**2)], axis=-1))


class RBFLayer(layers.Layer):
    """Gaussians around centres that are learned."""

    def __init__(self, units):
        super().__init__()
        self.units = units

    def build(self, input_shape):
        self.mu = self.add_weight(shape=(self.units, input_shape[1]), initializer="random_normal", name="mu")
        self.log_gamma = self.add_weight(shape=(self.units,), initializer="zeros", name="log_gamma")

    def call(self, inputs):
        diff = ops.expand_dims(inputs, 1) - self.mu
        return ops.exp(-ops.exp(self.log_gamma) * ops.sum(ops.square(diff), axis=-1) * 0.3)


@model("RBF network", "styles", normal(5))
def rbf():
    """Ten centres."""
    return keras.Sequential([layers.Input((5,)), RBFLayer(10), layers.Dense(3, use_bias=False)])


@model("Kolmogorov-Arnold network of Gaussian bases", "styles", normal(4))
def kan():
    """Each edge has a function: a sum of bumps and a SiLU."""

    class KANLayer(layers.Layer):
        def __init__(self, units, grid=5):
            super().__init__()
            self.units, self.grid = units, np.linspace(-2, 2, grid).astype("float32")

        def build(self, shape):
            size = len(self.grid)
            self.spline = self.add_weight(shape=(shape[-1], size, self.units), initializer="random_normal", name="spline")
            self.base = self.add_weight(shape=(shape[-1], self.units), name="base_kernel")

        def call(self, x):
            basis = ops.exp(-ops.square(x[..., None] - self.grid))
            return ops.einsum("big,igo->bo", basis, self.spline) + ops.matmul(ops.silu(x), self.base)

    return keras.Sequential([layers.Input((4,)), KANLayer(6), KANLayer(2)])


@model("random Fourier features", "styles", normal(4))
def fourier_features():
    """keras's RandomFourierFeatures by hand: a frozen projection, cosines; then a linear SVM."""

    class RandomFourierFeatures(layers.Layer):
        def __init__(self, output_dim, scale=1.0):
            super().__init__()
            self.output_dim, self.scale_value = output_dim, scale

        def build(self, shape):
            init = keras.initializers.RandomNormal(stddev=1.0, seed=1)
            self.kernel = self.add_weight(shape=(shape[-1], self.output_dim), initializer=init, trainable=False)
            phase = keras.initializers.RandomUniform(0.0, 2 * np.pi, seed=2)
            self.bias = self.add_weight(shape=(self.output_dim,), initializer=phase, trainable=False)

        def call(self, x):
            return ops.cos(ops.matmul(x, self.kernel) / self.scale_value + self.bias)

    return keras.Sequential([keras.Input((4,)), RandomFourierFeatures(24), layers.Dense(3)])


@model("SIREN, coordinates to a colour", "styles", normal(2))
def siren():
    """Sines with a factor."""
    x = inputs = keras.Input((2,))
    for factor in (3.0, 1.0):
        x = layers.Dense(12)(x)
        x = layers.Lambda(lambda t, w: ops.sin(w * t), arguments={"w": factor})(x)
    return keras.Model(inputs, layers.Dense(3, activation="sigmoid")(x))


@model("NeRF-like, positions in sines and cosines, skip", "styles", normal(3))
def nerf():
    """The encoding is joined again in the middle."""
    inputs = keras.Input((3,))
    encoded = [inputs]
    for i in range(3):
        encoded += [ops.sin(2.0**i * inputs), ops.cos(2.0**i * inputs)]
    encoded = ops.concatenate(encoded, axis=-1)
    x = encoded
    for i in range(4):
        x = layers.Dense(12, activation="relu")(x)
        if i == 1:
            x = ops.concatenate([x, encoded], axis=-1)
    rgb, sigma = ops.sigmoid(layers.Dense(3)(x)), ops.relu(layers.Dense(1)(x))
    return keras.Model(inputs, ops.concatenate([rgb, sigma], axis=-1))


@model("dueling Q network, centred advantages", "styles", normal(8))
def dueling():
    """Value plus advantage less its mean."""
    inputs = keras.Input((8,))
    x = layers.Dense(16, activation="relu")(inputs)
    value = layers.Dense(1)(layers.Dense(8, activation="relu")(x))
    advantage = layers.Dense(4)(layers.Dense(8, activation="relu")(x))
    centred = layers.Lambda(lambda a: a - ops.mean(a, axis=1, keepdims=True))(advantage)
    return keras.Model(inputs, layers.Add()([value, centred]))


@model("actor and critic, two outputs of a shared layer", "styles", normal(6), output="critic")
def actor_critic():
    """keras.io's cart pole."""
    inputs = layers.Input(shape=(6,))
    common = layers.Dense(16, activation="relu")(inputs)
    action = layers.Dense(2, activation="softmax", name="actor")(common)
    critic = layers.Dense(1, name="critic")(common)
    return keras.Model(inputs=inputs, outputs=[action, critic])
