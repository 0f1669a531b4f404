"""Photographs that scikit-image and scikit-learn bring, and networks that tell pieces of them apart, trained here."""

import functools
import pathlib

import keras
import numpy as np
from PIL import Image

SIZE, BATCH, STEPS = 64, 32, 1500
# Of other modules than the fetching one, which would look for more photographs on the network.
_SKIMAGE = {
    "astronaut": "astronaut.png",
    "cat": "chelsea.png",
    "coffee": "coffee.png",
    "rocket": "rocket.jpg",
    "motorcycle": "motorcycle_left.png",
    "galaxies": "hubble_deep_field.jpg",
    "coins": "coins.png",
    "brick": "brick.png",
    "grass": "grass.png",
    "gravel": "gravel.png",
}
_SKLEARN = {"temple": "china.jpg", "dahlia": "flower.jpg"}
CLASSES = (*_SKIMAGE, *_SKLEARN)
_layers = keras.layers


@functools.cache
def photographs():
    """Name -> photograph, uint8 (height, width, 3)."""
    import skimage.data
    import sklearn.datasets

    found = {}
    for module, names, folder in ((skimage.data, _SKIMAGE, "."), (sklearn.datasets, _SKLEARN, "images")):
        root = pathlib.Path(module.__file__).parent / folder
        found |= {name: np.asarray(Image.open(root / file).convert("RGB")) for name, file in names.items()}
    return found


def scaled(pixels):
    """What the networks take: float32 in -1..1."""
    return np.asarray(pixels, "float32") / 127.5 - 1


def _square(photo, top, left, side, size):
    """A square of a photograph, as large as asked for."""
    box = (left, top, left + side, top + side)
    return scaled(Image.fromarray(photo).resize((size, size), Image.Resampling.BILINEAR, box=box))


def pieces(count, seed, size=SIZE, classes=None):
    """Random squares of photographs, mirrored half of the time, with some change of brightness and contrast.

    Args:
        count: how many.
        seed: of their choice.
        size: of a side, in pixels.
        classes: which class each is of; None: drawn.

    Returns:
        `(x, y)`: float32 (count, size, size, 3) in -1..1, and int (count,).
    """
    generator, photos = np.random.default_rng(seed), list(photographs().values())
    y = generator.integers(len(photos), size=count) if classes is None else np.asarray(classes)
    made = np.empty((count, size, size, 3), "float32")
    for place, label in enumerate(y):
        photo = photos[label]
        side = int(min(photo.shape[:2]) * generator.uniform(0.35, 1.0))
        top, left = (generator.integers(length - side + 1) for length in photo.shape[:2])
        piece = _square(photo, top, left, side, size)
        piece = piece[:, ::-1] if generator.random() < 0.5 else piece
        made[place] = np.clip(piece * generator.uniform(0.8, 1.2) + generator.uniform(-0.15, 0.15), -1, 1)
    return made, y


