"""DeepLIFT by the paper's formulas in float64, unit by unit: Shrikumar et al. 2017, sections 3.4 and 3.5.

In: a Functional Keras model of layers that are linear, move values, take maxima, or are functions of one value; samples and
a reference. Out: contributions, float64. Every linear layer is a matrix here, of what Keras makes of each unit vector.
"""

import math

import keras
import numpy as np
from keras import layers

NEAR = 1e-6
erf = np.vectorize(math.erf)
FUNCTIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "gelu": lambda x: x * (1 + erf(x / np.sqrt(2))) / 2,
    "silu": lambda x: x / (1 + np.exp(-x)),
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.2 * x),
}
MOVING = (layers.Flatten, layers.Reshape, layers.Concatenate, layers.Permute)


def slope(function, x):
    """The derivative, by a central difference."""
    return (function(x + 1e-6) - function(x - 1e-6)) / 2e-6


def secant(rise, run, size, derivative):
    """rise / run, or the derivative where run is but rounding."""
    near = np.abs(run) <= NEAR * size
    return np.where(near, derivative, rise / np.where(near, 1, run))


def split(delta):
    return np.maximum(delta, 0), np.minimum(delta, 0)


def by_sign(sign, above, below):
    """One where a sign is positive, the other where it is negative, the mean of both where it is 0 (section 3.5.1)."""
    return np.where(sign > 0, above, np.where(sign < 0, below, (above + below) / 2))


class Linear:
    """y = W x + b: sections 3.5.1."""

    def __init__(self, matrices, bias):
        self.matrices, self.bias = matrices, bias

    def forward(self, inputs):
        return sum(x @ matrix for x, matrix in zip(inputs, self.matrices, strict=True)) + self.bias

    def parts(self, now, then, pairs):
        up = down = 0
        for x, x0, matrix in zip(now, then, self.matrices, strict=True):
            each = (x - x0)[:, :, None] * matrix
            up, down = up + np.maximum(each, 0).sum(1), down + np.minimum(each, 0).sum(1)
        return up, down

    def back(self, now, then, pairs, above, below):
        found = []
        for x, x0, matrix in zip(now, then, self.matrices, strict=True):
            sign = np.sign((x - x0)[:, :, None] * matrix)
            each = (matrix * by_sign(sign, above[:, None], below[:, None])).sum(2)
            found.append((each, each))
        return found


class Moved(Linear):
    """Values at other places: pairs move with them."""

    def parts(self, now, then, pairs):
        return tuple(sum(pair[k] @ m for pair, m in zip(pairs, self.matrices, strict=True)) for k in (0, 1))

    def back(self, now, then, pairs, above, below):
        return [(above @ matrix.T, below @ matrix.T) for matrix in self.matrices]


class Function:
    """y = f(x): sections 3.5.2 (Rescale) and 3.5.3 (RevealCancel)."""

    def __init__(self, function, rule):
        self.function, self.rule = function, rule

    def forward(self, inputs):
        return self.function(inputs[0])

    def parts(self, now, then, pairs):
        f, x0, (up, down) = self.function, then[0], pairs[0]
        if self.rule == "rescale":
            m = secant(f(now[0]) - f(x0), now[0] - x0, np.abs(now[0]) + np.abs(x0), slope(f, now[0]))
            return m * up, m * down
        rise = (f(x0 + up) - f(x0)) / 2 + (f(x0 + down + up) - f(x0 + down)) / 2
        fall = (f(x0 + down) - f(x0)) / 2 + (f(x0 + up + down) - f(x0 + up)) / 2
        return rise, fall

    def back(self, now, then, pairs, above, below):
        (x,), (x0,), (up, down) = now, then, pairs[0]
        size, derivative = np.abs(x) + np.abs(x0), slope(self.function, x)
        if self.rule == "rescale":
            m = secant(self.function(x) - self.function(x0), x - x0, size, derivative)
            return [(m * above, m * below)]
        rise, fall = self.parts(now, then, pairs)
        return [(secant(rise, up, size, derivative) * above, secant(fall, down, size, derivative) * below)]


class Maximum:
    """y = max of windows: a gain is due to the winner of the sample, a loss to that of the reference."""

    def __init__(self, windows):
        self.windows = windows

    def forward(self, inputs):
        return np.stack([inputs[0][:, window].max(1) for window in self.windows], axis=1)

    def parts(self, now, then, pairs):
        return split(self.forward(now) - self.forward(then))

    def back(self, now, then, pairs, above, below):
        (x,), (x0,) = now, then
        x0 = np.broadcast_to(x0, x.shape)
        found = np.zeros(x.shape)
        for unit, window in enumerate(self.windows):
            for row in range(len(x)):
                rise = x[row, window].max() - x0[row, window].max()
                winner = window[(x if rise > 0 else x0)[row, window].argmax()]
                if rise:
                    m = (above if rise > 0 else below)[row, unit]
                    found[row, winner] += m * rise / (x[row, winner] - x0[row, winner])
        return [(found, found)]


