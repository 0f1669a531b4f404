"""What `ExplanationCallback` adds to an epoch, against the explanations alone: `python scripts/callback_cost.py`.

Trains a classifier of digits, and MobileNet on noise, with the callback and without it. In each epoch but the first, which
traces, what the callback takes after the epoch (a fit of the patterns, explanations, a PNG file, an event file where
TensorBoard is installed) is compared with the same fit and the same explanations by hand, right after it. Figures are
medians of ratios over epochs.
"""

import argparse
import os
import statistics
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import numpy as np
from benchmark import machine

import innvest_lite
from innvest_lite.callbacks import ExplanationCallback
from innvest_lite.data import load_digits, load_model


class _Timed(ExplanationCallback):
    """The callback, and the time of the same explanations by hand."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.rows = []

    def on_epoch_end(self, epoch, logs=None):
        start = time.perf_counter()
        super().on_epoch_end(epoch, logs)
        took = time.perf_counter() - start
        start = time.perf_counter()
        if self._fits is not None:
            self._analyzer.set_patterns(self._fits(self._fit_data, batch_size=self._batch_size, verbose=0))
        self._analyzer.analyze(self._data, batch_size=self._batch_size, return_exponent=True)
        self.rows.append((took, time.perf_counter() - start))


class _Epochs(keras.callbacks.Callback):
    """Seconds of training in each epoch, without what other callbacks do after it."""

    def on_epoch_begin(self, epoch, logs=None):
        self.start = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        self.last = time.perf_counter() - self.start

    def on_epoch_end(self, epoch, logs=None):
        self.seconds = [*getattr(self, "seconds", []), self.last]


def digits():
    """The demo model, anew, and its digits."""
    model = keras.models.clone_model(load_model())
    x, y = load_digits()
    return model, x, y, x[:16]


def mobilenet():
    """MobileNet of random weights, and noise."""
    model = keras.applications.MobileNet((128, 128, 3), weights=None, classes=10)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(256, 128, 128, 3)).astype("float32")
    return model, x, rng.integers(0, 10, 256), x[:8]


def cost(make, name, epochs):
    """Prints the ratios of one model and method."""
    keras.utils.set_random_seed(0)
    model, x, y, shown = make()
    model.compile("adam", "sparse_categorical_crossentropy")
    epochs_seen = _Epochs()
    with tempfile.TemporaryDirectory() as folder:
        timed = _Timed(name, shown, log_dir=folder, fit_data=x)
        model.fit(x, y, epochs=epochs + 1, verbose=0, callbacks=[epochs_seen, timed])
    rows = timed.rows[1:]
    ratio = statistics.median(took / alone for took, alone in rows)
    share = statistics.median(took / epoch for (took, _), epoch in zip(rows, epochs_seen.seconds[1:], strict=True))
    rest = statistics.median(took - alone for took, alone in rows)
    print(
        f"{make.__name__:10s} {name:20s} {len(x)} samples, {len(shown)} explained: after an epoch the callback takes "
        f"{ratio:.3f} of its explanations alone ({1000 * rest:+.0f} ms), {share:.2f} of the epoch",
        flush=True,
    )


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=6)
    epochs = parser.parse_args().epochs
    machine()
    print(f"innvest_lite {innvest_lite.__version__}")
    for make in (digits, mobilenet):
        for name in ("pattern.attribution", "gradient"):
            cost(make, name, epochs)


if __name__ == "__main__":
    main()
