"""`Analyzer` as people use it: inputs, batches, tracing, the user's model, files, and the replica of the paper."""

import functools
import hashlib
import json

import keras
import models
import numpy as np
import pytest
import registered
import replicas
import tensorflow as tf
from comparing import assert_close, offenders
from keras import layers
from loop_replicas import assert_saved
from models import fitted
from probes import probed

import innvest_lite
from innvest_lite import Gradient, PatternAttribution, PatternNet
from innvest_lite.analyzers.batches import run
from innvest_lite.patterns.layout import Layout


def made(method, name, **options):
    """A new analyzer of a named model; patterns that need no data are as good as others here."""
    model, options = models.case(name).model, {**models.case(name).options, **options}
    if method is not Gradient:
        options["patterns"] = innvest_lite.fit_patterns(model, estimator="filter")
    return method(model, **options)


# What comes in and goes out ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [Gradient, PatternAttribution])
def test_shape_dtype_and_structure(method, eager):
    def fits(name):
        x = models.case(name).x
        heat = made(method, name).analyze(x)
        assert type(heat) is type(x)
        keras.tree.assert_same_structure(heat, x)
        for one, two in zip(keras.tree.flatten(heat), keras.tree.flatten(x), strict=True):
            assert type(one) is np.ndarray and one.dtype == np.float32 and one.shape == two.shape
            assert np.all(np.isfinite(one)) and np.any(one)

    assert offenders(fits, ("conv_bn", "two_inputs", "dict_inputs", "text", "several")) == {}


def test_structures_that_mean_the_same():
    case, analyzer = models.case("two_inputs"), fitted(Gradient, "two_inputs")
    a, b = analyzer.analyze(case.x)
    for given in (tuple(case.x), {"a": case.x[0], "b": case.x[1]}, {"b": case.x[1], "a": case.x[0]}):
        result = analyzer.analyze(given)
        assert type(result) is type(given)
        one, two = (result["a"], result["b"]) if isinstance(given, dict) else result
        np.testing.assert_array_equal(one, a)
        np.testing.assert_array_equal(two, b)
    x, single = models.case("dense").x, fitted(Gradient, "dense")
    np.testing.assert_array_equal(single.analyze([x])[0], single.analyze(x))
    np.testing.assert_array_equal(single.analyze({"x": x})["x"], single.analyze(x))
    np.testing.assert_array_equal(single.analyze(tf.constant(x)), single.analyze(x))
    np.testing.assert_array_equal(single.analyze(x.tolist()), single.analyze(x))


@pytest.mark.parametrize("dtype", ["uint8", "int64", "bool", "float16", "float64", ">f4"])
def test_arrays_of_any_number(dtype):
    x = np.random.default_rng(1).integers(0, 2 if dtype == "bool" else 200, (5, 6)).astype(dtype)
    kept, analyzer = x.copy(), fitted(Gradient, "dense")
    np.testing.assert_array_equal(analyzer.analyze(x), analyzer.analyze(x.astype("float32")))
    np.testing.assert_array_equal(x, kept)


def test_a_model_of_uint8_images_is_explained_in_float32(eager, eager_fits):
    x = keras.Input((4, 4, 2), dtype="uint8")
    value = layers.Flatten()(layers.Rescaling(1 / 255, name="scale")(x))
    model = models.randomize(keras.Model(x, layers.Dense(3)(value)), seed=1)
    data = np.random.default_rng(2).integers(0, 256, (3, 4, 4, 2)).astype("uint8")
    kernel = model.layers[-1].kernel.numpy()
    chosen = model.predict(data, verbose=0).argmax(-1)
    assert_close(Gradient(model)(data), kernel.T[chosen].reshape(data.shape) / 255)
    assert np.any(PatternNet(model).fit(data, verbose=0).analyze(data))


