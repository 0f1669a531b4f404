"""What `ExplanationCallback` adds to an epoch, against the explanations alone: `python scripts/benchmarks/callback.py`.

Trains a classifier of digits, and MobileNet on noise, with the callback and without it. In each epoch but the first, which
traces, what the callback takes after the epoch (a fit of the patterns, explanations, a PNG file, an event file where
TensorBoard is installed) is compared with the same fit and the same explanations by hand, right after it. Figures are
medians of ratios over epochs.
"""

import os
import pathlib
import statistics
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["KERAS_BACKEND"] = "tensorflow"
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import keras
import numpy as np
from common.measuring import machine, parsed

import innvest_lite
from innvest_lite.callbacks import ExplanationCallback
from innvest_lite.data import load_digits, load_model

# As the callback does it by default.
BATCH = 32


class _Timed(ExplanationCallback):
    """The callback, and the time of the same explanations by hand.

    Args:
        name: as `create_analyzer` takes it.
        shown: the images to explain.
        fit_data: samples to fit patterns on.
        log_dir: a folder.
    """

    def __init__(self, name, shown, fit_data, log_dir):
        super().__init__(name, shown, log_dir=log_dir, fit_data=fit_data)
        self.name, self.shown, self.samples, self.rows = name, shown, fit_data, []

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        self.by_hand, self.fits = innvest_lite.create_analyzer(self.name, self.model), None
        if self.name.startswith("pattern."):
            self.fits = innvest_lite.PatternFits(self.model)

    def on_epoch_end(self, epoch, logs=None):
        start = time.perf_counter()
        super().on_epoch_end(epoch, logs)
        took = time.perf_counter() - start
        start = time.perf_counter()
        if self.fits is not None:
            self.by_hand.set_patterns(self.fits(self.samples, batch_size=BATCH, verbose=0))
        self.by_hand.analyze(self.shown, batch_size=BATCH, return_exponent=True)
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
        timed = _Timed(name, shown, x, folder)
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
    epochs = parsed(__doc__, epochs=6).epochs
    machine()
    print(f"innvest_lite {innvest_lite.__version__}")
    for make in (digits, mobilenet):
        for name in ("pattern.attribution", "gradient"):
            cost(make, name, epochs)


if __name__ == "__main__":
    main()
