"""Slow NumPy replicas of patterns and explanations, in float64, written from the formulas of Kindermans et al. 2017.

In: Keras layers, of which only weights and options are read, and arrays (channels last). Out: arrays. The tests compare
the library with them, so nothing here imports the library, and nothing here is fast: patches are extracted one by one,
units are visited one by one, and every mean is taken in two passes.

- patches: `extract_patches`, `scatter_patches` (its transpose), `linear_patches` (a layer as y = X @ w, unit by unit)
- values: `linear_value`, `normalize`
- patterns: `pattern` (one unit), `layer_pattern` (a layer), `layer_condition` (is the comparison well conditioned?)
- explanations of a chain of layers: `forward`, `explain`
- the comparison that all tests of patterns use: `assert_same_pattern`
"""

import itertools

import keras
import numpy as np

CONVOLUTIONS = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)
DEPTHWISE = (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)
AVERAGES = (keras.layers.AveragePooling1D, keras.layers.AveragePooling2D, keras.layers.AveragePooling3D)
GLOBAL_AVERAGES = (keras.layers.GlobalAveragePooling1D, keras.layers.GlobalAveragePooling2D)
VIRTUAL = (*AVERAGES, *GLOBAL_AVERAGES)  # linear per channel, with weights 1/n that are no variables
WITH_KERNEL = (keras.layers.Dense, *CONVOLUTIONS, *DEPTHWISE)

DENOMINATOR_FLOOR = 1e-3  # of var[y]; below it the linear pattern is used
TOLERANCE = 1e-5  # float32 sums against float64, relative to the layer's largest |pattern|


def assert_same_pattern(actual, expected, tolerance=TOLERANCE):
    """The one comparison of patterns: the largest difference, relative to the layer's largest entry."""
    assert actual.shape == expected.shape, f"shape {actual.shape}, expected {expected.shape}"
    assert np.all(np.isfinite(actual)), "not finite"
    difference = np.max(np.abs(actual - expected)) / max(np.max(np.abs(expected)), 1e-30)
    assert difference <= tolerance, f"the patterns differ by {difference:.2g}, allowed are {tolerance:.2g}"


# Patches -------------------------------------------------------------------------------------------------------------