@pytest.mark.parametrize("method", [Gradient, PatternAttribution])
def test_no_samples(method, eager):
    analyzer, x = made(method, "conv_bn"), models.case("conv_bn").x[:0]
    heat, kept, exponent = analyzer.analyze(x, keep=["pool"], return_exponent=True)
    assert (heat.shape, heat.dtype) == (x.shape, np.float32)
    assert kept["pool"].shape == (0, 3, 2, 4)
    assert exponent.shape == (0,) and exponent.dtype == np.int32
    assert analyzer.analyze(x, target=np.zeros(0, int)).shape == analyzer.analyze(x, target=1).shape == x.shape
    assert analyzer.check(x).gap.shape == (0,)


@pytest.mark.parametrize("method", [Gradient, PatternAttribution])
def test_batch_size_does_not_matter(method):
    analyzer, x = fitted(method, "conv_bn"), models.data_for(models.case("conv_bn").model, 13, seed=4)
    whole = analyzer.analyze(x, batch_size=13)
    for batch_size in (1, 5, 12):
        assert_close(analyzer.analyze(x, batch_size=batch_size), whole, 2e-6)


@pytest.mark.parametrize("method", [pytest.param(Gradient, marks=pytest.mark.slow), PatternAttribution])
def test_an_analyzer_is_a_keras_model(method):
    analyzer, x = fitted(method, "conv_bn"), models.case("conv_bn").x
    expected = analyzer.analyze(x)
    assert_close(analyzer(x), expected, 2e-6)
    assert_close(tf.function(analyzer, autograph=False)(x), expected, 2e-6)
    assert_close(analyzer.predict(x, batch_size=4, verbose=0), expected, 2e-6)
    assert_close(analyzer.predict(tf.data.Dataset.from_tensor_slices(x).batch(4), verbose=0), expected, 2e-6)
    inputs = keras.Input(x.shape[1:])
    assert_close(keras.Model(inputs, analyzer(inputs))(x), expected, 2e-6)


# Tracing -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method, options", [(Gradient, {}), (PatternNet, {"fallback": "gradient"})])
def test_one_trace_for_all_batches_and_calls(method, options):
    """The probe is traced with every program, also with those of a fit."""
    model, probe = probed(6)
    x = models.normal(10, 6)
    other = models.normal(10, 6, seed=2)
    analyzer, refitted = (method(model, **options).fit(data, verbose=0) for data in (x, other))

    def traces_of(use):
        before = probe.traces
        use()
        return probe.traces - before

    once = traces_of(lambda: analyzer.analyze(x, batch_size=4))
    with_target = traces_of(lambda: analyzer.analyze(x, target=1))
    assert once > 0 and with_target > 0
    again = [
        lambda: [analyzer.analyze(x[:samples], batch_size=size) for samples, size in ((10, 4), (7, 7), (1, 32))],
        lambda: [analyzer.analyze(x, target=target, batch_size=3) for target in (1, "all", [0] * 10)],
    ]
    assert [traces_of(use) for use in again] == [0, 0]
    if method is not Gradient:
        # Patterns of another fit are used without a new trace of the explanation.
        first, fit = analyzer.analyze(x), traces_of(lambda: refitted.fit(other, verbose=0))
        assert traces_of(lambda: analyzer.fit(other, verbose=0).analyze(x)) == fit
        found = analyzer.analyze(x)
        assert_close(found, refitted(x))
        assert np.abs(found - first).max() > 1e-3 * np.abs(first).max()


def test_check_is_traced_once():
    model, probe = probed(6)
    analyzer, x = Gradient(model), models.normal(10, 6)
    analyzer.check(x, batch_size=4)
    traces = probe.traces
    analyzer.check(x, batch_size=4)
    assert probe.traces == traces


def test_under_xla_a_ragged_batch_comes_in_the_shape_of_the_others():
    shapes = []
    program = lambda x: shapes.append(x.shape) or (x.sum(1),)  # noqa: E731
    x = models.normal(10, 6)
    for pad, last in ((True, 4), (False, 2)):
        shapes.clear()
        (found,) = run(program, [x], 4, pad)
        np.testing.assert_array_equal(found, x.sum(1))
        assert shapes == [(4, 6), (4, 6), (last, 6)]
    analyzer = Gradient(models.case("dense").model, jit_compile=True)
    assert_close(analyzer.analyze(x, batch_size=4), fitted(Gradient, "dense").analyze(x), 2e-6)


