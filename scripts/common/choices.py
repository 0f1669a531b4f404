"""The pattern methods of a network by every choice, beside other methods."""

import contextlib

import innvest_lite
from innvest_lite.errors import InnvestLiteError


def by_every_choice(model, samples, others, estimators, starts=("logit",), batch_size=32):
    """Name -> analyzer: the others by their names, then PatternNet and PatternAttribution by each estimator and choice.

    A method that has no rule for the network's layers is left out.

    Args:
        model: the network.
        samples: to fit patterns on.
        others: names of `create_analyzer`.
        estimators: word -> what `PatternStatistics.patterns` takes.
        starts: of PatternNet; several stand in its names.
        batch_size: of the fit.
    """
    found = {}
    for name in others:
        with contextlib.suppress(InnvestLiteError):
            found[name] = innvest_lite.create_analyzer(name, model)
    with contextlib.suppress(InnvestLiteError):
        found |= _pattern_methods(model, samples, estimators, starts, batch_size)
    return found


def _pattern_methods(model, samples, estimators, starts, batch_size):
    found = {}
    # Chains as an analyzer's own fit takes them.
    statistics = innvest_lite.fit_statistics(model, samples, batch_size=batch_size, chains="joint", verbose=0)
    for word, estimator in estimators.items():
        patterns = statistics.patterns(model, estimator)
        for start in starts:
            name = f"PatternNet, {word}" + (f", {start}" if len(starts) > 1 else "")
            found[name] = innvest_lite.PatternNet(model, patterns=patterns, start=start)
        for shares in ("average", "sample"):
            name = f"PatternAttribution, {word}, {shares}"
            found[name] = innvest_lite.PatternAttribution(model, patterns=patterns, shares=shares)
    return found
