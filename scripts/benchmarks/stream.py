"""The memory of a fit over 200,000 images from a generator, as it goes on: `python scripts/benchmarks/stream.py`."""

import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from common.measuring import high_water_mark, machine, parsed

BATCH = 100


def stream(samples):
    """Prints the peak at a tenth, a half and all of the images, which are small."""
    import keras
    import numpy as np

    import innvest_lite
    from innvest_lite.data import load_model

    generator, count = np.random.default_rng(0), samples // BATCH

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, number, logs=None):
            if number + 1 in (count // 10, count // 2, count):
                print(f"{int(logs['samples']):,} images: peak {high_water_mark() * 1024:.0f} MiB", flush=True)

    batches = (generator.random((BATCH, 28, 28, 1), "float32") for _ in range(count))
    innvest_lite.fit_patterns(load_model(), batches, callbacks=[Watch()], verbose=0)


if __name__ == "__main__":
    arguments = parsed(__doc__, samples=200_000)
    machine()
    stream(arguments.samples)