@pytest.mark.parametrize(
    "name, method",
    [
        ("dense", PatternNet),
        pytest.param("conv_bn", PatternNet, marks=pytest.mark.slow),
        pytest.param("conv_bn", Gradient, marks=pytest.mark.slow),
        pytest.param("text", PatternAttribution, marks=pytest.mark.slow),
    ],
)
def test_xla_gives_the_same(name, method):
    x, (plain, compiled) = models.case(name).x, (made(method, name, jit_compile=jit) for jit in (False, True))
    assert compiled.jit_compile and not plain.jit_compile
    assert_close(compiled.analyze(x), plain(x), 1e-4)


# The user's model ----------------------------------------------------------------------------------------------------


def fingerprint(model):
    digest = hashlib.sha256()
    for variable in model.weights:
        digest.update(variable.numpy().tobytes())
    each = model._flatten_layers()
    return digest.hexdigest(), [(layer.name, layer.trainable, len(layer._inbound_nodes), layer.built) for layer in each]


@pytest.mark.parametrize("name", [pytest.param("conv_bn", marks=pytest.mark.slow), "nested"])
def test_the_model_is_not_changed(name, tmp_path, eager, eager_fits):
    model, options = models.build(name), models.OPTIONS.get(name, {})
    model.compile("sgd", "mse")
    before, summary, x = fingerprint(model), model.to_json(), models.data_for(model)
    for method in (Gradient, PatternAttribution):
        analyzer = method(model, **options).fit(x, verbose=0)
        analyzer.analyze(x)
        analyzer(x)
        analyzer.check(x)
        analyzer.save(tmp_path / "analyzer.keras")
    assert fingerprint(model) == before and model.to_json() == summary
    for layer in model.layers:
        assert layer.output is not None and layer.input is not None
    predicted = model.predict(x, verbose=0)
    model.fit(x, keras.tree.map_structure(np.ones_like, predicted), verbose=0)
    assert fingerprint(model)[0] != before[0]


# Files ---------------------------------------------------------------------------------------------------------------

LOAD = """
import json, sys
import innvest_lite, keras
import numpy as np
folder, results = sys.argv[1], {}
for name, target in json.load(open(folder + "/cases.json")).items():
    analyzer = keras.saving.load_model(f"{folder}/{name}.keras")
    x = dict(np.load(f"{folder}/{name}.npz"))
    heat = analyzer.analyze(x if len(x) > 1 else x["x"], target=target)
    results[name] = heat["a"] if isinstance(heat, dict) else heat
np.savez(folder + "/found.npz", **results)
"""


@pytest.mark.slow
def test_loaded_in_a_new_process_bit_for_bit(python, tmp_path):
    """One that imports `innvest_lite` before Keras; here Keras is imported first, and all that is loaded shows the rest."""
    cases = {
        "attribution": (fitted(PatternAttribution, "conv_bn"), 1),
        "dict": (made(Gradient, "dict_inputs"), "all"),
        "random": (innvest_lite.Random(models.case("dense").model, seed=9, stddev=2.0), None),
    }
    expected = {}
    for name, (analyzer, target) in cases.items():
        x = models.data_for(analyzer.model)
        np.savez(tmp_path / f"{name}.npz", **(x if isinstance(x, dict) else {"x": x}))
        heat = analyzer.analyze(x, target=target)
        expected[name] = heat["a"] if isinstance(heat, dict) else heat
        analyzer.save(tmp_path / f"{name}.keras")
    (tmp_path / "cases.json").write_text(json.dumps({name: target for name, (_, target) in cases.items()}))
    python(LOAD, tmp_path)
    with np.load(tmp_path / "found.npz") as found:
        assert sorted(found) == sorted(expected)
        for name, values in found.items():
            np.testing.assert_array_equal(values, expected[name], err_msg=name)


