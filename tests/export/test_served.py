"""The endpoints of an exported analyzer: what they give is what `analyze` gives, before they are written and from a file.

What stands in a file besides has `test_files.py`, LiteRT and ONNX have `test_portable.py`, images and pictures
`test_pictures.py`.
"""

import keras
import models
import numpy as np
import pytest
import tensorflow as tf
from comparing import assert_close, offenders
from exports import is_compiled, seeds, served_by
from registered import OF_EACH_CLASS, create, model

import innvest_lite
from innvest_lite import Gradient, InvalidInputError, PatternAttribution, Random, SmoothGrad

X = models.normal(5, 9, 8, 2)
TARGETS = np.array([2, 0, 1, 1, 2], "int32")
# One of each way in which an explanation is made; the rest is slow, and random numbers have a test of their seed.
FEW = ("gradient", "vargrad", "pattern.attribution", "gradcam", "occlusion")


def operations(concrete):
    """All operations of a program, also those of the functions that it calls."""
    definition = concrete.graph.as_graph_def(add_shapes=True)
    return [*definition.node, *(node for function in definition.library.function for node in function.node_def)]


def serves_as_it_analyzes(name, served):
    """For any number of samples."""
    analyzer = create(name)
    serve = served(analyzer)
    for samples in (5, 1):
        given = tf.constant(X[:samples]), tf.constant(TARGETS[:samples])
        results = serve(*given, *seeds(analyzer))
        assert_close(results["attributions"], analyzer(X[:samples], target=TARGETS[:samples]))
        np.testing.assert_array_equal(results["target"], TARGETS[:samples])


def test_an_analyzer_is_served_as_it_analyzes(eager):
    served = lambda analyzer: served_by(analyzer, "serve", target="input", predictions=False)["serve"]  # noqa: E731
    assert offenders(lambda name: serves_as_it_analyzes(name, served), FEW) == {}


# `scripts/checks/export.py` goes through all names, in an environment that has TensorFlow alone.
@pytest.mark.slow
@pytest.mark.parametrize("name", OF_EACH_CLASS)
def test_every_analyzer_is_served_from_a_file_as_it_analyzes(name, exported):
    serves_as_it_analyzes(name, lambda analyzer: exported(analyzer, target="input", predictions=False).serve)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pattern.attribution", "smoothgrad", "rise", "input"])
def test_predictions_are_those_of_the_model(name, exported):
    analyzer = create(name)
    results = exported(analyzer).serve(X, *seeds(analyzer))
    assert sorted(results) == ["attributions", "predictions", "target"]
    assert_close(results["predictions"], model().predict(X, verbose=0), 2e-6)
    np.testing.assert_array_equal(results["target"], results["predictions"].numpy().argmax(1))


LOAD_ALONE = """
import sys
sys.modules["innvest_lite"] = sys.modules["keras"] = None
import numpy as np, tensorflow as tf
for folder in sys.argv[2:]:
    served = tf.saved_model.load(folder)
    given = np.load(sys.argv[1])
    serve = served.signatures["serve"]
    seed = {"seed": tf.constant(3, tf.int64)} if "seed" in serve.structured_input_signature[1] else {}
    results = serve(x=tf.constant(given["x"]), **seed)
    np.savez(folder + ".npz", **results)
    rest = {"predict"} if "predictions" in results else set()
    assert set(served.signatures) == {"serve", "explain", "serving_default"} | rest, served.signatures
"""


# Quick for the gradient: the service of `test_serve_example.py` has neither.
@pytest.mark.slow
def test_loaded_where_there_is_neither_this_package_nor_keras(python, tmp_path):
    analyzers = {"pattern.attribution": create("pattern.attribution"), "random": create("random", seed=3)}
    np.savez(tmp_path / "x.npz", x=X)
    for name, analyzer in analyzers.items():
        analyzer.export(tmp_path / name, predictions=not analyzer.is_random)
    python(LOAD_ALONE, tmp_path / "x.npz", *(tmp_path / name for name in analyzers))
    for name, analyzer in analyzers.items():
        results = np.load(tmp_path / f"{name}.npz")
        assert_close(results["attributions"], analyzer(X))
        np.testing.assert_array_equal(results["target"], model()(X).numpy().argmax(1))
    assert_close(np.load(tmp_path / "pattern.attribution.npz")["predictions"], model()(X), 2e-6)


# Signatures ----------------------------------------------------------------------------------------------------------


def test_one_forward_pass_for_all():
    """`serve` has as many convolutions as `explain`, and `predict` those of the model."""
    endpoints = served_by(create("guided_backprop"))
    counts = [
        [node.op for node in operations(endpoints[name].get_concrete_function())].count("Conv2D")
        for name in ("serve", "explain", "predict")
    ]
    assert len(set(counts)) == 1 and counts[0] > 1


