"""`innvest-lite inspect`: what a method does with a model, node by node, or why it cannot; what is in a pattern file."""

from __future__ import annotations

import argparse
import logging
import textwrap

import innvest_lite
from innvest_lite.cli import models
from innvest_lite.cli.terminal import say
from innvest_lite.errors import InvalidInputError, UnsupportedLayerError
from innvest_lite.tables import printable, table

# Of what one line says: how many kinds of layers, and how many letters of a message.
_KINDS, _LONGEST = 3, 120


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
    if any(tensor.dtype == "string" for tensor in model.inputs):
        model = _behind_texts(model)
    if not arguments.all:
        return int(not _print_plan(arguments.method, model, arguments.output_name))
    stops = {name: _stops(name, model, arguments.output_name) for name in innvest_lite.ANALYZERS}
    say()
    say(table(("method", "explains it"), [(name, f"no: {where}" if where else "yes") for name, where in stops.items()]))
    if any(stops.values()):
        say("\n--method NAME lists all nodes at which one stops, and what to do.")
    from innvest_lite.analyzers.registry import OF_ATTENTION

    # Of a network without attention it is no fault that methods of attention stop.
    return int(any(where for name, where in stops.items() if name not in OF_ATTENTION))


def _behind_texts(model):
    """The part of a model of texts that is explained; the model itself, where it does not begin with what reads them."""
    try:
        preprocessor, rest = innvest_lite.texts.split(model)
    except InvalidInputError:
        return model
    say(f"texts are explained from what {printable(preprocessor.name)} makes of them on")
    return rest


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


def _stops(name, model, output):
    """Where a method stops, in a few words; "" where it does not."""
    log = logging.getLogger("innvest_lite")
    level = log.level
    # What a method warns of belongs to its own line, not above the table of all.
    log.setLevel(logging.ERROR)
    try:
        innvest_lite.create_analyzer(name, model, output=output)
    except UnsupportedLayerError as error:
        nodes: dict[str, list[str]] = {}
        for node in error.nodes:
            nodes.setdefault(printable(node.layer), []).append(printable(node.name))
        kinds = [f"{kind} ({_few(found, 1)})" for kind, found in nodes.items()]
        return _few(kinds, _KINDS) if kinds else _first_sentence(error)
    except InvalidInputError as error:
        return _first_sentence(error)
    finally:
        log.setLevel(level)
    return ""


def _few(names, most):
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _first_sentence(error):
    return textwrap.shorten(printable(str(error).partition(". ")[0]), _LONGEST, placeholder=" ...")


def _print_plan(name, model, output):
    """Prints the plan of one method, or the list of what it does not support; returns whether it does."""
    say(f"\n{name}")
    try:
        say(innvest_lite.create_analyzer(name, model, output=output).plan())
    except UnsupportedLayerError as error:
        say(error)
        return False
    return True
