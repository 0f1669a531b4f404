"""What the backend takes of TensorFlow that is not documented, name by name: a new release that lacks one is told here.

The walk at the end holds that no private name is used that has no canary.
"""

import pathlib
import re

import pytest
import tensorflow as tf

import innvest_lite

BACKEND = pathlib.Path(innvest_lite.__file__).parent / "backend"
PRIVATE_MODULES = {
    "tensorflow.python.framework.function_def_to_graph",
    "tensorflow.lite.python.convert_phase",
}
PRIVATE_ATTRIBUTES = {"_get_function", "_handle_name"}


def traced(function, *shapes, **options):
    signature = [tf.TensorSpec(shape) for shape in shapes]
    return tf.function(function, input_signature=signature, autograph=False, **options)


def test_canary_get_function_and_function_def_to_graph():
    """A graph knows the functions that it calls, as a graph or as a definition that becomes one."""
    from tensorflow.python.framework.function_def_to_graph import function_def_to_graph

    inner = traced(lambda x: 2 * x + 1, (3,))
    graph = traced(lambda x: inner(x), (3,)).get_concrete_function().graph
    (call,) = (operation for operation in graph.get_operations() if "PartitionedCall" in operation.type)
    definition = graph._get_function(call.get_attr("f").name)
    # In some releases it is a definition, in others it has its graph already.
    found = getattr(definition, "graph", None) or function_def_to_graph(definition.function_def)
    rebuilt = function_def_to_graph(graph.as_graph_def().library.function[0])
    for known in (found, rebuilt):
        assert {"Mul", "AddV2"} <= {operation.type for operation in known.get_operations()}
        assert [len(known.inputs), len(known.outputs)] == [1, 1]


def test_canary_converter_error():
    """What LiteRT's converter raises where it lacks an operation, and how its message lists them."""
    from tensorflow.lite.python.convert_phase import ConverterError

    concrete = traced(lambda x: tf.linalg.inv(x), (3, 3)).get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], tf.Module())
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    with pytest.raises(ConverterError, match=r"(TF Select|Custom) ops: \w+"):
        converter.convert()


def test_canary_handle_name(tmp_path):
    """The name under which a SavedModel writes a variable; one that begins with an underscore cannot be written."""
    module = tf.Module()
    module.variable = tf.Variable(1.0, name="_w")
    assert module.variable._handle_name == "_w:0"
    module.double = tf.function(lambda: 2 * module.variable, input_signature=[])
    module.variable._handle_name = "w_w:0"
    tf.saved_model.save(module, tmp_path / "model")
    assert tf.saved_model.load(tmp_path / "model").double().numpy() == 2


def test_canary_captures_and_variables_of_a_graph():
    """Pairs of what a graph takes from outside and its stand-in inside; a variable is there by its handle."""
    variable, constant = tf.Variable([1.0, 2.0]), tf.constant([3.0, 4.0])
    graph = traced(lambda x: x * variable + constant, (2,)).get_concrete_function().graph
    captured = {id(outside): inside for outside, inside in graph.captures}
    assert set(captured) == {id(variable.handle), id(constant)}
    assert [id(found) for found in graph.variables] == [id(variable)]
    assert {id(inside) for inside in captured.values()} < {id(tensor) for tensor in graph.inputs}


def test_canary_node_def_and_create_op():
    """An operation can be made again in another graph from its type, its attributes and its inputs."""
    graph = traced(lambda x: tf.nn.elu(x), (2,)).get_concrete_function().graph
    (operation,) = (operation for operation in graph.get_operations() if operation.type == "Elu")
    attributes = dict(operation.node_def.attr.items())

    def again(x):
        made = tf.compat.v1.get_default_graph().create_op("Elu", [x], [tf.float32], attrs=attributes)
        return made.outputs[0]

    x = tf.constant([-1.0, 2.0])
    assert traced(again, (2,))(x).numpy() == pytest.approx(tf.nn.elu(x).numpy())


def test_canary_compiler_ir():
    """XLA tells its program as StableHLO."""
    program = traced(lambda x: x * 2, (3,), jit_compile=True)
    text = program.experimental_get_compiler_ir(tf.TensorSpec((3,)))(stage="stablehlo")
    assert "stablehlo.multiply" in text


def test_canary_structured_outputs_and_input_signature():
    """A program keeps the names of its outputs and the signature that it was made for."""
    function = traced(lambda x: {"b": x, "a": 2 * x}, (3,))
    assert sorted(function.get_concrete_function().structured_outputs) == ["a", "b"]
    assert [spec.shape.as_list() for spec in function.input_signature] == [[3]]


def test_every_private_name_has_a_canary():
    used_modules, used_attributes = set(), set()
    for path in BACKEND.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        used_modules |= set(re.findall(r"(?:from|import) (tensorflow\.[\w.]+)", text))
        own = set(re.findall(r"def (_\w+)", text))
        used_attributes |= set(re.findall(r"(?<!self)(?<!cls)\.(_[a-z]\w*)", text)) - own
    assert used_modules == PRIVATE_MODULES
    assert used_attributes == PRIVATE_ATTRIBUTES


@pytest.mark.filterwarnings("ignore")
def test_canary_errors_of_the_converter():
    """`formats` reads them from `ConverterError.errors`, of a module without a public name."""
    from tensorflow.lite.python.convert_phase import ConverterError

    function = tf.function(lambda x: tf.raw_ops.Betainc(a=x, b=x, x=x), autograph=False)
    module = tf.Module()
    module.function = function
    concrete = function.get_concrete_function(tf.TensorSpec((2,), "float32"))
    with pytest.raises(ConverterError) as error:
        tf.lite.TFLiteConverter.from_concrete_functions([concrete], module).convert()
    assert "tf.Betainc" in {cause.operator.name for cause in error.value.errors}