def test_explanations_are_traced_once(monkeypatch, eager):
    """`explain` is a call of what is served: of a deep network, tracing is most of what an export takes."""
    traced, explained = [], innvest_lite.export.Served._explained
    monkeypatch.setattr(innvest_lite.export.Served, "_explained", lambda *given: traced.append(1) or explained(*given))
    endpoints = served_by(create("gradient"), "serve", "explain")
    assert len(traced) == 1
    served, without = (endpoints[name](tf.constant(X)) for name in ("serve", "explain"))
    assert set(served) == {*without, "predictions"}
    np.testing.assert_array_equal(without["attributions"], served["attributions"])


@pytest.mark.slow
def test_the_largest_is_explained(exported, eager):
    analyzer = create("gradient")
    served = exported(analyzer)
    results = served.serve(X)
    np.testing.assert_array_equal(results["target"], model()(X).numpy().argmax(1))
    assert_close(results["attributions"], analyzer.analyze(X))
    explained = served.explain(X)
    assert sorted(explained) == ["attributions", "target"]
    np.testing.assert_array_equal(explained["attributions"], results["attributions"])
    assert list(served.predict(X)) == ["predictions"]
    np.testing.assert_array_equal(served.predict(X)["predictions"], results["predictions"])


# Compiled or not, the sample that fills an empty batch is put in before and cut off behind.
@pytest.mark.parametrize("jit_compile", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_no_samples(jit_compile):
    """Max pooling's gradient would end the process."""
    stack = [keras.layers.Conv2D(4, 3, activation="relu"), keras.layers.MaxPooling2D(), keras.layers.Flatten()]
    pooled = keras.Sequential([keras.Input((9, 8, 2)), *stack, keras.layers.Dense(3)])
    served = served_by(Gradient(pooled, jit_compile=jit_compile), "serve", "predict", target="input")
    results = served["serve"](X[:0], TARGETS[:0])
    shapes = {name: tuple(tensor.shape) for name, tensor in results.items()}
    assert shapes == {"attributions": (0, 9, 8, 2), "predictions": (0, 3), "target": (0,)}
    assert served["predict"](X[:0])["predictions"].shape == (0, 3)


def test_functions_take_their_arguments_by_name(exported):
    case, targets = models.case("dense"), np.array([2, 0, 1, 1, 2, 0], "int32")
    served = exported(Gradient(case.model), target="input")
    by_place = served.serve(case.x, targets)
    by_name = served.serve(target=targets, x=case.x)
    np.testing.assert_array_equal(by_name["attributions"], by_place["attributions"])
    assert_close(served.predict(x=case.x)["predictions"], models.predicted("dense")[0][0], 2e-6)
    with pytest.raises(TypeError, match="missing a required argument: 'target'"):
        served.explain(x=case.x)


def test_float64_models_and_names_that_are_taken(exported, eager):
    inputs = [keras.Input((3,), name=name, dtype="float64") for name in ("target_", "target")]
    total = keras.layers.Dense(2, dtype="float64")(keras.layers.Concatenate(dtype="float64")(inputs))
    analyzer = innvest_lite.InputTimesGradient(keras.Model(inputs, total))
    served, x = exported(analyzer), [np.random.default_rng(seed).normal(size=(4, 3)) for seed in (0, 1)]
    results = served.serve(target_=x[0], target__=x[1])
    for name, expected in zip(("target_", "target__"), analyzer.analyze(x), strict=True):
        assert results[f"attributions_{name}"].dtype == results["predictions"].dtype == tf.float64
        np.testing.assert_allclose(results[f"attributions_{name}"], expected, rtol=1e-13)


def test_one_number_names_no_output_of_open_shape():
    x = keras.Input((None,))
    with pytest.raises(InvalidInputError, match="one number names no output: export with target='argmax'"):
        served_by(Gradient(keras.Model(x, keras.layers.ReLU()(x))), target="input")


def test_the_largest_of_an_output_with_positions():
    inputs = keras.Input((4, 3))
    analyzer = Gradient(keras.Model(inputs, keras.layers.Dense(2)(inputs)))
    x = models.normal(3, 4, 3)
    results = served_by(analyzer, "serve")["serve"](x)
    assert_close(results["attributions"], analyzer(x))
    np.testing.assert_array_equal(results["target"], results["predictions"].numpy().reshape(3, -1).argmax(1))


def test_without_predictions():
    served = served_by(create("gradient"), predictions=False)
    assert sorted(served) == ["explain", "serve"]
    assert sorted(served["serve"](X)) == sorted(served["explain"](X)) == ["attributions", "target"]


@pytest.mark.parametrize("name", ["gradient", "occlusion"])
def test_a_target_out_of_range_stops_the_program(name):
    """Also from a file: see the compiled one below."""
    serve = served_by(create(name), "serve", target="input", predictions=False)["serve"]
    for target in (3, -1):
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"out of range: the model has outputs 0 to 2, but got.*"):
            serve(X, tf.constant([0, 1, 2, target, 0]))


@pytest.mark.slow
def test_a_fixed_batch(eager):
    analyzer = create("smoothgrad")
    serve = served_by(analyzer, "serve", batch=5)["serve"]
    assert_close(serve(X, *seeds(analyzer))["attributions"], analyzer(X))
    with pytest.raises(TypeError):
        serve(X[:3], *seeds(analyzer))


