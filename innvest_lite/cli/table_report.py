"""`innvest-lite report` of a table: a chart of bars for each row and method. Called by `reporting`."""

from __future__ import annotations

import argparse
import pathlib
from typing import Any

import numpy as np

import innvest_lite
from innvest_lite import report
from innvest_lite.answers import answers_and_scores
from innvest_lite.cli import arrays, evaluation, models, naming, spreadsheets
from innvest_lite.cli.terminal import complain, say, told_so_far
from innvest_lite.errors import InvalidInputError
from innvest_lite.files import check_none_among

METHODS = ("input_t_gradient", "integrated_gradients", "lrp.epsilon", "pattern.attribution")
"""The methods that are shown by default."""


def run(arguments: argparse.Namespace) -> int:
    """Explains rows of a table and writes the page; returns the exit code."""
    (path,) = arguments.images
    methods = evaluation.chosen_methods(arguments, METHODS)
    out = report.checked_path(arguments.out)
    check_none_among([out], {"the table": [path], **models.files_read(arguments)})
    patterns = evaluation.given_patterns(arguments, methods)
    model = models.load(arguments.model)
    every, names = _table(path, arguments, model)
    places = np.sort(np.random.default_rng(arguments.seed).permutation(len(every))[: arguments.limit])
    if len(places) < len(every):
        say(f"{len(places)} of {len(every)} rows are shown, drawn at random; --limit shows more, --seed others")
    rows, labels = every[places], naming.labels(arguments.labels)
    row_names = [f"{pathlib.Path(path).name}[{place}]" for place in places]
    said, found = answers_and_scores(innvest_lite.Gradient(model), rows, labels=labels, batch_size=arguments.batch_size)
    analyzers = evaluation.Analyzers(arguments, model, methods, every, patterns)
    explained: dict[str, np.ndarray] = {}
    options: dict[str, Any] = {"batch_size": arguments.batch_size, "return_exponent": True}
    for name, analyzer in analyzers:
        explained[name] = _scaled(*analyzer.analyze(rows, **options))
    left_out = analyzers.left_out
    explained |= {name: _scaled(one.values, one.exponents) for name, one in evaluation.saved(arguments, row_names).items()}
    if not explained:
        raise InvalidInputError("This model supports none of the methods:\n" + "\n".join(left_out))
    doubts = [] if found is None else found.doubts()
    made = [
        report.Sample(
            name=name,
            image=None,
            classes=() if found is None else found.likeliest(number, arguments.top),
            said=str(said[number]),
            bars={method: _pairs(names, rows[number], values[number]) for method, values in explained.items()},
        )
        for number, name in enumerate(row_names)
    ]
    facts = f"{model.name}, {len(made)} rows. Each explanation is of {'the predicted class' if found else 'the output'}."
    told = [*doubts, *told_so_far()]
    report.write(out, f"Explanations of {pathlib.Path(arguments.model).name}", made, facts=facts, warnings=told)
    say(f"Wrote {out}: {len(made)} rows, {len(explained)} methods")
    for message in [*(f"warning: {doubt}" for doubt in doubts), *(f"left out: {one}" for one in left_out)]:
        complain(message)
    return 1 if left_out else 0


def _table(path, arguments, model):
    """The rows as one array, and the names of the columns."""
    if arrays.is_array(path):
        rows = arrays.read(path, arguments.preprocess)
        names = arguments.columns or [f"feature {place}" for place in range(rows.shape[-1])]
    else:
        rows, names = spreadsheets.inputs_of(spreadsheets.read(path), model, arguments.columns)
    if not isinstance(rows, np.ndarray) or rows.ndim != 2 or len(names) != rows.shape[1]:
        raise InvalidInputError(
            "A report shows images, or rows of a table for a model with one input (batch, columns). For other samples use "
            "analyze or evaluate."
        )
    return rows, names


def _scaled(values, exponents):
    """Explanations in their unit, float64, as far as they have a place there."""
    return np.ldexp(np.asarray(values, "float64"), exponents[:, None])


def _pairs(names, row, values):
    """`(name and value, contribution)` of each column."""
    return [(f"{name} = {value:.4g}", float(one)) for name, value, one in zip(names, row, values, strict=True)]
