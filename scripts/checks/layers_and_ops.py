"""Which of Keras's layers and operations LRP and the pattern methods take, each in a model of its own.

Usage: `python scripts/checks/layers_and_ops.py [--all]`; a minute. With `--all` a row for each, else only what is refused.

A layer counts as taken where an analyzer can be made of a model with it (explained by LRP on random data, with finite
numbers). The operations are those of `keras.ops` that networks use: from one float tensor, or several, to another.
"""

import argparse
import inspect
import logging
import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import keras
import numpy as np
from common.measuring import machine
from common.tables import table_of

import innvest_lite

L, ops = keras.layers, keras.ops
METHODS = {"LRP": innvest_lite.LRP, "PatternAttribution": innvest_lite.PatternAttribution}

VECTOR, SERIES, IMAGE, VOLUME = (6,), (8, 6), (8, 8, 3), (6, 6, 6, 2)
# How each class is made, and of which input, where it is not made without arguments of a series.
_BY_RANK = {"1D": SERIES, "2D": IMAGE, "3D": VOLUME}
_ARGUMENTS = {
    "Activation": ("relu",),
    "AdaptiveAveragePooling1D": (4,),
    "AdaptiveAveragePooling2D": (4,),
    "AdaptiveAveragePooling3D": (3,),
    "AdaptiveMaxPooling1D": (4,),
    "AdaptiveMaxPooling2D": (4,),
    "AdaptiveMaxPooling3D": (3,),
    **dict.fromkeys(("AveragePooling1D", "AveragePooling2D", "AveragePooling3D"), (2,)),
    "Bidirectional": (L.LSTM(4),),
    "CategoryEncoding": (5,),
    "CenterCrop": (6, 6),
    "Conv1D": (4, 3),
    "Conv1DTranspose": (4, 3),
    "Conv2D": (4, 3),
    "Conv2DTranspose": (4, 3),
    "Conv3D": (4, 3),
    "Conv3DTranspose": (4, 3),
    "ConvLSTM1D": (4, 3),
    "ConvLSTM2D": (4, 3),
    "ConvLSTM3D": (4, 3),
    "Dense": (4,),
    "DepthwiseConv1D": (3,),
    "DepthwiseConv2D": (3,),
    "Discretization": (None, 3),
    "Dot": (-1,),
    "Dropout": (0.1,),
    "EinsumDense": ("abc,cd->abd", (8, 4)),
    "Embedding": (10, 4),
    "GRU": (4,),
    "GaussianDropout": (0.1,),
    "GaussianNoise": (0.1,),
    "GroupNormalization": (3,),
    "GroupQueryAttention": (4, 2, 1),
    "GroupedQueryAttention": (4, 2, 1),
    "HashedCrossing": (5,),
    "Hashing": (5,),
    "LSTM": (4,),
    "Lambda": (lambda x: 2 * x,),
    "MultiHeadAttention": (2, 3),
    "Normalization": (),
    "Permute": ((2, 1),),
    "RNN": (L.LSTMCell(4),),
    "RandomBrightness": (0.1,),
    "RandomContrast": (0.1,),
    "RandomCrop": (8, 8),
    "RandomHue": (0.1,),
    "RandomPosterization": (4,),
    "RandomRotation": (0.1,),
    "RandomSharpness": (0.1,),
    "RandomTranslation": (0.1, 0.1),
    "RandomZoom": (0.1,),
    "RepeatVector": (3,),
    "Rescaling": (0.5, -1),
    "Reshape": ((-1,),),
    "Resizing": (6, 6),
    "SeparableConv1D": (4, 3),
    "SeparableConv2D": (4, 3),
    "SimpleRNN": (4,),
    "SpatialDropout1D": (0.1,),
    "SpatialDropout2D": (0.1,),
    "SpatialDropout3D": (0.1,),
    "SpectralNormalization": (L.Conv2D(4, 3),),
    "TimeDistributed": (L.Dense(3),),
    "AlphaDropout": (0.1,),
}
_OPTIONS = {
    "AugMix": {},
    "RandAugment": {},
    "MixUp": {},
    "CutMix": {},
    "RandomColorJitter": {"brightness_factor": 0.1},
    "RandomShear": {"x_factor": 0.1},
    "RandomPerspective": {},
    "Normalization": {"mean": 0.1, "variance": 2.0},
    "Discretization": {},
    "RandomColorDegeneration": {"factor": 0.1},
    "RandomSaturation": {"factor": 0.1},
    "RandomGaussianBlur": {},
    "RandomInvert": {},
}
_INPUTS = {
    "Conv2DTranspose": IMAGE,
    "Conv3DTranspose": VOLUME,
    "RepeatVector": VECTOR,
    "ConvLSTM1D": (4, 8, 3),
    "ConvLSTM2D": (4, 8, 8, 3),
    "ConvLSTM3D": (3, 6, 6, 6, 2),
    "SpectralNormalization": IMAGE,
    "CenterCrop": IMAGE,
    "Resizing": IMAGE,
    "GroupNormalization": IMAGE,
    "MixUp": IMAGE,
    "CutMix": IMAGE,
    "AugMix": IMAGE,
    "RandAugment": IMAGE,
    "AutoContrast": IMAGE,
    "Equalization": IMAGE,
    "Solarization": IMAGE,
    "MaxNumBoundingBoxes": IMAGE,
}
_SEVERAL = (
    "Add",
    "Average",
    "Concatenate",
    "Dot",
    "Maximum",
    "Minimum",
    "Multiply",
    "Subtract",
    "Attention",
    "AdditiveAttention",
)
# No layers that stand in a network: bases, cells, inputs, and what another framework computes.
_NO_LAYERS = (
    *("Layer", "Wrapper", "InputLayer", "FlaxLayer", "JaxLayer", "TFSMLayer", "TorchModuleWrapper", "STFTSpectrogram"),
    *(
        "GRUCell",
        "LSTMCell",
        "SimpleRNNCell",
        "StackedRNNCells",
        "Pipeline",
        "MelSpectrogram",
        "BaseImageAugmentationLayer",
    ),
)


