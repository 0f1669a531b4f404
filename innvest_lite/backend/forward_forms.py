"""TensorFlow's gradient kernels (ReluGrad, MaxPoolGrad, the convolutions' BackpropInput) as forward operations.

LiteRT and ONNX have no others. `FORWARD_FORMS` maps the type of an operation to a function that takes the operation (for
its attributes and shapes) and its inputs as tensors, and returns its outputs, or None where its shapes are too open or its
options have no such form. Called by `portable`.
"""

import functools
import math

import numpy as np
import tensorflow as tf


def _alike(of):
    """A gradient that is a formula of its two arguments."""
    return lambda operation, first, second: [of(first, second)]


def _relu6(gradient, x):
    return tf.where(tf.logical_and(x > 0, x < 6), gradient, tf.zeros_like(gradient))


def _elu(gradient, y):
    return tf.where(y < 0, gradient * (y + 1), gradient)


# The constants of the scaled exponential linear unit (Klambauer et al. 2017, arXiv 1706.02515).
_SELU_SCALE, _SELU_ALPHA = 1.0507009873554805, 1.6732632423543772


def _selu(gradient, y):
    return gradient * tf.where(y < 0, y + _SELU_SCALE * _SELU_ALPHA, tf.ones_like(y) * _SELU_SCALE)


def _leaky(operation, gradient, x):
    return [tf.where(x > 0, gradient, gradient * operation.get_attr("alpha"))]


def _quotient(operation, x, y):
    nothing = tf.equal(y, 0)
    return [tf.where(nothing, tf.zeros_like(x / y), x / tf.where(nothing, tf.ones_like(y), y))]


def _max_pool(operation, x, y, gradient):
    """To the first of the largest of each window, as TensorFlow has it."""
    window = _Window.of_pooling(operation, operation.inputs[0].shape)
    if window is None:
        return None
    padded = window.padded(x, x.dtype.min)
    taken, total = tf.zeros_like(gradient, tf.bool), None
    for tap in window.taps():
        here = tf.logical_and(tf.equal(window.at(padded, tap), y), tf.logical_not(taken))
        taken = tf.logical_or(taken, here)
        total = _plus(total, window.back(tf.where(here, gradient, tf.zeros_like(gradient)), tap))
    return [window.cut(total)]


def _average_pool(operation, shape, gradient):
    window = _Window.of_pooling(operation, operation.outputs[0].shape)
    if window is None:
        return None
    ones = np.pad(np.ones((1, *window.sizes, 1), "float32"), window.pads())
    count = sum(ones[window.slices(tap)] for tap in window.taps())
    share, total = gradient / tf.constant(count, gradient.dtype), None
    for tap in window.taps():
        total = _plus(total, window.back(share, tap))
    return [window.cut(total)]


def _plus(total, more):
    return more if total is None else total + more


class _Window:
    """A sliding window over two axes of (batch, height, width, channels), with what is padded and how it strides."""

    def __init__(self, sizes, extents, strides, padding):
        self.sizes, self.extents, self.strides = sizes, extents, strides
        self.before, self.counts = zip(*map(functools.partial(_placed, padding), sizes, extents, strides), strict=True)
        # Large enough for every window to lie inside, in whole strides.
        self.spans = [
            max(size + before, (count - 1) * stride + extent)
            for size, before, count, stride, extent in zip(sizes, self.before, self.counts, strides, extents, strict=True)
        ]

    @classmethod
    def of_pooling(cls, operation, shape):
        """The window of a pooling operation over values of this shape; None where that is too open."""
        sizes, extents, strides = shape[1:3], operation.get_attr("ksize"), operation.get_attr("strides")
        padding = operation.get_attr("padding").decode()
        plain = operation.get_attr("data_format") == b"NHWC" and extents[3] == 1 and padding in ("SAME", "VALID")
        if not plain or None in shape[1:]:
            return None
        return cls(tuple(sizes), extents[1:3], strides[1:3], padding)

    def pads(self):
        rows = [(b, span - size - b) for b, span, size in zip(self.before, self.spans, self.sizes, strict=True)]
        return [(0, 0), *rows, (0, 0)]

    def padded(self, x, value):
        return tf.pad(x, self.pads(), constant_values=value)

    def taps(self):
        return list(np.ndindex(*self.extents))

    def slices(self, tap):
        rows = [
            slice(start, start + (count - 1) * stride + 1, stride)
            for start, count, stride in zip(tap, self.counts, self.strides, strict=True)
        ]
        return (slice(None), *rows, slice(None))

    def at(self, padded, tap):
        """What each window has at one of its places."""
        return padded[self.slices(tap)]

    def back(self, values, tap):
        """Values of windows at the place that they were taken from, zeros elsewhere: the transpose of `at`."""
        for axis, (start, stride, span) in enumerate(zip(tap, self.strides, self.spans, strict=True), 1):
            values = _spread(values, axis, stride)
            values = _fitted(values, axis, start, span - start - values.shape[axis])
        return values

    def cut(self, padded):
        (top, left), (height, width) = self.before, self.sizes
        return padded[:, top : top + height, left : left + width]


