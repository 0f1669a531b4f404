"""Slow NumPy replicas of the rules of LRP, in float64, from the papers' formulas, on a layer's dense matrix.

In: float64 Keras layers with the channels last, of which nothing but their values at unit vectors is used, and arrays.
Out: arrays. Nothing here imports the library. A rule is a function of one unit: how it shares out its relevance.

- `linear_map`: a chain of layers without activations as `x @ matrix + bias`
- `SHARES`: class name of a rule -> its share
- `relevance`: the relevance of the inputs
"""

import dataclasses

import keras
import numpy as np

TOLERANCE = 1e-6  # float64 against float64, relative to a sample's largest entry


@dataclasses.dataclass(frozen=True)
class Map:
    """A linear map of flat inputs to flat outputs.

    Attributes:
        matrix: shape (inputs, outputs).
        bias: shape (outputs,).
        sight: 1 where a unit sees an input, whatever its weight; shape (inputs, outputs).
        input_shape: the shape of a sample, the channels last.
        output_shape: likewise.
    """

    matrix: np.ndarray
    bias: np.ndarray
    sight: np.ndarray
    input_shape: tuple
    output_shape: tuple


def linear_map(chain, shape):
    """Reads a `Map` off a chain of layers, by feeding it the unit vectors."""
    matrix, bias, output_shape = _read(chain, shape)
    sight = _read([_all_ones(chain[0], shape)], shape)[0]
    return Map(matrix, bias, (sight > 0).astype(float), shape, output_shape)


def _read(chain, shape):
    size = int(np.prod(shape))
    samples = np.concatenate([np.zeros((1, size)), np.eye(size)]).reshape(-1, *shape)
    for layer in chain:
        samples = keras.ops.convert_to_numpy(layer(samples))
    assert samples.dtype == np.float64
    flat = samples.reshape(size + 1, -1)
    return flat[1:] - flat[0], flat[0], samples.shape[1:]


def _all_ones(layer, shape):
    """The layer with kernels of ones and without bias: its values count the taps through which a unit sees an input."""
    twin = type(layer).from_config(layer.get_config())
    twin.build((None, *shape))
    for variable in twin.weights:
        variable.assign(np.full(variable.shape, float("kernel" in variable.name)))
    return twin


def relevance(rule, options, linear, x, arrived):
    """The relevance of the inputs, unit by unit.

    Args:
        rule: the class name of a rule.
        options: the rule's fields, a dict.
        linear: a `Map`.
        x: samples, the channels last.
        arrived: the relevance of the outputs, in their shape.
    """
    flat, arrived = (np.asarray(array, np.float64).reshape(len(x), -1) for array in (x, arrived))
    handed_on = np.zeros_like(flat)
    for unit in range(arrived.shape[1]):
        weights, bias, sees = linear.matrix[:, unit], linear.bias[unit], linear.sight[:, unit]
        if rule in ("WSquare", "Flat"):
            share = SHARES[rule](weights if rule == "WSquare" else sees)
        elif rule == "Box":
            bounds = [np.broadcast_to(options[name], linear.input_shape).ravel() for name in ("low", "high")]
            share = SHARES[rule](flat, weights, *bounds)
        else:
            share = SHARES[rule](flat, weights, bias, **options)
        handed_on += share * arrived[:, unit, None]
    return handed_on.reshape(np.shape(x))


def divided(numerator, denominator):
    """0 where the denominator is 0."""
    denominator = np.asarray(denominator)[..., None]
    return np.divide(numerator, denominator, out=np.zeros(np.shape(numerator)), where=denominator != 0)


# One unit's shares: x (samples, inputs), w (inputs,), b a number -> (samples, inputs) ---------------------------------


def zero(x, w, b, bias):
    return divided(x * w, x @ w + bias * b)


def epsilon(x, w, b, epsilon, bias, bias_factor):
    z = x @ w + bias * b
    rest = bias * b + epsilon * np.where(z >= 0, 1, -1)
    # Of a kernel without zeros, at places without padding: what the unit takes.
    equal = (w != 0) * bias_factor / max(np.count_nonzero(w), 1)
    return divided(x * w + np.outer(rest, equal), x @ w + rest)


def gamma(x, w, b, gamma, bias):
    c, b = x * w, bias * b
    # Row by row: which contributions count more depends on the sign of their sum.
    sign = np.where(c.sum(1) + b >= 0, 1, -1)
    c = c + gamma * np.where(np.sign(c) == sign[:, None], c, 0)
    return divided(c, c.sum(1) + b + gamma * np.where(np.sign(b) == sign, b, 0))


def alpha_beta(x, w, b, alpha, beta, bias):
    positive, negative = np.maximum(x * w, 0), np.minimum(x * w, 0)
    above, below = {"split": (max(b, 0), min(b, 0)), "shared": (b, b), "ignore": (0, 0)}[bias]
    return alpha * divided(positive, positive.sum(1) + above) - beta * divided(negative, negative.sum(1) + below)


def z_plus(x, w, b, fast):
    positive = x * np.maximum(w, 0) if fast else np.maximum(x * w, 0)
    return divided(positive, positive.sum(1))


def w_square(w):
    return divided(w**2, np.sum(w**2))


def flat(sees):
    return divided(sees, np.sum(sees))


def box(x, w, low, high):
    z = x * w - low * np.maximum(w, 0) - high * np.minimum(w, 0)
    return divided(z, z.sum(1))


SHARES = {
    "Zero": zero,
    "Epsilon": epsilon,
    "Gamma": gamma,
    "AlphaBeta": alpha_beta,
    "ZPlus": z_plus,
    "WSquare": w_square,
    "Flat": flat,
    "Box": box,
}
