"""`innvest-lite inspect`: what a method does with a model, node by node, or why it cannot; what is in a pattern file."""

from __future__ import annotations

import argparse

import innvest_lite
from innvest_lite.cli import models
from innvest_lite.cli.terminal import say
from innvest_lite.errors import InvalidInputError, UnsupportedLayerError
from innvest_lite.tables import printable


def run(arguments: argparse.Namespace) -> int:
    """Prints shapes and plans, or a report; returns 1 if a method does not support the model, else 0."""
    if arguments.patterns:
        return _print_report(arguments)
    if not arguments.model or arguments.csv:
        raise InvalidInputError("Give a model to inspect, or a pattern file with --patterns; --csv is for pattern files.")
    model = models.load(arguments.model)
    try:
        graph = innvest_lite.graph.trace(model)
    except UnsupportedLayerError as error:
        say(error)
        return 1
    say(f"{printable(model.name)}: {type(model).__name__}, {model.count_params():,} parameters")
    say(f"inputs: {_described([value.node for value in graph.inputs], model.inputs)}")
    say(f"outputs: {_described(graph.output_names, model.outputs)}")
    names = list(innvest_lite.ANALYZERS) if arguments.all else [arguments.method]
    supported = [_print_plan(name, model, arguments.output_name) for name in names]
    return int(not all(supported))


def _print_report(arguments):
    """Prints the report of a pattern file; with a model, also checks that the patterns belong to it."""
    patterns = innvest_lite.Patterns.load(arguments.patterns)
    if arguments.model:
        model = models.load(arguments.model)
        innvest_lite.create_analyzer("pattern.attribution", model, patterns=patterns)
    if arguments.csv:
        say(patterns.report().to_csv().rstrip("\n"))
        return 0
    say(patterns.report())
    say(f"{len(patterns)} layers, {sum(array.size for array in patterns.values()):,} values")
    if arguments.model:
        say(f"They belong to {arguments.model} and its present weights.")
    return 0


def _described(names, tensors):
    """Name, shape and dtype of each."""
    pairs = zip(names, tensors, strict=True)
    return ", ".join(f"{printable(name)} {tuple(tensor.shape)} {tensor.dtype}" for name, tensor in pairs)


def _print_plan(name, model, output):
    """Prints the plan of one method, or the list of what it does not support; returns whether it does."""
    say(f"\n{name}")
    try:
        say(innvest_lite.create_analyzer(name, model, output=output).plan())
    except UnsupportedLayerError as error:
        say(error)
        return False
    return True