def layer_classes():
    """Name -> class, of the layers of keras.layers under their own names."""
    found = {name: cls for name, cls in vars(L).items() if inspect.isclass(cls) and issubclass(cls, keras.Layer)}
    return {name: cls for name, cls in sorted(found.items()) if cls.__name__ == name and name not in _NO_LAYERS}


def with_layer(name, cls):
    """A model with a layer of this class between two others, and data for it."""
    shape = _INPUTS.get(name) or next((shape for rank, shape in _BY_RANK.items() if name.endswith(rank)), None)
    if shape is None:
        shape = IMAGE if name.startswith(("Random", "UpSampling", "ZeroPadding", "Cropping")) else SERIES
    layer = cls(*_ARGUMENTS.get(name, ()), **_OPTIONS.get(name, {}))
    tokens = name in ("Embedding", "CategoryEncoding", "Hashing", "StringLookup", "IntegerLookup", "TextVectorization")
    x = keras.Input(shape[:1] if tokens else shape, dtype="int32" if tokens else "float32")
    if name in _SEVERAL:
        y = layer([L.Dense(4, activation="relu")(x), L.Dense(4, activation="relu")(x)])
    elif "Attention" in name:
        y = layer(x, x)
    else:
        y = layer(x)
    data = np.random.default_rng(0).uniform(0, 1, (3, *x.shape[1:]))
    return keras.Model(x, L.Dense(2)(L.Flatten()(y))), (data * 5).astype("int32") if tokens else data.astype("float32")