def _placed(padding, size, extent, stride):
    """`(before, count)`: how much is padded before, and how many windows there are."""
    if padding == "VALID":
        return 0, (size - extent) // stride + 1
    count = math.ceil(size / stride)
    return max((count - 1) * stride + extent - size, 0) // 2, count


def _spread(x, axis, stride):
    """Puts `stride - 1` zeros behind each place of an axis; at most one axis is open."""
    if stride == 1:
        return x
    sizes = [-1 if size is None else size for size in x.shape]
    before, behind = (-1 if -1 in part else math.prod(part) for part in (sizes[: axis + 1], sizes[axis + 1 :]))
    # Three axes, since LiteRT pads no more than five.
    rows = tf.pad(tf.reshape(x, (before, 1, behind)), ((0, 0), (0, stride - 1), (0, 0)))
    sizes[axis] *= stride
    return tf.reshape(rows, sizes)


def _fitted(x, axis, before, after):
    """Zeros before and behind along an axis; a negative number cuts so many off."""
    pads = [(0, 0)] * len(x.shape)
    pads[axis] = (max(before, 0), max(after, 0))
    x = tf.pad(x, pads) if any(pads[axis]) else x
    rows = [slice(None)] * len(x.shape)
    rows[axis] = slice(max(-before, 0), x.shape[axis] - max(-after, 0))
    return x[tuple(rows)] if before < 0 or after < 0 else x


