"""What imports, the command line and a first explanation take, in processes of their own.

`python scripts/benchmarks/start.py`; needs the package installed, with its command `innvest-lite`.
"""

import functools
import os
import pathlib
import statistics
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from common.measuring import machine, parsed, plain_gradient, spread, timed
from common.networks import images, method, vgg16

INSIDE = "--inside"


def start(rounds):
    """Prints what it takes until something happens, medians over new processes."""

    def median(*command):
        run = functools.partial(subprocess.run, command, check=True, capture_output=True)
        return statistics.median(timed(run) for _ in range(rounds))

    nothing = median(sys.executable, "-c", "")
    imported = median(sys.executable, "-c", "import innvest_lite") - nothing
    print(f"import innvest_lite: {imported * 1000:.0f} ms besides Python's own {nothing * 1000:.0f}")
    command = pathlib.Path(sys.executable).parent / "innvest-lite"
    print(f"--help of innvest-lite: {median(str(command), '--help'):.2f} s")
    ratios = []
    for _ in range(rounds):
        commands = ([sys.executable, __file__, INSIDE, name] for name in ("plain", "PatternAttribution"))
        plain, first = (float(subprocess.run(c, check=True, capture_output=True, text=True).stdout) for c in commands)
        ratios.append(first / plain)
    print(f"VGG16, batch 1: PatternAttribution made and called once: {spread(ratios)} of a gradient's first call")


def first(name):
    """Prints the seconds of a first explanation, the analyzer's making included."""
    model, x = vgg16(), images(1)
    call = plain_gradient(model, x) if name == "plain" else None
    began = time.perf_counter()
    (call or method(name, model, x)[1])()
    print(time.perf_counter() - began)


if __name__ == "__main__":
    if sys.argv[1:2] == [INSIDE]:
        first(sys.argv[2])
    else:
        arguments = parsed(__doc__, rounds=7)
        machine()
        start(arguments.rounds)
