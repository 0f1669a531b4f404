"""The pattern methods of a network by every choice, beside other methods."""

import innvest_lite


def by_every_choice(model, samples, others, estimators):
    """Name -> analyzer: the others by their names, then PatternNet and PatternAttribution by each estimator and shares.

    Args:
        model: the network.
        samples: to fit patterns on.
        others: names of `create_analyzer`.
        estimators: word -> what `PatternStatistics.patterns` takes.
    """
    found = {name: innvest_lite.create_analyzer(name, model) for name in others}
    statistics = innvest_lite.fit_statistics(model, samples, verbose=0)
    for word, estimator in estimators.items():
        patterns = statistics.patterns(model, estimator)
        found[f"PatternNet, {word}"] = innvest_lite.PatternNet(model, patterns=patterns)
        for shares in ("average", "sample"):
            name = f"PatternAttribution, {word}, {shares}"
            found[name] = innvest_lite.PatternAttribution(model, patterns=patterns, shares=shares)
    return found
