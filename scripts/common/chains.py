"""A chain of layers in float64, by NumPy alone: values, explanations from given values, and the sums of a fit.

What comes in is told as JSON (`described`, the only function that wants Keras): a list of layers, each a dict of its `kind`
("linear", "relu", "pool", "flat"), a linear one with `name`, `kernel`, `bias`, `strides` and `pads`. Convolutions are taken
tap by tap, as matrix products. A sweep backwards takes the values that a float32 program had, in float64: which rectifiers
are open and which of a window is the largest is then that program's choice, and all else is exact.
"""

import numpy as np

SUMS = ("count", "sum_y", "active", "sum_x", "sum_xy", "active_xy", "active_x")
"""Of a linear layer, as `LayerStatistics` names them; those that are the same in one batch are there once."""


def described(model):
    """The layers of a Sequential-like Keras model, without its softmax: a list of dicts, arrays in them."""
    layers = []
    for layer in model.layers:
        kind = type(layer).__name__
        if kind in ("Conv2D", "Dense"):
            layers += _linear(layer)
        elif kind == "MaxPooling2D":
            if layer.pool_size != layer.strides or layer.padding != "valid":
                raise ValueError(f"{layer.name}: windows that overlap or reach beyond the image")
            layers.append({"kind": "pool", "sizes": list(layer.pool_size)})
        elif kind == "Flatten":
            layers.append({"kind": "flat"})
        elif kind not in ("InputLayer", "Dropout"):
            raise ValueError(f"{layer.name}: {kind} is none of a chain's")
    return layers


