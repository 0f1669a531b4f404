"""For the tests of graphs: what a graph computes, node by node, and that it is what its model computes."""

import keras
from comparing import assert_close

from innvest_lite.forms import forms_of


def evaluate(graph, x):
    """The outputs of a graph whose activations are split, through its forms."""
    forms = forms_of(graph)
    values = dict(zip(graph.inputs, map(keras.ops.convert_to_tensor, keras.tree.flatten(x)), strict=True))
    for node in graph.nodes:
        outputs = forms[node.name].forward(*(values[value] for value in node.inputs))
        values.update(zip(node.values, outputs, strict=True))
    return [values[value].numpy() for value in graph.outputs]


def assert_computes(graph, model, x, expected=None):
    """A graph gives what the model gives, relative to the largest value."""
    assert_close(evaluate(graph, x), expected or keras.tree.flatten(model(x, training=False)))


def names(graph):
    return [node.name for node in graph.nodes]
