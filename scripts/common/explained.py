"""Every analyzer on the shipped digits, and how far two results are apart. Called by checks.

Libraries are imported when they are needed: a check runs part of this where innvest_lite is not.
"""

import numpy as np

SAMPLES, SEED = 5, 3
# Fewer evaluations than by default.
OPTIONS = {
    "integrated_gradients": {"steps": 5},
    "rise": {"masks": 40},
    **dict.fromkeys(("smoothgrad", "squaregrad", "vargrad"), {"augment_by_n": 5}),
}


def analyzers():
    """`(name, analyzer)` of every method but those of attention and of arrays alone, with patterns where it takes some."""
    import innvest_lite
    from innvest_lite.analyzers.registry import OF_ATTENTION, ON_ARRAYS
    from innvest_lite.data import load_digits, load_model

    model, images = load_model(), load_digits()[0]
    patterns = innvest_lite.fit_patterns(model, images[:500], verbose=0)
    for name, method in innvest_lite.ANALYZERS.items():
        if name in (*OF_ATTENTION, *ON_ARRAYS):
            continue
        options = dict(OPTIONS.get(name, {}))
        if name.startswith("pattern."):
            options["patterns"] = patterns
        if method.analyzer.is_random:
            options["seed"] = SEED
        yield name, innvest_lite.create_analyzer(name, model, **options)


def samples():
    """Digits, and a target for each."""
    from innvest_lite.data import load_digits

    return load_digits()[0][:SAMPLES].astype("float32"), (np.arange(SAMPLES) % 10).astype("int32")


def deviation(actual, expected):
    """The largest difference as a share of the largest value."""
    return float(np.abs(np.asarray(actual, "float64") - expected).max() / max(np.abs(expected).max(), 1e-300))