def axis_sources(size, taps, stride, dilation, padding):
    """Return the input index that each (output, tap) of one axis reads, -1 outside: shape (outputs, taps)."""
    reach = (taps - 1) * dilation + 1
    if padding == "same":
        outputs = -(-size // stride)
        before = max((outputs - 1) * stride + reach - size, 0) // 2  # the odd one goes after
    else:
        before = {"valid": 0, "causal": reach - 1}[padding]
        outputs = (size + before - reach) // stride + 1
    sources = stride * np.arange(outputs)[:, None] + dilation * np.arange(taps) - before
    return np.where((sources >= 0) & (sources < size), sources, -1)


def window_sources(shape, kernel_size, strides, dilations, padding):
    """Return the shape of the positions, and all (position, tap, source) whose source lies inside."""
    options = zip(shape, kernel_size, strides, dilations, strict=True)
    axes = [axis_sources(*option, padding) for option in options]
    positions = tuple(len(axis) for axis in axes)
    triples = []
    for position in np.ndindex(*positions):
        for tap in np.ndindex(*kernel_size):
            source = tuple(int(axis[p, t]) for axis, p, t in zip(axes, position, tap, strict=True))
            if min(source, default=0) >= 0:
                triples.append((position, tap, source))
    return positions, triples


def extract_patches(x, kernel_size, strides, dilations, padding, outside=0.0):
    """Return patches of shape (batch, positions..., taps..., channels)."""
    x = np.asarray(x, np.float64)
    positions, triples = window_sources(x.shape[1:-1], kernel_size, strides, dilations, padding)
    patches = np.full((len(x), *positions, *kernel_size, x.shape[-1]), outside)
    for position, tap, source in triples:
        patches[(slice(None), *position, *tap)] = x[(slice(None), *source)]
    return patches


def scatter_patches(patches, shape, kernel_size, strides, dilations, padding):
    """Add patches back to where they were extracted from: the transpose of `extract_patches`; `shape` is x's."""
    x = np.zeros(shape)
    for position, tap, source in window_sources(shape[1:-1], kernel_size, strides, dilations, padding)[1]:
        x[(slice(None), *source)] += patches[(slice(None), *position, *tap)]
    return x


def geometry(layer, shape):
    """Return (kernel_size, strides, dilations, padding) of a layer on an input of this shape; Dense is 1x1."""
    ones = (1,) * (len(shape) - 2)
    if isinstance(layer, keras.layers.Dense):
        return ones, ones, ones, "valid"
    if isinstance(layer, GLOBAL_AVERAGES):
        return tuple(shape[1:-1]), ones, ones, "valid"
    if isinstance(layer, (*CONVOLUTIONS, *DEPTHWISE)):
        size, dilations = layer.kernel_size, layer.dilation_rate
    else:
        size, dilations = layer.pool_size, ones
    if isinstance(layer, AVERAGES) and layer.padding == "same":
        exact = all(n % k == 0 and k == s for n, k, s in zip(shape[1:-1], size, layer.strides, strict=True))
        if not exact:
            raise ValueError(f"{layer.name}: average pooling over padding is not replicated")
    return tuple(size), tuple(layer.strides), tuple(dilations), layer.padding


# A layer as y = X @ w, unit by unit ----------------------------------------------------------------------------------


def kernel_of(layer, shape):
    """Return a layer's kernel in Keras's layout; for layers without one (taps..., channels), or (addends, channels)."""
    if isinstance(layer, WITH_KERNEL):
        return layer.kernel.numpy().astype(np.float64)
    size = geometry(layer, shape)[0]
    return np.full((*size, shape[-1]), 1.0 / np.prod(size))


def linear_patches(layer, x):
    """Return [(X, w)], one pair a unit: X (samples, fan_in), w (fan_in,); samples are batch x output positions.

    `x` is an array; for Add it is a list of arrays of one shape.
    """
    if isinstance(layer, keras.layers.Add):
        channels = range(x[0].shape[-1])
        return [(np.stack([a[..., c].ravel() for a in x], axis=1), np.ones(len(x))) for c in channels]
    patches = extract_patches(x, *geometry(layer, x.shape))
    channels = x.shape[-1]
    taps = int(np.prod(geometry(layer, x.shape)[0]))
    patches = patches.reshape(-1, taps, channels)
    kernel = kernel_of(layer, x.shape)
    if isinstance(layer, (*DEPTHWISE, *VIRTUAL)):
        kernel = kernel.reshape(taps, channels, -1)
        units = itertools.product(range(channels), range(kernel.shape[-1]))
        return [(patches[:, :, c], kernel[:, c, m]) for c, m in units]
    return [unit_of_group(patches, kernel.reshape(taps, -1, kernel.shape[-1]), u) for u in range(kernel.shape[-1])]


def unit_of_group(patches, kernel, unit):
    """Return (X, w) of one unit of a dense layer or a convolution; it reads the channels of its own group."""
    width, units = kernel.shape[1:]
    groups = patches.shape[-1] // width
    first = unit // (units // groups) * width
    inputs = patches[:, :, first : first + width]
    return inputs.reshape(len(inputs), -1), kernel[:, :, unit].reshape(-1)


def scale_and_shift(batchnorm):
    """Return a BatchNormalization in inference as (scale, shift), each (channels,)."""
    variance = batchnorm.moving_variance.numpy().astype(np.float64)
    scale = 1.0 / np.sqrt(variance + batchnorm.epsilon)
    if batchnorm.scale:
        scale = scale * batchnorm.gamma.numpy()
    shift = -batchnorm.moving_mean.numpy() * scale
    return scale, shift + batchnorm.beta.numpy() if batchnorm.center else shift


def normalize(batchnorm, x):
    """Return what a BatchNormalization makes of x in inference."""
    scale, shift = scale_and_shift(batchnorm)
    return x * scale + shift


def bias_of(layer, units):
    """Return a layer's bias, zeros where it has none."""
    bias = getattr(layer, "bias", None)
    return np.zeros(units) if bias is None else bias.numpy().astype(np.float64)


def linear_units(layer, x, batchnorm=None):
    """Return [(X, w, b)], one a unit, with the BatchNormalization that follows fused into w and b."""
    pairs = linear_patches(layer, x)
    bias = bias_of(layer, len(pairs))
    if batchnorm is None:
        return [(inputs, weight, b) for (inputs, weight), b in zip(pairs, bias, strict=True)]
    scale, shift = scale_and_shift(batchnorm)
    return [(inputs, weight * s, b * s + t) for (inputs, weight), b, s, t in zip(pairs, bias, scale, shift, strict=True)]


def linear_value(layer, x, batchnorm=None):
    """Return w'x + b of all units, before any activation, in the layer's output shape."""
    columns = [inputs @ weight + b for inputs, weight, b in linear_units(layer, x, batchnorm)]
    shape = x[0].shape if isinstance(layer, keras.layers.Add) else x.shape
    if isinstance(layer, (keras.layers.Add, keras.layers.Dense)):
        positions = shape[1:-1]
    elif isinstance(layer, GLOBAL_AVERAGES):
        positions = ()
    else:
        positions = window_sources(shape[1:-1], *geometry(layer, shape))[0]
    return np.stack(columns, axis=-1).reshape(shape[0], *positions, len(columns))


# Patterns ------------------------------------------------------------------------------------------------------------


def regime_covariance(inputs, y, mask):
    """Return E+[x y] - E+[x] E[y]: E+ over the mask, but E[y] over all samples (as in the paper)."""
    return np.mean(inputs[mask] * (y[mask] - np.mean(y))[:, None], axis=0)


def linear_pattern(inputs, weight):
    """Return cov[x, y] / var[y], 0 where y never changes."""
    y = inputs @ weight
    deviation = y - np.mean(y)
    variance = np.mean(deviation**2)
    if variance == 0:
        return np.zeros_like(weight)
    return np.mean((inputs - np.mean(inputs, axis=0)) * deviation[:, None], axis=0) / variance


def pattern(inputs, weight, mask, estimator="relu"):
    """Return one unit's pattern (fan_in,); `mask` is the positive regime, and its complement the negative one."""
    if estimator == "filter":
        return weight / (weight @ weight)
    if estimator == "linear":
        return linear_pattern(inputs, weight)
    mask = {"relu": mask, "relu.negative": ~mask}[estimator]
    if not mask.any():
        return np.zeros_like(weight)
    y = inputs @ weight
    covariance = regime_covariance(inputs, y, mask)
    if weight @ covariance <= DENOMINATOR_FLOOR * np.var(y):
        return linear_pattern(inputs, weight)
    return covariance / (weight @ covariance)


def units_with_masks(layer, x, regime=None, batchnorm=None):
    """Yield (X, w, rectified) of each unit, where rectified > 0 is the positive regime; by default w'x + b."""
    for unit, (inputs, weight, b) in enumerate(linear_units(layer, x, batchnorm)):
        yield inputs, weight, inputs @ weight + b if regime is None else regime[..., unit].ravel()


def pattern_shape(layer, x):
    """Return the shape of a layer's pattern, that of its kernel: (addends, channels) for Add."""
    if isinstance(layer, keras.layers.Add):
        return (len(x), x[0].shape[-1])
    return kernel_of(layer, x.shape).shape


def layer_pattern(layer, x, estimator="relu", regime=None, batchnorm=None):
    """Return a layer's pattern in the layout of its kernel.

    `regime` has the layer's output shape: what the rectifier sees; only its sign counts (a boolean mask will do).
    With `batchnorm`, y is that of the fused kernel, w * gamma / sqrt(var + eps), and so is the default regime.
    """
    units = units_with_masks(layer, x, regime, batchnorm)
    columns = [pattern(inputs, weight, rectified > 0, estimator) for inputs, weight, rectified in units]
    return np.stack(columns, axis=-1).reshape(pattern_shape(layer, x))


def layer_condition(layer, x, estimator="relu", regime=None, batchnorm=None):
    """Return (ratios, margin): each unit's denominator over var[y] (NaN: never active), and the smallest |w'x + b|.

    A ratio near 1e-3, or a margin near float32's rounding, would make a comparison a matter of luck.
    """
    ratios, margins = [], []
    for inputs, weight, rectified in units_with_masks(layer, x, regime, batchnorm):
        mask = rectified <= 0 if estimator == "relu.negative" else rectified > 0
        y = inputs @ weight
        live = mask.any() and np.var(y) > 0
        ratios.append(weight @ regime_covariance(inputs, y, mask) / np.var(y) if live else np.nan)
        margins.append(np.abs(rectified).min())
    return np.array(ratios), min(margins)


# Explanations of a chain of layers -----------------------------------------------------------------------------------


def full_kernel(layer, kernel, channels):
    """Return a kernel of shape (taps..., channels, units), with zeros where groups or depthwise read nothing."""
    if isinstance(layer, DEPTHWISE):
        multiplier = kernel.shape[-1]
        full = np.zeros((*kernel.shape[:-1], channels * multiplier))
        for c, m in itertools.product(range(channels), range(multiplier)):
            full[..., c, c * multiplier + m] = kernel[..., c, m]
        return full
    width, units = kernel.shape[-2:]
    full = np.zeros((*kernel.shape[:-2], channels, units))
    for unit in range(units):
        first = unit // (units * width // channels) * width
        full[..., first : first + width, unit] = kernel[..., unit]
    return full


def fused_kernel(layer, batchnorm):
    """Return (kernel, bias) of a linear layer and the BatchNormalization after it (or None)."""
    kernel = layer.kernel.numpy().astype(np.float64)
    units = int(np.prod(kernel.shape[-2:])) if isinstance(layer, DEPTHWISE) else kernel.shape[-1]
    bias = bias_of(layer, units)
    if batchnorm is None:
        return kernel, bias
    scale, shift = scale_and_shift(batchnorm)
    tail = kernel.shape[-2:] if isinstance(layer, DEPTHWISE) else kernel.shape[-1:]
    return kernel * scale.reshape(tail), bias * scale + shift


def chain(model):
    """Return [(kind, layer, batchnorm)] of a chain of layers; the softmax at its end is left out."""
    steps = []
    for layer in model.layers:
        kind = type(layer).__name__
        name = getattr(getattr(layer, "activation", None), "__name__", "linear")
        if kind == "BatchNormalization":
            assert steps[-1][0] == "linear", f"{layer.name} does not follow a linear layer"
            steps[-1] = ("linear", steps[-1][1], layer)
        elif isinstance(layer, WITH_KERNEL):
            steps.append(("linear", layer, None))
        elif kind in ("ReLU", "MaxPooling2D", "Flatten"):
            steps.append((kind, layer, None))
        elif kind not in ("InputLayer", "Activation", "Softmax", "Dropout"):
            raise NotImplementedError(kind)
        if name == "relu":
            steps.append(("ReLU", layer, None))
        elif name != "linear" and layer is not model.layers[-1]:
            raise NotImplementedError(f"{layer.name}: activation {name}")
    return steps


def forward(model, x):
    """Return (steps, values): values[i] is what step i reads, values[-1] the logits."""
    steps, values = chain(model), [np.asarray(x, np.float64)]
    for kind, layer, batchnorm in steps:
        values.append(step_forward(kind, layer, batchnorm, values[-1]))
    return steps, values


def step_forward(kind, layer, batchnorm, x):
    if kind == "ReLU":
        return np.maximum(x, 0)
    if kind == "Flatten":
        return x.reshape(len(x), -1)
    axes = range(x.ndim - 1, 2 * x.ndim - 3)  # the taps
    if kind == "MaxPooling2D":
        return extract_patches(x, *geometry(layer, x.shape), outside=-np.inf).max(axis=tuple(axes))
    kernel, bias = fused_kernel(layer, batchnorm)
    options = geometry(layer, x.shape)
    full = full_kernel(layer, kernel, x.shape[-1]).reshape(*options[0], x.shape[-1], -1)
    return np.tensordot(extract_patches(x, *options), full, axes=len(axes) + 1) + bias


def step_backward(kind, layer, kernel, x, relevance):
    """Return the relevance at a step's input from that at its output; `kernel` replaces a linear layer's own."""
    if kind == "ReLU":
        return relevance * (x > 0)
    if kind == "Flatten":
        return relevance.reshape(x.shape)
    options = geometry(layer, x.shape)
    if kind == "MaxPooling2D":
        return scatter_patches(winners(x, options, relevance), x.shape, *options)
    full = full_kernel(layer, kernel, x.shape[-1]).reshape(*options[0], x.shape[-1], -1)
    patches = np.tensordot(relevance, full, axes=(-1, -1))
    return scatter_patches(patches, x.shape, *options)


def winners(x, options, relevance):
    """Return patches that hold each window's relevance at its first arg-max, 0 elsewhere."""
    patches = extract_patches(x, *options, outside=-np.inf)
    routed = np.zeros_like(patches)
    for index in np.ndindex(*relevance.shape):
        *where, channel = index
        window = patches[(*where, ..., channel)]
        tap = np.unravel_index(np.argmax(window), window.shape)
        routed[(*where, *tap, channel)] = relevance[index]
    return routed


def back_kernel(layer, batchnorm, patterns, method):
    kernel = fused_kernel(layer, batchnorm)[0]
    if method == "gradient":
        return kernel
    a = np.asarray(patterns[layer.name], np.float64)
    return {"pattern.net": a, "pattern.attribution": kernel * a}[method]


def explain(model, x, patterns, method, target=None):
    """Return the relevance of x by "gradient", "pattern.net" or "pattern.attribution".

    `patterns` maps layer names to arrays. The start value is 1 for the gradient, else the logit of the target
    (an int or one a sample; None is the largest logit).
    """
    steps, values = forward(model, x)
    logits = values[-1]
    target = np.argmax(logits, axis=-1) if target is None else np.broadcast_to(target, len(logits))
    rows = np.arange(len(logits))
    relevance = np.zeros_like(logits)
    relevance[rows, target] = 1.0 if method == "gradient" else logits[rows, target]
    for (kind, layer, batchnorm), value in zip(reversed(steps), reversed(values[:-1]), strict=True):
        kernel = back_kernel(layer, batchnorm, patterns, method) if kind == "linear" else None
        relevance = step_backward(kind, layer, kernel, value, relevance)
    return relevance
