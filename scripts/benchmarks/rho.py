"""What the quality of the signal estimators of all of VGG16's linear layers takes: `python scripts/benchmarks/rho.py`."""

import os
import pathlib
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from common.measuring import high_water_mark, machine, parsed
from common.networks import images, vgg16


def rho(samples):
    """Prints the quality, and the minutes and memory that it takes."""
    from innvest_lite.metrics import signal_quality

    model, third = vgg16(), samples // 3
    parts = [images(samples)[start : start + third] for start in (0, third, 2 * third)]
    start = time.perf_counter()
    quality = signal_quality(model, *(part.copy() for part in parts))
    print(quality)
    minutes = (time.perf_counter() - start) / 60
    print(f"{len(quality.layers)} layers on {samples} images: {minutes:.1f} min, peak memory {high_water_mark():.2f} GiB")


if __name__ == "__main__":
    arguments = parsed(__doc__, samples=256)
    machine()
    rho(arguments.samples)
