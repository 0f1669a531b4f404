"""One call of an exported SavedModel against `analyze` of the analyzer alone: `python scripts/benchmarks/serve.py`."""

import os
import pathlib
import sys
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from common.measuring import machine, parsed, spread, timed
from common.networks import METHODS, analyzer_of, images, vgg16


def serve(batch, rounds, names):
    """Prints the ratio of one call of the exported `serve` to the analyzer alone, in the same rounds."""
    import tensorflow as tf

    model, x = vgg16(), images(batch)
    print(f"VGG16 224x224, batch {batch}, {rounds} rounds: serve (attributions, predictions and target) against analyze")
    for name in names:
        analyzer = analyzer_of(name, model)
        with tempfile.TemporaryDirectory() as folder:
            analyzer.export(folder)
            served = tf.saved_model.load(folder)
        calls = (
            lambda analyzer=analyzer: analyzer.analyze(x, batch_size=batch),
            lambda served=served: [tensor.numpy() for tensor in served.serve(x).values()],
        )
        for call in calls:
            call()
        pairs = [tuple(map(timed, calls)) for _ in range(rounds)]
        ratios = [there / alone for alone, there in pairs]
        print(f"{name:20s} {spread(ratios)} of analyze", flush=True)


if __name__ == "__main__":
    arguments = parsed(__doc__, batch=8, rounds=7, methods=METHODS)
    machine()
    serve(arguments.batch, arguments.rounds, arguments.methods)
