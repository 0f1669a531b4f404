"""Every analyzer and the fitter, compiled by XLA and not: `python scripts/checks/xla.py`; some minutes.

A row: a name of `create_analyzer`, and the largest deviation as a share of the largest attribution. Where it is above
1e-4, a method may divide by sums that nearly cancel (the z-rule without the bias): it is then run in float64, which must
be within 1e-4, and the row also says how far uncompiled float32 is from float64 itself.
"""

import argparse
import json
import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import keras
import numpy as np
from common.explained import OPTIONS, deviation, samples

import innvest_lite
from innvest_lite.analyzers.registry import OF_ATTENTION, ON_ARRAYS
from innvest_lite.data import load_digits, load_model

LIMIT = 1e-4


def main():
    """Prints the rows; the exit code says whether all are within the limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    model, (x, targets), worst = load_model(), samples(), 0
    fitted = [
        innvest_lite.fit_patterns(model, load_digits()[0][:500], jit_compile=compiled, verbose=0)
        for compiled in (False, True)
    ]
    for name, pattern in fitted[0].items():
        worst = max(worst, _row(f"fit, {name}", fitted[1][name], pattern))
    wide = in_float64(model)
    for name in (name for name in innvest_lite.ANALYZERS if name not in (*OF_ATTENTION, *ON_ARRAYS)):
        options = {**OPTIONS.get(name, {}), **({"patterns": fitted[0]} if name.startswith("pattern.") else {})}
        plain, compiled = both(name, model, options, x, targets)
        difference = _row(name, compiled, plain)
        if difference > LIMIT:
            exact, compiled = both(name, wide, options, x.astype("float64"), targets)
            difference = _row("  in float64", compiled, exact)
            _row("  float32, not compiled, against it", plain, exact)
        worst = max(worst, difference)
    print(f"worst {worst:.1e}, of {LIMIT:.0e} allowed")
    return worst > LIMIT


def both(name, model, options, x, targets):
    """The attributions without and with XLA."""
    return [
        innvest_lite.create_analyzer(name, model, jit_compile=compiled, **options).analyze(x, targets)
        for compiled in (False, True)
    ]


def in_float64(model):
    """The same model, of float64."""
    config = json.loads(json.dumps(model.get_config()).replace("float32", "float64"))
    wide = keras.Sequential.from_config(config)
    wide.set_weights(model.get_weights())
    return wide


def _row(name, actual, expected):
    difference = deviation(actual, np.asarray(expected))
    print(f"{name:38} {difference:.1e}", flush=True)
    return difference


if __name__ == "__main__":
    sys.exit(main())