@pytest.mark.slow
def test_a_single_sample_is_evaluated_side_by_side():
    """At most 32 at a time, as in `analyze`, where the batch is known to be one: two rounds of 20."""
    analyzer = SmoothGrad(model(), augment_by_n=40)
    for samples, at_a_time in ((1, 20), (None, None)):
        nodes = operations(served_by(analyzer, "serve", batch=samples)["serve"].get_concrete_function())
        shapes = [node.attr["_output_shapes"].list.shape[0] for node in nodes if node.op == "Conv2D"]
        assert (at_a_time or -1) in {shape.dim[0].size for shape in shapes}


def test_the_seed_is_an_input(eager):
    explain, found = served_by(Random(model()), "explain")["explain"], {}
    for seed in (5, 2**32 + 5, 2**62 + 1):
        found[seed] = explain(x=X, seed=tf.constant(seed, tf.int64))["attributions"].numpy()
        assert_close(found[seed], Random(model(), seed=seed)(X), 1e-6)
    assert len(np.unique(list(found.values()))) > 0.99 * 3 * X.size


STRUCTURES = [(Gradient, name) for name in ("two_inputs", "several", "sigmoid_head")]
STRUCTURES += [(PatternAttribution, "dict_inputs"), (SmoothGrad, "text")]
# The names and arrays of an input that is a dict, in the order of the endpoints' arguments: Keras's, alphabetical.
FLAT = {"dict_inputs": ("a", "z"), "two_inputs": ("a", "b")}


@pytest.mark.slow
@pytest.mark.parametrize("method, name", STRUCTURES)
def test_structures(method, name, exported):
    case = models.case(name)
    analyzer = models.fitted(method, name, **({"augment_by_n": 3} if method is SmoothGrad else {}))
    served = exported(analyzer)
    results = served.serve(*keras.tree.flatten(case.x), *seeds(analyzer))
    keys = [f"attributions_{one}" for one in FLAT[name]] if name in FLAT else ["attributions"]
    for key, one in zip(keys, keras.tree.flatten(analyzer.analyze(case.x)), strict=True):
        assert_close(results[key], one)
    outputs, _ = models.predicted(name)
    assert any(one.shape == results["predictions"].shape and np.allclose(one, results["predictions"]) for one in outputs)


@pytest.mark.slow
def test_names_of_inputs_that_are_taken_or_no_names(exported, eager):
    """And what a model of several inputs gives."""
    inputs = [keras.Input((2,), name=name) for name in ("target", "a b", "1st", "a_b")]
    odd = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Concatenate()(inputs)))
    analyzer, x = Gradient(odd), [models.normal(3, 2, seed=seed) for seed in range(4)]
    served = exported(analyzer, target="input")
    arguments = served.signatures["serve"].structured_input_signature[1]
    assert sorted(arguments) == ["a_b", "a_b_", "target", "target_", "x_1st"]
    results = served.serve(target_=x[0], a_b=x[1], x_1st=x[2], a_b_=x[3], target=np.array([0, 1, 0], "int32"))
    names = ("attributions_target_", "attributions_a_b", "attributions_x_1st", "attributions_a_b_")
    assert_close([results[name] for name in names], analyzer(x, target=[0, 1, 0]))


def test_predictions_have_the_head_of_the_model():
    def has_the_head(name):
        results = served_by(Gradient(models.case(name).model), "predict")["predict"](models.case(name).x)
        assert_close(results["predictions"], models.predicted(name)[0][0], 2e-6)

    assert offenders(has_the_head, [name for name in models.NAMES if name.endswith("head")]) == {}


def test_mixed_precision(eager):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        half = models.build("conv_bn")
    finally:
        keras.config.set_dtype_policy("float32")
    x = models.case("conv_bn").x
    results = served_by(Gradient(half), "serve")["serve"](x)
    assert results["attributions"].dtype == results["predictions"].dtype == tf.float32
    assert_close(results["attributions"], Gradient(half).analyze(x))


@pytest.mark.slow
def test_compiled_where_the_analyzer_says_so(exported, eager):
    """Behind the check of the target, which XLA would drop."""
    served = exported(create("gradient", jit_compile=True), target="input", predictions=False)
    assert is_compiled(served.serve)
    with pytest.raises(tf.errors.InvalidArgumentError, match="out of range"):
        served.serve(X, TARGETS + 1)
    assert_close(served.serve(X, TARGETS)["attributions"], create("gradient")(X, target=TARGETS))


@pytest.mark.slow
def test_exported_after_use_and_as_loaded_from_a_file(tmp_path):
    analyzer = create("pattern.attribution")
    expected = analyzer.analyze(X)
    analyzer.save(tmp_path / "analyzer.keras")
    loaded = keras.saving.load_model(tmp_path / "analyzer.keras")
    assert_close(served_by(loaded, "serve")["serve"](X)["attributions"], expected)
