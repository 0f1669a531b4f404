"""What recurrent layers compute in all of their steps, as if steps and samples together were the samples of a batch.

Comes in: a graph, its forms and a batch. Goes out: the values of the graph, and those of each recurrent layer's graph of
one step, node by node. Called by the fitter, for which a step of a sample is one pair (x, y) of the layer's weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from keras import ops

from innvest_lite.forms.base import Form
from innvest_lite.forms.values import values_of
from innvest_lite.graph import Graph, Node, Value
from innvest_lite.graph.interpret import interpreted
from innvest_lite.graph.recurrence import Given, forwards


def every_node(
    graph: Graph, forms: Mapping[str, Form], inputs: Sequence[Any], weights: Any = None
) -> Iterator[tuple[Node, dict[Value, Any], Any]]:
    """Evaluates a graph, node by node, and behind it, for all steps at once, those of its recurrent layers.

    Args:
        graph: a `Graph`.
        forms: node name -> form, for `graph.every_node`.
        inputs: a tensor for each input of the graph.
        weights: how much each sample counts, float32 (samples,); None: all alike.

    Returns:
        A generator of `(node, values, weights)`: each node of the graph when its outputs are among the values, then those
        of the graph of one step of each recurrent layer. Their values have a row for each step of each sample, steps first,
        and weights that are 0 where the step is masked. What no later node takes may be taken out of the values.
    """
    stepped = []

    def evaluated(node: Node, taken: tuple[Any, ...]) -> tuple[Any, ...]:
        if node.steps is None:
            return forms[node.name].forward(*taken)
        outputs, rows, seen = _over_steps(node, forms, taken)
        stepped.append((node, rows, seen))
        return outputs

    values = dict(zip(graph.inputs, inputs, strict=True))
    for node in interpreted(graph, evaluated, values):
        yield node, values, weights
    for node, rows, seen in stepped:
        steps: Any = node.steps
        yield from every_node(steps, forms, rows, _of_rows(weights, seen, node, rows[0]))


def _over_steps(node, forms, inputs):
    """`(outputs, what the graph of a step takes in all steps, which of these rows count or None)`."""
    given = Given.of_node(node, inputs)

    def one(*tensors):
        values = values_of(node.steps, forms, tensors)
        return [values[value] for value in node.steps.outputs]

    outputs, states = forwards(node, one, given)
    sequences, *mask = given.by_step(node.operation)
    rows = [ops.reshape(x, (-1, *ops.shape(x)[2:])) for x in (sequences, *states)]
    return tuple(outputs), rows, ops.reshape(mask[0], (-1,)) if mask else None


def _of_rows(weights, seen, node, rows):
    """What each step of each sample counts."""
    if weights is not None:
        samples: Any = node.input_specs[0].samples
        # A sample may be several to the layer, as in a series of series.
        weights = ops.repeat(weights, samples.rows)
        weights = ops.tile(weights, [ops.shape(rows)[0] // ops.shape(weights)[0]])
    if seen is None:
        return weights
    seen = ops.cast(seen, "float32")
    return seen if weights is None else seen * weights