CONSTANT = np.random.default_rng(1).normal(size=(6, 4)).astype("float32")
# Operations that networks use: name -> a call on a tensor (batch, 8, 6), all in the order of Keras's documentation.
OPERATIONS = {
    **{
        name: (lambda x, name=name: getattr(ops, name)(x))
        for name in (
            *(
                "abs",
                "celu",
                "clip0",
                "cos",
                "elu",
                "erf",
                "exp",
                "expm1",
                "gelu",
                "hard_sigmoid",
                "hard_silu",
                "hard_tanh",
            ),
            *(
                "leaky_relu",
                "log1p",
                "log_sigmoid",
                "negative",
                "relu",
                "relu6",
                "selu",
                "sigmoid",
                "silu",
                "sin",
                "softplus",
            ),
            *(
                "softsign",
                "sqrt",
                "square",
                "tanh",
                "arctan",
                "softmax",
                "log_softmax",
                "rsqrt",
                "reciprocal",
                "hard_shrink",
            ),
        )
        if hasattr(ops, name)
    },
    "add": lambda x: ops.add(x, x * 2),
    "add a constant": lambda x: x + 1.5,
    "subtract": lambda x: ops.subtract(x, ops.relu(x)),
    "multiply": lambda x: ops.multiply(x, ops.sigmoid(x)),
    "multiply by a constant": lambda x: x * 3.0,
    "divide by a constant": lambda x: x / 3.0,
    "divide": lambda x: x / (1 + ops.exp(x)),
    "power": lambda x: ops.power(x, 2),
    "clip": lambda x: ops.clip(x, 0, 1),
    "maximum": lambda x: ops.maximum(x, ops.roll(x, 1, 1)),
    "minimum": lambda x: ops.minimum(x, ops.roll(x, 1, 1)),
    "mean": lambda x: ops.mean(x, axis=1),
    "mean over channels": lambda x: ops.mean(x, axis=-1),
    "sum": lambda x: ops.sum(x, axis=1),
    "max": lambda x: ops.max(x, axis=1),
    "min": lambda x: ops.min(x, axis=1),
    "average": lambda x: ops.average(x, axis=1),
    "cumsum": lambda x: ops.cumsum(x, axis=1),
    "diff": lambda x: ops.diff(x, axis=1),
    "matmul with a constant": lambda x: ops.matmul(x, CONSTANT),
    "dot with a constant": lambda x: ops.dot(x, CONSTANT),
    "tensordot with a constant": lambda x: ops.tensordot(x, CONSTANT, 1),
    "einsum with a constant": lambda x: ops.einsum("btc,cu->btu", x, CONSTANT),
    "matmul": lambda x: ops.matmul(x, ops.transpose(x, (0, 2, 1))),
    "einsum": lambda x: ops.einsum("btc,bsc->bts", x, x),
    "concatenate": lambda x: ops.concatenate([x, x], axis=-1),
    "stack": lambda x: ops.stack([x, x], axis=1),
    "split": lambda x: ops.split(x, 2, axis=1)[0],
    "unstack": lambda x: ops.unstack(x, axis=1)[0],
    "reshape": lambda x: ops.reshape(x, (-1, 48)),
    "transpose": lambda x: ops.transpose(x, (0, 2, 1)),
    "moveaxis": lambda x: ops.moveaxis(x, 1, 2),
    "swapaxes": lambda x: ops.swapaxes(x, 1, 2),
    "squeeze": lambda x: ops.squeeze(ops.expand_dims(x, 1), 1),
    "expand_dims": lambda x: ops.expand_dims(x, 1),
    "flip": lambda x: ops.flip(x, 1),
    "roll": lambda x: ops.roll(x, 1, 1),
    "tile": lambda x: ops.tile(x, (1, 2, 1)),
    "repeat": lambda x: ops.repeat(x, 2, axis=1),
    "pad": lambda x: ops.pad(x, ((0, 0), (1, 1), (0, 0))),
    "take": lambda x: ops.take(x, [0, 2, 4], axis=1),
    "getitem": lambda x: x[:, 1:5],
    "where": lambda x: ops.where(x > 0, x, 0.1 * x),
    "cast": lambda x: ops.cast(x, "float64"),
    "stop_gradient": lambda x: ops.stop_gradient(x),
    "normalize": lambda x: ops.normalize(x, axis=-1),
    "norm": lambda x: ops.norm(x, axis=-1),
    "var": lambda x: ops.var(x, axis=1),
    "layer_normalization": lambda x: ops.layer_normalization(x, axis=-1),
    "rms_normalization": lambda x: ops.rms_normalization(x, axis=-1),
    "max_pool": lambda x: ops.max_pool(x, 2),
    "average_pool": lambda x: ops.average_pool(x, 2),
    "adaptive_average_pool": lambda x: ops.adaptive_average_pool(x, (4,)),
    "conv": lambda x: ops.conv(x, CONSTANT[None]),
    "depthwise_conv": lambda x: ops.depthwise_conv(x, CONSTANT[:, :1][None]),
    "image.resize": lambda x: ops.image.resize(ops.expand_dims(x, -1), (4, 4), interpolation="bilinear"),
    "image.extract_patches": lambda x: ops.image.extract_patches(ops.expand_dims(x, -1), 2),
    "image.pad_images": lambda x: ops.image.pad_images(ops.expand_dims(x, -1), 1, 1, target_height=10, target_width=8),
    "image.crop_images": lambda x: ops.image.crop_images(ops.expand_dims(x, -1), 1, 1, target_height=4, target_width=4),
    "image.rgb_to_grayscale": lambda x: ops.image.rgb_to_grayscale(ops.concatenate([ops.expand_dims(x, -1)] * 3, -1)),
    "depth_to_space": lambda x: ops.depth_to_space(ops.concatenate([ops.expand_dims(x, -1)] * 4, -1), 2),
    "logsumexp": lambda x: ops.logsumexp(x, axis=-1),
    "top_k": lambda x: ops.top_k(x, 2)[0],
    "sort": lambda x: ops.sort(x, axis=-1),
}


