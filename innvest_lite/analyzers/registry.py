"""`create_analyzer`: analyzers by the names that iNNvestigate gave them."""

import difflib

from innvest_lite.analyzers import baseline, gradient, pattern
from innvest_lite.errors import InvalidInputError

ANALYZERS = {
    "input": baseline.Input,
    "random": baseline.Random,
    "gradient": gradient.Gradient,
    "input_t_gradient": gradient.InputTimesGradient,
    "deconvnet": gradient.Deconvnet,
    "guided_backprop": gradient.GuidedBackprop,
    "pattern.net": pattern.PatternNet,
    "pattern.attribution": pattern.PatternAttribution,
}


def create_analyzer(name, model, **options):
    """An analyzer by name.

    Args:
        name: one of `ANALYZERS`, e.g. "pattern.attribution".
        model: a Functional or Sequential `keras.Model`.
        **options: of the analyzer's class.

    Raises:
        InvalidInputError: there is no analyzer of that name; the message suggests the nearest.
    """
    if name not in ANALYZERS:
        near = difflib.get_close_matches(str(name), ANALYZERS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise InvalidInputError(f"There is no analyzer {name!r}.{hint} There are: {', '.join(ANALYZERS)}.")
    return ANALYZERS[name](model, **options)
