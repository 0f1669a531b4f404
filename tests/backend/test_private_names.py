"""Each private name of TensorFlow that the package uses: a canary that says, by its name, what a new version took away."""

import pytest
import tensorflow as tf


@tf.function(input_signature=[tf.TensorSpec((2,), "float32")])
def doubled(x):
    return tf.while_loop(lambda i, _: i < 1, lambda i, y: (i + 1, 2 * y), (0, x))[1]


def test_the_graph_of_a_function_by_its_name():
    """`portable` looks into loops and calls: `FuncGraph._get_function`, `function_def_to_graph`."""
    from tensorflow.python.framework.function_def_to_graph import function_def_to_graph

    graph = doubled.get_concrete_function().graph
    (loop,) = [operation for operation in graph.get_operations() if "While" in operation.type]
    definition = graph._get_function(loop.get_attr("body").name)
    assert len(definition.graph.outputs) == len(loop.outputs)
    assert len(function_def_to_graph(definition.definition).outputs) == len(loop.outputs)


def test_what_a_graph_takes_from_outside():
    """`portable` and `formats` tell variables from constants: `FuncGraph.captures`, `FuncGraph.variables`."""
    weight = tf.Variable([1.0, 2.0])
    graph = tf.function(lambda x: x * weight).get_concrete_function(tf.TensorSpec((2,), "float32")).graph
    assert [id(outside) for outside, _ in graph.captures] == [id(weight.handle)]
    assert [id(variable) for variable in graph.variables] == [id(weight)]


@pytest.mark.filterwarnings("ignore")
def test_the_operations_that_litert_lacks():
    """`formats` reads them from `ConverterError.errors`, of a module without a public name."""
    from tensorflow.lite.python.convert_phase import ConverterError

    function = tf.function(lambda x: tf.raw_ops.Betainc(a=x, b=x, x=x), autograph=False)
    module = tf.Module()
    module.function = function
    concrete = function.get_concrete_function(tf.TensorSpec((2,), "float32"))
    with pytest.raises(ConverterError) as error:
        tf.lite.TFLiteConverter.from_concrete_functions([concrete], module).convert()
    assert "tf.Betainc" in {cause.operator.name for cause in error.value.errors}
