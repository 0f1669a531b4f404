"""The one table of linear layers: every kind with its options, on small inputs, the channels last.

Rules and forms are tried on all of them, `LAYERS`: name -> `(factory, shapes)`. A factory takes a layer's usual keywords
(`name`, `dtype`, `data_format`) and makes a new layer; shapes are those of a sample of each input.

- `WEIGHTED`: the names of those with a kernel of their own; the others add up or average
- `SEPARABLE`: two kernels, one behind the other
"""

from functools import partial

from keras import layers

IMAGE, SEQUENCE, VOLUME = (5, 4, 4), (6, 4), (3, 4, 3, 2)

_Einsum, _Conv1D, _Conv2D, _Conv3D = layers.EinsumDense, layers.Conv1D, layers.Conv2D, layers.Conv3D
_Depthwise1D, _Depthwise2D = layers.DepthwiseConv1D, layers.DepthwiseConv2D

_DENSE = {
    "dense": (partial(layers.Dense, 3), [(4,)]),
    "dense sequence": (partial(layers.Dense, 3), [SEQUENCE]),
    "dense bare": (partial(layers.Dense, 3, use_bias=False), [(4,)]),
    "einsum": (partial(_Einsum, "btd,dhk->bthk", (6, 2, 3), bias_axes="hk"), [SEQUENCE]),
    "einsum flat bias": (partial(_Einsum, "btd,dhk->bhtk", (2, 6, 3), bias_axes="hk"), [SEQUENCE]),
    "einsum permuted": (partial(_Einsum, "btd,dhk->bkth", (3, 6, 2), bias_axes="kh"), [SEQUENCE]),
    "einsum permuted flat bias": (partial(_Einsum, "btd,dhk->bkht", (3, 2, 6), bias_axes="kh"), [SEQUENCE]),
    "einsum three units": (partial(_Einsum, "bd,dhkm->bkmh", (3, 5, 2), bias_axes="kmh"), [(4,)]),
    "einsum batch letter": (partial(_Einsum, "bthk,hkj->bthj", (3, 4, 2), bias_axes="hj"), [(3, 4, 3)]),
    "einsum two sums": (partial(_Einsum, "bthk,hkd->btd", (3, 2), bias_axes="d"), [(3, 4, 3)]),
    "einsum positions": (partial(_Einsum, "btd,tu->bud", (5, 4), bias_axes="u"), [SEQUENCE]),
    "einsum ellipsis": (partial(_Einsum, "...d,de->...e", 3, bias_axes="e"), [SEQUENCE]),
    "einsum free letter": (partial(_Einsum, "btd,de->be", 3, bias_axes="e"), [SEQUENCE]),
}
_CONVOLUTIONS = {
    "conv1d": (partial(_Conv1D, 3, 3, 2, "same"), [SEQUENCE]),
    "conv1d causal": (partial(_Conv1D, 3, 3, padding="causal", dilation_rate=2), [SEQUENCE]),
    "conv1d groups": (partial(_Conv1D, 4, 2, groups=2), [SEQUENCE]),
    "conv1d 1x1 stride": (partial(_Conv1D, 3, 1, 2), [SEQUENCE]),
    "conv2d": (partial(_Conv2D, 3, (3, 2)), [IMAGE]),
    "conv2d strides": (partial(_Conv2D, 3, 3, (2, 1)), [IMAGE]),
    "conv2d same": (partial(_Conv2D, 3, 3, 2, "same"), [IMAGE]),
    "conv2d dilation": (partial(_Conv2D, 3, 2, dilation_rate=2, padding="same"), [IMAGE]),
    "conv2d groups": (partial(_Conv2D, 4, 3, groups=2, padding="same"), [IMAGE]),
    "conv2d bare": (partial(_Conv2D, 3, 2, use_bias=False), [IMAGE]),
    "conv2d 1x1": (partial(_Conv2D, 3, 1), [IMAGE]),
    "conv2d 1x1 stride": (partial(_Conv2D, 3, 1, 2), [IMAGE]),
    "conv2d 1x1 strides": (partial(_Conv2D, 3, 1, (3, 2), "same"), [IMAGE]),
    "conv2d 1x1 stride groups": (partial(_Conv2D, 4, 1, 2, groups=2), [IMAGE]),
    "conv3d": (partial(_Conv3D, 3, 2, 2, "same"), [VOLUME]),
    "conv3d sizes": (partial(_Conv3D, 2, (2, 3, 2)), [VOLUME]),
    "conv3d 1x1 stride": (partial(_Conv3D, 3, 1, 2), [VOLUME]),
    "depthwise1d": (partial(_Depthwise1D, 3, padding="same", depth_multiplier=2), [SEQUENCE]),
    "depthwise2d": (partial(_Depthwise2D, 3, 2, "same"), [IMAGE]),
    "depthwise2d multiplier": (partial(_Depthwise2D, 2, depth_multiplier=3), [IMAGE]),
    "depthwise2d dilation": (partial(_Depthwise2D, 2, dilation_rate=2), [IMAGE]),
    "transposed1d": (partial(layers.Conv1DTranspose, 2, 3, 2, "same"), [SEQUENCE]),
    "transposed2d": (partial(layers.Conv2DTranspose, 3, (3, 2), (1, 2)), [(3, 3, 2)]),
    "transposed2d same": (partial(layers.Conv2DTranspose, 3, 2, padding="same"), [(3, 4, 2)]),
    "transposed2d output": (partial(layers.Conv2DTranspose, 2, 3, 2, "same", output_padding=1), [(3, 3, 4)]),
    "transposed3d": (partial(layers.Conv3DTranspose, 2, 2, 2), [(2, 3, 2, 2)]),
}
_VIRTUAL = {
    "add": (layers.Add, [IMAGE, IMAGE]),
    "add three": (layers.Add, [(4,), (4,), (4,)]),
    "add broadcast": (layers.Add, [IMAGE, (1, 1, 4)]),
    "add one channel": (layers.Add, [IMAGE, (5, 4, 1)]),
    "subtract": (layers.Subtract, [SEQUENCE, SEQUENCE]),
    "mean": (layers.Average, [SEQUENCE, SEQUENCE, SEQUENCE]),
    "pool1d": (partial(layers.AveragePooling1D, 2), [(5, 4)]),
    "pool1d same": (partial(layers.AveragePooling1D, 3, 2, "same"), [SEQUENCE]),
    "pool2d": (partial(layers.AveragePooling2D, 2), [IMAGE]),
    "pool2d overlapping": (partial(layers.AveragePooling2D, (3, 2), 1), [IMAGE]),
    "pool2d strides": (partial(layers.AveragePooling2D, (2, 1), (2, 1)), [IMAGE]),
    "pool2d same, not dividing": (partial(layers.AveragePooling2D, 4, 3, "same"), [(6, 5, 4)]),
    "pool3d": (partial(layers.AveragePooling3D, 2), [VOLUME]),
    "pool3d same": (partial(layers.AveragePooling3D, 2, 2, "same"), [VOLUME]),
    "global1d": (layers.GlobalAveragePooling1D, [SEQUENCE]),
    "global2d": (layers.GlobalAveragePooling2D, [IMAGE]),
    "global2d keepdims": (partial(layers.GlobalAveragePooling2D, keepdims=True), [IMAGE]),
    "global3d": (layers.GlobalAveragePooling3D, [VOLUME]),
}
LAYERS = {**_DENSE, **_CONVOLUTIONS, **_VIRTUAL}
WEIGHTED = (*_DENSE, *_CONVOLUTIONS)
GROUPED = tuple(name for name in WEIGHTED if "groups" in name)
SEPARABLE = {
    "separable1d": (partial(layers.SeparableConv1D, 3, 3, depth_multiplier=2), [SEQUENCE]),
    "separable1d dilation": (partial(layers.SeparableConv1D, 4, 3, padding="same", dilation_rate=2), [SEQUENCE]),
    "separable2d": (partial(layers.SeparableConv2D, 3, 3, 2, "same", depth_multiplier=2), [(5, 4, 2)]),
    "separable2d stride": (partial(layers.SeparableConv2D, 3, 2, 2, use_bias=False), [(5, 4, 2)]),
    "separable2d dilation": (partial(layers.SeparableConv2D, 3, 2, dilation_rate=2), [(5, 4, 2)]),
}
# Those whose kernel a BatchNormalization behind is fused into in the tests.
FUSED = (
    *("dense", "dense sequence", "einsum ellipsis", "conv1d", "conv2d same", "conv2d bare"),
    *("depthwise2d", "depthwise2d multiplier", "transposed2d output"),
)