def _convolution(operation, sizes, kernel, gradient):
    """A convolution of the spread gradient with the mirrored kernel, inputs and outputs exchanged."""
    spread = _for_transposed(operation, gradient)
    if spread is None:
        return None
    height, width, fan_in, units = kernel.shape
    groups = operation.outputs[0].shape[3] // fan_in
    parts = tf.reshape(tf.reverse(kernel, (0, 1)), (height, width, fan_in, groups, units // groups))
    parts = tf.transpose(parts, (0, 1, 4, 3, 2))
    mirrored = tf.reshape(parts, (height, width, units // groups, groups * fan_in))
    return [tf.nn.conv2d(spread, mirrored, 1, "VALID", dilations=operation.get_attr("dilations")[1:3])]


def _depthwise(operation, sizes, kernel, gradient):
    spread = _for_transposed(operation, gradient)
    if spread is None:
        return None
    mirrored, dilations = tf.reverse(kernel, (0, 1)), operation.get_attr("dilations")[1:3]
    if kernel.shape[3] == 1:
        return [tf.nn.depthwise_conv2d(spread, mirrored, (1, 1, 1, 1), "VALID", dilations=dilations)]
    return [tf.nn.conv2d(spread, tf.transpose(mirrored, (0, 1, 3, 2)), 1, "VALID", dilations=dilations)]


def _for_transposed(operation, gradient):
    """The gradient of a convolution's output, spread by the strides and padded; None where the shapes are too open."""
    shape, kernel = operation.outputs[0].shape, operation.inputs[1].shape
    padding = operation.get_attr("padding").decode()
    known = operation.get_attr("data_format") == b"NHWC" and padding in ("SAME", "VALID")
    if not known or None in (*shape[1:], *operation.inputs[2].shape[1:]):
        return None
    for axis in (1, 2):
        stride, dilation = operation.get_attr("strides")[axis], operation.get_attr("dilations")[axis]
        extent = (kernel[axis - 1] - 1) * dilation + 1
        padded, _ = _placed(padding, shape[axis], extent, stride)
        gradient = _spread(gradient, axis, stride)
        before = extent - 1 - padded
        gradient = _fitted(gradient, axis, before, shape[axis] + extent - 1 - before - gradient.shape[axis])
    return gradient


def _strided_slice(operation, shape, begin, end, strides, gradient):
    """Zeros everywhere but where the slice was taken; along an open axis only whole ones."""
    whole = operation.outputs[0].shape
    spec = [tf.get_static_value(operation.inputs[place]) for place in (1, 2, 3)]
    if any(part is None for part in spec) or whole.rank is None:
        return None
    rows = _sliced_axes(operation, whole, *spec)
    if rows is None:
        return None
    # Axes that the slice dropped come back, those that it made go.
    gradient = tf.reshape(gradient, [-1 if count is None else count for _, count, _ in rows])
    for axis, (start, count, step) in enumerate(rows):
        if count is None:
            continue
        gradient = tf.reverse(gradient, (axis,)) if step < 0 else gradient
        start, step = (start + (count - 1) * step, -step) if step < 0 else (start, step)
        gradient = _spread(gradient, axis, step)
        gradient = _fitted(gradient, axis, start, whole[axis] - start - gradient.shape[axis])
    return [gradient]


def _sliced_axes(operation, whole, begin, end, strides):
    """`(start, count, step)` for each axis of the sliced tensor, with the count None along a whole open axis."""
    masks = {name: operation.get_attr(f"{name}_mask") for name in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")}
    rows, count = [], len(begin)
    named = sum(1 for place in range(count) if not (masks["new_axis"] | masks["ellipsis"]) >> place & 1)
    for place in range(count):
        if masks["ellipsis"] >> place & 1:
            rows += [slice(None)] * (whole.rank - named)
        elif not masks["new_axis"] >> place & 1:
            first = None if masks["begin"] >> place & 1 else int(begin[place])
            last = None if masks["end"] >> place & 1 else int(end[place])
            if masks["shrink_axis"] >> place & 1:
                first, last = int(begin[place]), int(begin[place]) + 1 or None
            rows.append(slice(first, last, int(strides[place])))
    rows += [slice(None)] * (whole.rank - len(rows))
    found = []
    for row, size in zip(rows, whole, strict=True):
        if size is None and row not in (slice(None), slice(None, None, 1)):
            return None
        taken = range(size)[row] if size is not None else None
        found.append((0, None, 1) if taken is None else (taken.start, len(taken), taken.step))
    return found if sum(1 for row in found if row[1] is None) < 2 else None


def _broadcast_axes(operation, *shapes):
    """Along which axes each of two shapes was stretched; open sizes are those of the batch, alike on both sides."""
    first, second = (_static_shape(tensor) for tensor in operation.inputs)
    if first is None or second is None:
        return None
    rank = max(len(first), len(second))
    first, second = ([1] * (rank - len(sizes)) + list(sizes) for sizes in (first, second))
    pairs = list(zip(first, second, strict=True))
    # As TensorFlow has it: where both are 1, both are summed over, which changes nothing.
    axes = ([axis for axis, pair in enumerate(pairs) if pair[side] == 1] for side in (0, 1))
    return [tf.constant(found, operation.outputs[0].dtype, (len(found),)) for found in axes]


def _sum(operation, x, axes):
    """Over no axes at all, which LiteRT's kernels refuse, it is what came."""
    axes = tf.get_static_value(axes)
    return [x] if axes is not None and np.size(axes) == 0 else None


def _static_shape(tensor):
    """The sizes that a tensor of sizes holds, None for those that are open; None if nothing is known."""
    if tensor.op.type in ("Shape", "ShapeN"):
        source = tensor.op.inputs[tensor.value_index].shape
        return None if source.rank is None else list(source)
    if tensor.op.type == "StridedSlice":
        sizes = _static_shape(tensor.op.inputs[0])
        spec = [tf.get_static_value(part) for part in tensor.op.inputs[1:]]
        if sizes is not None and not any(part is None for part in spec):
            ((start, count, step),) = _sliced_axes(tensor.op, tensor.op.inputs[0].shape, *spec)
            return [sizes[start + place * step] for place in range(count)]
    value = _static(tensor)
    return None if value is None else [int(size) for size in value]


# What is done to numbers that are known while a graph is made; TensorFlow's own `get_static_value` knows less.
_STATIC = {
    "Add": np.add,
    "AddV2": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "FloorMod": np.mod,
    "Range": np.arange,
    "Cast": np.asarray,
    "Identity": np.asarray,
}


def _static(tensor):
    """The numbers that a tensor holds whatever the input is, as an array; None if nothing is known."""
    if tensor.op.type == "Rank":
        return tensor.op.inputs[0].shape.rank
    if tensor.op.type in _STATIC:
        numbers = [_static(part) for part in tensor.op.inputs]
        return None if any(part is None for part in numbers) else _STATIC[tensor.op.type](*numbers)
    return tf.get_static_value(tensor)


def _stitched(operation, *tensors):
    """Numbers at places that are known."""
    count = len(tensors) // 2
    places = [_static(tensor) for tensor in operation.inputs[:count]]
    if any(place is None for place in places):
        return None
    rows = {}
    for place, values in zip(places, tensors[count:], strict=True):
        values = tf.reshape(values, (-1, *operation.outputs[0].shape[1:]))
        rows.update((int(index), values[row]) for row, index in enumerate(np.ravel(place)))
    return [tf.stack([rows[index] for index in range(len(rows))])]


def _concat_offset(operation, axis, *shapes):
    axis = _static(operation.inputs[0])
    sizes = [_static_shape(tensor) for tensor in operation.inputs[1:]]
    if axis is None or any(size is None or size[axis] is None for size in sizes):
        return None
    offsets = np.zeros((len(sizes), len(sizes[0])), "int32")
    offsets[1:, axis] = np.cumsum([size[axis] for size in sizes[:-1]])
    return [tf.constant(offset) for offset in offsets]


FORWARD_FORMS = {
    "ReluGrad": _alike(lambda gradient, x: tf.where(x > 0, gradient, tf.zeros_like(gradient))),
    "Relu6Grad": _alike(_relu6),
    "EluGrad": _alike(_elu),
    "SeluGrad": _alike(_selu),
    "LeakyReluGrad": _leaky,
    "SoftsignGrad": _alike(lambda gradient, x: gradient / tf.square(1 + tf.abs(x))),
    "TanhGrad": _alike(lambda y, gradient: gradient * (1 - y * y)),
    "SigmoidGrad": _alike(lambda y, gradient: gradient * y * (1 - y)),
    "RsqrtGrad": _alike(lambda y, gradient: gradient * (y * y) * y * -0.5),
    "SqrtGrad": _alike(lambda y, gradient: gradient * 0.5 / y),
    "ReciprocalGrad": _alike(lambda y, gradient: -gradient * y * y),
    "DivNoNan": _quotient,
    "MaxPoolGrad": _max_pool,
    "AvgPoolGrad": _average_pool,
    "Conv2DBackpropInput": _convolution,
    "DepthwiseConv2dNativeBackpropInput": _depthwise,
    "StridedSliceGrad": _strided_slice,
    "BroadcastGradientArgs": _broadcast_axes,
    "ShapeN": lambda operation, *tensors: [tf.shape(tensor, operation.outputs[0].dtype) for tensor in tensors],
    "Sum": _sum,
    "ConcatOffset": _concat_offset,
    "DynamicStitch": _stitched,
    **dict.fromkeys(("Identity", "StopGradient", "PreventGradient", "Snapshot"), lambda operation, x: [x]),
}