def mosaics(count, seed):
    """Four pieces of four classes side by side, two by two, of which one is asked for: its cell is the truth.

    Returns:
        `(x, y, masks)`: float32 (count, 2 * SIZE, 2 * SIZE, 3), the class asked for (count,), bool of the
        images without channels.
    """
    generator = np.random.default_rng(seed)
    classes = np.stack([generator.permutation(len(CLASSES))[:4] for _ in range(count)])
    x, _ = pieces(4 * count, seed + 1, classes=classes.reshape(-1))
    x = x.reshape(count, 2, 2, SIZE, SIZE, 3).transpose(0, 1, 3, 2, 4, 5).reshape(count, 2 * SIZE, 2 * SIZE, 3)
    cells = generator.integers(4, size=count)
    masks = np.zeros((count, 2, SIZE, 2, SIZE), bool)
    masks[np.arange(count), cells // 2, :, cells % 2] = True
    return x, classes[np.arange(count), cells], masks.reshape(count, 2 * SIZE, 2 * SIZE)


def whole(size):
    """All photographs from their middle, each a square of a size: float32 (classes, size, size, 3)."""
    made = []
    for photo in photographs().values():
        side = min(photo.shape[:2])
        top, left = ((length - side) // 2 for length in photo.shape[:2])
        made.append(_square(photo, top, left, side, size))
    return np.stack(made)


def vgg(x):
    """Convolutions of 3 x 3 with a ReLU, and maxima, as in VGG."""
    for filters, convolutions in ((32, 1), (64, 2), (96, 2), (128, 2)):
        for _ in range(convolutions):
            x = _layers.Conv2D(filters, 3, padding="same", activation="relu", kernel_initializer="he_normal")(x)
        x = _layers.MaxPooling2D()(x)
    return _layers.GlobalAveragePooling2D()(x)


def _normalized(x):
    return _layers.BatchNormalization(momentum=0.95)(x)


def _convolution(x, filters, size=3, strides=1):
    return _normalized(_layers.Conv2D(filters, size, strides, padding="same", use_bias=False)(x))


def resnet(x):
    """ResNet's blocks of two convolutions, with BatchNormalization and a ReLU behind each sum."""
    x = _layers.ReLU()(_convolution(x, 32, 3, 2))
    for filters, strides in ((32, 1), (64, 2), (64, 1), (128, 2), (128, 1)):
        y = _convolution(_layers.ReLU()(_convolution(x, filters, 3, strides)), filters)
        shortcut = x if strides == 1 else _convolution(x, filters, 1, strides)
        x = _layers.ReLU()(_layers.Add()([shortcut, y]))
    return _layers.GlobalAveragePooling2D()(x)


def mobilenet(x):
    """MobileNetV2's blocks: expansion, depthwise convolution, linear bottleneck, and sums with no rectifier behind them."""
    x = _layers.ReLU(6.0)(_convolution(x, 24, 3, 2))
    for filters, strides in ((24, 1), (32, 2), (32, 1), (32, 1), (64, 2), (64, 1), (64, 1)):
        y = _layers.ReLU(6.0)(_convolution(x, 6 * x.shape[-1], 1))
        y = _layers.DepthwiseConv2D(3, strides, padding="same", use_bias=False)(y)
        y = _convolution(_layers.ReLU(6.0)(_normalized(y)), filters, 1)
        x = _layers.Add()([x, y]) if x.shape[-1] == filters and strides == 1 else y
    x = _layers.ReLU(6.0)(_convolution(x, 256, 1))
    return _layers.GlobalAveragePooling2D()(x)


NETWORKS = {"vgg": vgg, "resnet": resnet, "mobilenet": mobilenet}


class _Pieces(keras.utils.PyDataset):
    def __init__(self, seed):
        super().__init__(workers=1)
        self.seed = seed

    def __len__(self):
        return STEPS

    def __getitem__(self, index):
        return pieces(BATCH, [self.seed, index])


def built(network, size):
    """A network for images of a size, whose weights do not depend on it."""
    x = keras.Input((size, size, 3))
    return keras.Model(x, _layers.Dense(len(CLASSES))(NETWORKS[network](x)))


def trained(network, seed, folder, size=SIZE):
    """A network trained on pieces, for images of a size; its weights are kept as a file in a folder."""
    path = pathlib.Path(folder) / f"{network}_{seed}.weights.h5"
    if path.exists():
        model = built(network, size)
        model.load_weights(path)
        return model
    keras.utils.set_random_seed(seed)
    model = built(network, SIZE)
    rate = keras.optimizers.schedules.CosineDecay(0.0, STEPS, warmup_target=2e-3, warmup_steps=100)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.AdamW(rate, weight_decay=1e-3), loss, metrics=["accuracy"])
    model.fit(_Pieces(seed), verbose=0)
    path.parent.mkdir(parents=True, exist_ok=True)
    model.save_weights(path)
    return trained(network, seed, folder, size)