@pytest.mark.parametrize(
    "method, name, options",
    [
        (Gradient, "several", {}),
        (PatternNet, "shared", {}),
        (PatternAttribution, "nested", {}),
        (PatternNet, "opaque", {"fallback": "gradient"}),
    ],
)
def test_models_and_options_come_back_from_a_file(method, name, options, tmp_path, eager):
    assert_saved(made(method, name, **options), models.case(name).x, tmp_path)


def test_a_loaded_analyzer_knows_its_patterns(tmp_path):
    analyzer = fitted(PatternAttribution, "conv_bn")
    analyzer.save(tmp_path / "net.keras")
    loaded = keras.saving.load_model(tmp_path / "net.keras")
    assert dict(loaded.patterns.report()) == dict(analyzer.patterns.report())
    assert loaded.patterns.fingerprints == analyzer.patterns.fingerprints
    assert list(loaded.patterns) == list(analyzer.patterns)
    for name, pattern in analyzer.patterns.items():
        np.testing.assert_array_equal(loaded.patterns[name], pattern)
    PatternNet(models.case("conv_bn").model, patterns=loaded.patterns)
    with pytest.raises(innvest_lite.NotFittedError):
        PatternNet(models.case("dense").model).save(tmp_path / "empty.keras")
        keras.saving.load_model(tmp_path / "empty.keras").analyze(models.case("dense").x)


def my_loss(wanted, predicted):
    return keras.ops.mean(wanted - predicted)


def test_a_model_that_is_compiled_with_a_loss_of_its_own(tmp_path):
    """How a model was trained is nothing to its explanation, so its file needs none of that."""
    model, x = models.build("dense"), models.case("dense").x
    model.compile("adam", loss=my_loss)
    analyzer = Gradient(model)
    analyzer.save(tmp_path / "gradient.keras")
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "gradient.keras")(x), analyzer(x))


# Identities and replicas ---------------------------------------------------------------------------------------------

WITHOUT_SCALE = [name for name in models.PATTERNED if name not in ("shapes", "shared", "gate", "text", "nested")]


# Heads differ in where the logits are found, which each has a test for; the others, by how their kinds of layers are met.
OF_EACH_WAY = ("dense", "conv_bn", "residual", "nested_twice", "dict_inputs", "separable", "conv1d", "einsum")
OF_EACH_WAY += ("activation_layers", "sigmoid_head", "several")


def with_the_kernels_it_is_the_gradient_times_the_logit(name):
    case = models.case(name)
    kernels = {name: form.kernel().numpy() for name, form in Layout.of(case.model).patterned.items()}
    analyzer = PatternNet(case.model, patterns=kernels, **case.options)
    (logits,) = models.predicted(name)[1]
    gradient = Gradient(case.model, **case.options)(case.x)
    times = lambda one: np.asarray(one) * logits.max(-1).reshape(-1, *[1] * (len(one.shape) - 1))  # noqa: E731
    assert_close(analyzer(case.x), keras.tree.map_structure(times, gradient))


def test_pattern_net_with_the_kernels_is_the_gradient_times_the_logit(eager):
    assert offenders(with_the_kernels_it_is_the_gradient_times_the_logit, OF_EACH_WAY) == {}


@pytest.mark.slow
def test_in_all_models_pattern_net_with_the_kernels_is_the_gradient_times_the_logit():
    others = [name for name in WITHOUT_SCALE if name not in OF_EACH_WAY]
    assert offenders(with_the_kernels_it_is_the_gradient_times_the_logit, others) == {}


@pytest.mark.parametrize(
    "method, word, target",
    [
        (PatternNet, "pattern.net", None),
        (functools.partial(PatternAttribution, start="logit", shares="average"), "pattern.attribution", 1),
    ],
)
def test_pattern_methods_equal_the_replica(method, word, target, eager):
    model, patterns, x = registered.model(), registered.patterns(), models.normal(3, 9, 8, 2)
    expected = replicas.explain(model, x, patterns, word, target)
    assert_close(method(model, patterns=patterns).analyze(x, target=target), expected)
    wrong = {**patterns, "inline": patterns["inline"] * 1.001}
    with pytest.raises(AssertionError, match="differs by"):
        assert_close(method(model, patterns=wrong)(x, target=target), expected)
