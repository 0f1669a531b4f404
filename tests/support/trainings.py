"""A small classifier of the shipped digits that is trained, for the tests of what happens meanwhile."""

import keras

from innvest_lite.data import load_digits

DIGITS, LABELS = (array[:200] for array in load_digits())


def small(**options):
    keras.utils.set_random_seed(3)
    layers = [keras.layers.Conv2D(4, 3, activation="relu"), keras.layers.MaxPooling2D(4), keras.layers.Flatten()]
    model = keras.Sequential([keras.Input((28, 28, 1)), *layers, keras.layers.Dense(10, activation="softmax")])
    model.compile("adam", "sparse_categorical_crossentropy", **options)
    return model


def untraced():
    """The same, whose few steps take less time than tracing one, where training is not what is tested."""
    return small(run_eagerly=True)


def trained(model, *callbacks, epochs=2):
    """Trains the model; its weights then."""
    model.fit(DIGITS, LABELS, epochs=epochs, batch_size=50, shuffle=False, verbose=0, callbacks=list(callbacks))
    return model.get_weights()
