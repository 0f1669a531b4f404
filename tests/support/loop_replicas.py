"""Slow replicas of the methods that ask a model many times, from the papers' formulas: one question after the other.

In: a case of `models` and arrays. Out: float64 arrays. Nothing here imports the library.

- `from_points`: a model as a function of what can be altered: its inputs, for tokens what they are embedded as
- `weights_for`: a target as weights on the logits
- `gradient`: an eager tape
- `integrated`: integrated gradients; `quadrature`: the places on the path
- `occluded`: occlusion
- `assert_saved`: for the tests
"""

import itertools

import keras
import models
import numpy as np
import tensorflow as tf

TEXTS = ("text", "masked_text")


def from_points(name):
    """`(function, points)`: the logits of `models.case(name)` as a function of a list of tensors, and their values."""
    case = models.case(name)
    if name not in TEXTS:
        return lambda tensors: case.logits(keras.tree.pack_sequence_as(case.x, tensors)), keras.tree.flatten(case.x)

    def tail(tensors):
        (value,) = tensors
        if name == "masked_text":
            value._keras_mask = tf.constant(case.x != 0)
        for layer in case.logits.layers[2:]:
            value = layer(value)
        return value

    return tail, [case.logits.get_layer("embedding")(case.x).numpy()]


def folded(name, found):
    """From points to inputs: a token's attribution is the sum over its embedding."""
    return [array.sum(axis=-1) for array in found] if name in TEXTS else found


def logits_at(function, points):
    """The logits at points, float64."""
    return np.asarray(function([tf.constant(point, tf.float32) for point in points]), "float64")


def weights_for(logits, target=None):
    """Weights on the logits, as `analyze` promises them; None: one for the largest of each row."""
    if target is None:
        target = np.argmax(logits, axis=-1)
    if isinstance(target, str):
        return np.ones(logits.shape)
    if np.ndim(target) < 2:
        return np.eye(logits.shape[-1])[np.broadcast_to(target, len(logits))]
    return np.asarray(target, "float64")


def gradient(function, points, weights):
    """The gradient of the weighted logits at each point, float64."""
    tensors = [tf.constant(point, tf.float32) for point in points]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        total = tf.reduce_sum(function(tensors) * tf.constant(weights, tf.float32))
    return [g.numpy().astype("float64") for g in tape.gradient(total, tensors)]


def quadrature(rule, steps):
    """`(place, share)` pairs on [0, 1]; Gauss and Legendre's as the eigenvalues of Golub and Welsch's matrix."""
    if rule == "left":
        return [(step / steps, 1 / steps) for step in range(steps)]
    if rule == "trapezoid":
        inside = [(step / (steps - 1), 1 / (steps - 1)) for step in range(1, steps - 1)]
        return [(0.0, 0.5 / (steps - 1)), *inside, (1.0, 0.5 / (steps - 1))]
    degrees = np.arange(1, steps)
    beside = degrees / np.sqrt(4.0 * degrees**2 - 1)
    places, vectors = np.linalg.eigh(np.diag(beside, 1) + np.diag(beside, -1))
    return list(zip((places + 1) / 2, vectors[0] ** 2, strict=True))


def integrated(function, points, references, weights, rule, steps):
    """Integrated gradients at each point, one place on the path after the other."""
    totals = [np.zeros(point.shape) for point in points]
    for place, share in quadrature(rule, steps):
        there = [x0 + place * (x - x0) for x, x0 in zip(points, references, strict=True)]
        totals = [t + share * g for t, g in zip(totals, gradient(function, there, weights), strict=True)]
    return [(x - x0) * t for x, x0, t in zip(points, references, totals, strict=True)]


def occluded(score, x, axes, window, stride, fill=0.0):
    """Occlusion of one array: the mean fall of `score` over the windows that hide a position.

    Args:
        score: a function from an array like `x` to a number per sample.
        x: samples first.
        axes: the axes of positions; the only other one holds channels, which share evenly.
        window: the size along each axis.
        stride: likewise.
        fill: what hidden values become.
    """
    starts = []
    for axis, extent, step in zip(axes, window, stride, strict=True):
        along = list(range(0, x.shape[axis] - extent + 1, step))
        starts.append(along if along[-1] + extent == x.shape[axis] else [*along, x.shape[axis] - extent])
    heat, count, clean = np.zeros(x.shape), np.zeros(x.shape[1:]), score(x)
    for corner in itertools.product(*starts):
        where = [slice(None)] * x.ndim
        for axis, start, extent in zip(axes, corner, window, strict=True):
            where[axis] = slice(start, start + extent)
        hidden = x.copy()
        hidden[tuple(where)] = fill
        fall = clean - score(hidden)
        heat[tuple(where)] += fall.reshape(-1, *[1] * (x.ndim - 1))
        count[tuple(where[1:])] += 1
    channels = np.prod([x.shape[axis] for axis in range(1, x.ndim) if axis not in axes])
    return heat / np.maximum(count, 1) / channels


def assert_saved(analyzer, x, folder):
    """A file gives the same values bit for bit; called on tensors, for a compilation takes longer."""
    analyzer.save(folder / "analyzer.keras")
    loaded = keras.saving.load_model(folder / "analyzer.keras")
    assert type(loaded) is type(analyzer)
    for one, two in zip(keras.tree.flatten(loaded(x)), keras.tree.flatten(analyzer(x)), strict=True):
        np.testing.assert_array_equal(one, two)