def with_operation(call):
    """A model with this operation behind a convolution, and data for it."""
    x = keras.Input(SERIES)
    y = call(L.Conv1D(6, 3, padding="same", activation="relu")(x))
    data = np.random.default_rng(0).normal(size=(3, *SERIES)).astype("float32")
    return keras.Model(x, L.Dense(2)(L.Flatten()(y))), data


def row_of(name, made):
    """Whether each method takes a model, and why not."""
    row = {"name": name, **dict.fromkeys(METHODS, "-"), "why not": ""}
    try:
        model, data = made()
    except Exception as error:
        return {**row, "why not": f"no such model: {type(error).__name__}: {str(error).splitlines()[0][:80]}"}
    for method, analyzer_class in METHODS.items():
        try:
            analyzer = analyzer_class(model)
            if method == "LRP":
                finite = all(np.isfinite(part).all() for part in keras.tree.flatten(analyzer.analyze(data)))
                row[method] = "yes" if finite else "not finite"
            else:
                row[method] = "yes"
        except Exception as error:
            lines = str(error).splitlines()
            row[method], row["why not"] = "no", f"{type(error).__name__}: {lines[min(1, len(lines) - 1)].strip()[:80]}"
    return row


def report(title, rows, everything):
    """Prints a table and its counts."""
    shown = rows if everything else [row for row in rows if any(row[method] != "yes" for method in METHODS)]
    counts = ", ".join(f"{method} {sum(row[method] == 'yes' for row in rows)}" for method in METHODS)
    print(f"\n{title}: {len(rows)}; taken by {counts}\n{table_of(shown, '') if shown else ''}")


def main():
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="a row for what is taken, too")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    machine()
    report(
        "Classes of keras.layers",
        [row_of(name, lambda name=name, cls=cls: with_layer(name, cls)) for name, cls in layer_classes().items()],
        options.all,
    )
    report(
        "Operations of keras.ops",
        [row_of(name, lambda call=call: with_operation(call)) for name, call in OPERATIONS.items()],
        options.all,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