def matrix_of(layer, place, shapes):
    """What a layer makes of each unit vector of one of its inputs, less what it makes of zeros."""
    size = int(np.prod(shapes[place]))
    given = [np.zeros((size, *shape), "float32") for shape in shapes]
    given[place] = np.eye(size, dtype="float32").reshape(size, *shapes[place])
    nothing = [np.zeros((1, *shape), "float32") for shape in shapes]
    ask = lambda arrays: np.asarray(layer(arrays if len(arrays) > 1 else arrays[0]), "float64")  # noqa: E731
    at_zero = ask(nothing).reshape(1, -1)
    return ask(given).reshape(size, -1) - at_zero, at_zero[0]


def windows_of(layer, shape):
    """The places of each window of a pooling layer without padding, in the order of its outputs."""
    places = np.arange(np.prod(shape)).reshape(shape)
    if isinstance(layer, layers.GlobalMaxPooling1D | layers.GlobalMaxPooling2D):
        return [places[..., channel].reshape(-1) for channel in range(shape[-1])]
    (rows, columns), (down, right) = layer.pool_size, layer.strides
    corners = [(i, j) for i in range(0, shape[0] - rows + 1, down) for j in range(0, shape[1] - columns + 1, right)]
    return [places[i : i + rows, j : j + columns, c].reshape(-1) for i, j in corners for c in range(shape[2])]


def operations_of(layer, rule):
    """What a layer does, one after the other."""
    taken = layer.input if isinstance(layer.input, list) else [layer.input]
    shapes = [tuple(tensor.shape[1:]) for tensor in taken]
    name = type(layer).__name__
    if "MaxPooling" in name:
        return [Maximum(windows_of(layer, shapes[0]))]
    if isinstance(layer, layers.Activation | layers.ReLU | layers.LeakyReLU | layers.ELU):
        word = layer.activation.__name__ if isinstance(layer, layers.Activation) else FUNCTION_OF[name]
        return [Function(FUNCTIONS[word], rule)]
    activation = getattr(layer, "activation", keras.activations.linear)
    if activation is not keras.activations.linear:
        layer.activation = keras.activations.linear
    try:
        found = [matrix_of(layer, place, shapes) for place in range(len(shapes))]
    finally:
        if activation is not keras.activations.linear:
            layer.activation = activation
    made = (Moved if isinstance(layer, MOVING) else Linear)([matrix for matrix, _ in found], found[0][1])
    return [made, *([Function(FUNCTIONS[activation.__name__], rule)] if activation is not keras.activations.linear else [])]


FUNCTION_OF = {"ReLU": "relu", "LeakyReLU": "leaky_relu", "ELU": "elu"}


def deeplift(model, x, reference, weights, rule="rescale"):
    """Contributions of a model's only input.

    Args:
        model: a Functional model that ends at its logits.
        x: (samples, ...).
        reference: of one sample's shape.
        weights: (samples, outputs), of the logits.
        rule: "rescale" or "reveal_cancel".
    """
    flat = lambda array: np.asarray(array, "float64").reshape(len(array), -1)  # noqa: E731
    now, then = flat(x), flat(np.broadcast_to(reference, (1, *x.shape[1:])))
    values = {id(model.inputs[0]): (now, then, split(now - then))}
    trail = []
    for layer in model.layers:
        if isinstance(layer, layers.InputLayer):
            continue
        taken = layer.input if isinstance(layer.input, list) else [layer.input]
        keys = [id(tensor) for tensor in taken]
        for number, operation in enumerate(operations := operations_of(layer, rule)):
            now, then, pairs = zip(*(values[key] for key in keys), strict=True)
            made = operation.forward(now), operation.forward(then), operation.parts(now, then, pairs)
            key = id(layer.output) if number == len(operations) - 1 else (layer.name, number)
            values[key] = made
            trail.append((operation, keys, key))
            keys = [key]
    multipliers = {id(model.outputs[0]): (weights, weights)}
    for operation, keys, key in reversed(trail):
        now, then, pairs = zip(*(values[one] for one in keys), strict=True)
        for one, (above, below) in zip(keys, operation.back(now, then, pairs, *multipliers[key]), strict=True):
            before = multipliers.get(one, (0, 0))
            multipliers[one] = before[0] + above, before[1] + below
    above, below = multipliers[id(model.inputs[0])]
    up, down = values[id(model.inputs[0])][2]
    return (above * up + below * down).reshape(x.shape)