def _linear(layer):
    name = layer.activation.__name__
    if name not in ("linear", "relu", "softmax"):
        raise ValueError(f"{layer.name}: the activation {name}")
    options = {"strides": [1, 1], "pads": [[0, 0], [0, 0]]}
    kernel = np.asarray(layer.kernel)
    if kernel.ndim == 4:
        plain = layer.groups == 1 and tuple(layer.dilation_rate) == (1, 1)
        if not plain or (layer.padding == "same" and tuple(layer.strides) != (1, 1)):
            raise ValueError(f"{layer.name}: groups, dilation, or strides over padded values")
        sizes = kernel.shape[:2] if layer.padding == "same" else (1, 1)
        options = {"strides": list(layer.strides), "pads": [[(n - 1) // 2, n // 2] for n in sizes]}
    linear = {"kind": "linear", "name": layer.name, "kernel": kernel, "bias": np.asarray(layer.bias), **options}
    return [linear, *([{"kind": "relu"}] if name == "relu" else [])]


def values(layers, x):
    """What each linear layer gives, in float64: a list of arrays, the last the logits."""
    found, value = [], np.float64(x)
    for layer in layers:
        if layer["kind"] == "linear":
            value = _applied(layer, value, layer["kernel"]) + layer["bias"]
            found.append(value)
        else:
            value = _passed(layer, value)
    return found


def explained(layers, x, given, method, patterns=None):
    """The explanation of the largest logits, in float64, at given values.

    Args:
        layers: as `described`.
        x: the input.
        given: what each linear layer gave, a list.
        method: "gradient", "pattern.net", "pattern.attribution" or "lrp.epsilon".
        patterns: linear layer's name -> its pattern.

    Returns:
        float64, in the shape of `x`.
    """
    given = [np.float64(value) for value in given]
    logits = given[-1]
    largest = logits == logits.max(1, keepdims=True)
    start = {"gradient": 1.0, "pattern.attribution": logits - logits.mean(1, keepdims=True)}
    relevance = largest * start.get(method, logits)
    for layer, inputs, output in reversed(_at(layers, x, given)):
        if layer["kind"] == "linear":
            relevance = _back_linear(layer, inputs, output, relevance, method, patterns)
        elif layer["kind"] == "relu":
            relevance = relevance * (inputs > 0)
        elif layer["kind"] == "pool":
            relevance = _back_pool(layer, inputs, relevance)
        else:
            relevance = relevance.reshape(inputs.shape)
    return relevance


def _back_linear(layer, inputs, output, relevance, method, patterns):
    kernel = np.float64(layer["kernel"])
    if method == "lrp.epsilon":
        stabilized = output + 1e-7 * np.where(output < 0, -1.0, 1.0)
        return inputs * _back(layer, inputs.shape, kernel, relevance / stabilized)
    if method != "gradient":
        pattern = np.float64(patterns[layer["name"]])
        kernel = pattern if method == "pattern.net" else kernel * pattern
    return _back(layer, inputs.shape, kernel, relevance)


def differing(layers, x, given, others):
    """How many choices differ between two sets of values: `(rectifiers, windows)`, windows whose largest lies elsewhere."""
    rectifiers = windows = 0
    for (layer, mine, largest), (_, theirs, other) in zip(_at(layers, x, given), _at(layers, x, others), strict=True):
        if layer["kind"] == "relu":
            rectifiers += np.count_nonzero((mine > 0) != (theirs > 0))
        elif layer["kind"] == "pool":
            parts = _windows(layer, mine)
            moved = [(mine[part] == largest) != (theirs[part] == other) for part in parts]
            # Of a window without any value above 0 nothing goes back.
            windows += np.count_nonzero(np.any(moved, axis=0) & (largest > 0) & (other > 0))
    return rectifiers, windows


def sums(layers, x, given):
    """What a batch adds to a fit's sums around 0, in float64, at given values.

    Returns:
        A generator of `(layer's name, name of a sum, array, terms)`, one after the other: they are as large as the
        kernels. `terms`: how many numbers each is the sum of.
    """
    for layer, inputs, output in _at(layers, x, given):
        if layer["kind"] != "linear":
            continue
        y, active = output - layer["bias"], np.float64(output > 0)
        ones, axes = np.ones_like(y[..., :1]), tuple(range(y.ndim - 1))
        for kind, one in (("count", ones.sum()), ("sum_y", y.sum(axes)), ("active", active.sum(axes))):
            yield layer["name"], kind, one, ones.size
        for kind, factor in (("sum_x", ones), ("sum_xy", y), ("active_xy", active * y), ("active_x", active)):
            yield layer["name"], kind, _products(layer, inputs, factor), ones.size


def _at(layers, x, given):
    """`(layer, inputs, output)` of each layer, at the given values of linear layers."""
    found, value, given = [], np.float64(x), iter(given)
    for layer in layers:
        output = np.float64(next(given)) if layer["kind"] == "linear" else _passed(layer, value)
        found.append((layer, value, output))
        value = output
    return found


def _passed(layer, value):
    if layer["kind"] == "relu":
        return np.maximum(value, 0)
    if layer["kind"] == "flat":
        return value.reshape(len(value), -1)
    return np.max([value[part] for part in _windows(layer, value)], axis=0)


def _windows(layer, value):
    """For each place in a window, what lies there in all windows, as indices."""
    (height, width), (rows, columns) = layer["sizes"], value.shape[1:3]
    ends = rows // height * height, columns // width * width
    return [np.s_[:, i : ends[0] : height, j : ends[1] : width] for i in range(height) for j in range(width)]


def _back_pool(layer, inputs, relevance):
    """To the first of the largest of each window, as TensorFlow and XLA have it."""
    back, largest = np.zeros_like(inputs), _passed(layer, inputs)
    free = np.ones(largest.shape, bool)
    for part in _windows(layer, inputs):
        here = free & (inputs[part] == largest)
        back[part] = here * relevance
        free &= ~here
    return back


def _applied(layer, value, kernel):
    kernel = np.float64(kernel)
    if kernel.ndim == 2:
        return value @ kernel
    padded = _padded(layer, value)
    return sum(padded[part] @ kernel[tap] for tap, part in _taps(layer, padded))


def _back(layer, shape, kernel, relevance):
    """The transpose of `_applied`."""
    if kernel.ndim == 2:
        return relevance @ kernel.T
    padded = _padded(layer, np.zeros(shape))
    for tap, part in _taps(layer, padded):
        padded[part] += relevance @ kernel[tap].T
    (top, _), (left, _) = layer["pads"]
    return padded[:, top : top + shape[1], left : left + shape[2]]


def _products(layer, inputs, y):
    """The sum over positions of x y', in the shape of the kernel; with one y for all units, of one unit."""
    if inputs.ndim == 2:
        return inputs.T @ y
    padded = _padded(layer, inputs)
    flat = y.reshape(-1, y.shape[-1])
    found = [padded[part].reshape(-1, inputs.shape[-1]).T @ flat for _, part in _taps(layer, padded)]
    return np.reshape(found, (*layer["kernel"].shape[:2], *found[0].shape))


def _padded(layer, value):
    return np.pad(value, ((0, 0), *layer["pads"], (0, 0)))


def _taps(layer, padded):
    """`(tap, part)`: what each position sees at a tap of the kernel, as indices."""
    sizes, strides = layer["kernel"].shape[:2], layer["strides"]
    counts = [(n - k) // s + 1 for n, k, s in zip(padded.shape[1:3], sizes, strides, strict=True)]
    for tap in np.ndindex(*sizes):
        rows = [slice(t, t + (n - 1) * s + 1, s) for t, n, s in zip(tap, counts, strides, strict=True)]
        yield tap, (slice(None), *rows)
