"""Networks trained on images whose signal is known. Called by the paper's experiments and the README's pictures."""

import keras

from innvest_lite import datasets


def trained_on_templates(kind, strength, seed):
    """A network, trained on the first 8,000 of 8,500 `datasets.template_images`: `(model, data, shown, held out)`."""
    keras.utils.set_random_seed(seed)
    data = datasets.template_images(8500, strength=strength, seed=seed)
    shown, test = slice(0, 8000), slice(8000, None)
    model = _linear() if kind == "linear" else _small_vgg()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss, metrics=["accuracy"])
    # A linear readout needs far longer until it has cancelled the waves.
    epochs = 60 if kind == "linear" else 6
    model.fit(data.images[shown], data.labels[shown], batch_size=64, epochs=epochs, verbose=0)
    return model, data, shown, test


def _linear():
    return keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(2)])


def _small_vgg():
    stack = [keras.Input((28, 28, 1))]
    for filters in (16, 32):
        stack += [keras.layers.Conv2D(filters, 3, padding="same", activation="relu") for _ in range(2)]
        stack += [keras.layers.MaxPooling2D()]
    return keras.Sequential(
        [*stack, keras.layers.Flatten(), keras.layers.Dense(32, activation="relu"), keras.layers.Dense(2)]
    )
