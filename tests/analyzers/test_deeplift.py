"""DeepLIFT against the paper's formulas in NumPy, against shap's numbers, and against what its sum must be."""

import pathlib

import deeplift_replicas as replicas
import keras
import loop_replicas
import models
import numpy as np
import pytest
from comparing import assert_close, offenders, refusals
from keras import layers, ops
from loading import load_script
from loop_replicas import assert_saved

from innvest_lite import DeepLIFT, InvalidInputError, UnsupportedLayerError, create_analyzer, metrics

HERE = pathlib.Path(__file__).parent
RULES = ("rescale", "reveal_cancel")
FUNCTIONS = ("relu", "tanh", "sigmoid", "gelu", "silu", "elu")
ROW = models.normal(6, seed=3)


def functions():
    """A dense net of all functions, and logits: in float64, for six quotients of differences lose digits of float32."""
    x = keras.Input((6,), name="x", dtype="float64")
    value = x
    for name in FUNCTIONS:
        value = layers.Dense(6, activation=name, name=name, dtype="float64")(value)
    return models.randomize(keras.Model(x, layers.Dense(3, name="out", dtype="float64")(value)), seed=4)


def pooled():
    """Overlapping windows, a merged branch, and a maximum over all positions."""
    x = keras.Input((7, 7, 2), name="x")
    value = layers.Conv2D(3, 2, activation="relu", name="first")(x)
    value = layers.MaxPooling2D(3, 2, name="pool")(value)
    both = layers.Concatenate(name="both")([value, layers.Conv2D(2, 1, activation="tanh", name="beside")(value)])
    value = layers.GlobalMaxPooling2D(name="top")(layers.Conv2D(4, 2, name="last")(both))
    return models.randomize(keras.Model(x, layers.Dense(3, name="out")(value)), seed=5)


def explained(model, x, rule, reference, target=1):
    """Ours and the replica's."""
    weights = np.zeros((len(x), model.outputs[0].shape[-1]))
    weights[:, target] = 1
    given = DeepLIFT(model, reference_inputs=reference, rule=rule)
    return np.asarray(given(x, target=target)), replicas.deeplift(model, x, reference, weights, rule)


def total(arrays):
    return sum(np.asarray(one, "float64").reshape(len(one), -1).sum(1) for one in keras.tree.flatten(arrays))


def outputs(model, arrays):
    return np.asarray(model.predict(arrays, verbose=0), "float64")


# The paper -----------------------------------------------------------------------------------------------------------

PAPERS = {
    "dense": lambda: models.case("dense").logits,
    "conv_bn": lambda: models.case("conv_bn").logits,
    "residual": lambda: models.case("residual").logits,
    "functions": functions,
    "pooled": pooled,
}


def test_the_papers_formulas():
    def is_the_papers(name, rule):
        model = PAPERS[name]()
        x = models.normal(5, *model.inputs[0].shape[1:], seed=8)
        for reference in (0.0, 0.4, models.normal(*model.inputs[0].shape[1:], seed=9)):
            found, expected = explained(model, x, rule, reference)
            assert np.any(expected)
            assert_close(found, expected)

    assert offenders(is_the_papers, [(name, rule) for name in PAPERS for rule in RULES]) == {}


def test_a_multiplier_that_is_a_thousandth_off_would_be_seen(monkeypatch):
    honest = replicas.secant
    monkeypatch.setattr(replicas, "secant", lambda *given: honest(*given) * 1.001)
    with pytest.raises(AssertionError, match="differs by"):
        assert_close(*explained(functions(), models.normal(5, 6), "rescale", 0.4))


def test_where_nothing_differs_it_is_the_derivative():
    """Of inputs that are the reference's, nothing is due; next to it, the gradient times the difference."""
    model, x = models.case("dense").logits, models.normal(1, 6, seed=2)
    assert not np.any(np.asarray(DeepLIFT(model, reference_inputs=x)(x)))
    step = np.full((1, 6), 1e-3, "float32")
    heat = np.asarray(DeepLIFT(model, reference_inputs=x)(x + step, target=1))
    gradient = loop_replicas.gradient(lambda given: model(given[0]), [x], np.eye(3)[[1]])[0]
    assert_close(heat, gradient * step, 5e-3)


def test_what_the_reveal_cancel_rule_is_for():
    """The paper's figure 4, min(a, b) = a - relu(a - b): Rescale gives all to one input, RevealCancel half to each."""
    x = keras.Input((2,), name="x")
    hidden, passed = layers.Dense(1, activation="relu", name="hidden"), layers.Dense(1, name="passed")
    model = keras.Model(x, layers.Subtract(name="out")([passed(x), hidden(x)]))
    hidden.set_weights([np.array([[1.0], [-1.0]]), np.zeros(1)])
    passed.set_weights([np.array([[1.0], [0.0]]), np.zeros(1)])
    given = np.array([[5.0, 3.0], [3.0, 5.0]], "float32")
    assert_close(DeepLIFT(model)(given, target=0), np.array([[0, 3], [3, 0]]))
    assert_close(DeepLIFT(model, rule="reveal_cancel")(given, target=0), np.full((2, 2), 1.5))


@pytest.mark.parametrize("net", ["dense", "conv"])
def test_shaps_numbers(net):
    """Of `scripts/checks/compare_shap.py`: PyTorch and three references."""
    script = load_script("checks/compare_shap")
    with np.load(HERE / "shap_deep.npz") as file:
        given = {key.partition("|")[2]: file[key] for key in file if key.startswith(f"{net}|")}
    weights = [given[str(number)] for number in range(len(given) - 3)]
    model = script.network(*script.NETS[net], weights)
    analyzer = DeepLIFT(model, reference_inputs=given["references"])
    for target in range(3):
        assert_close(analyzer(given["x"], target=target), given["values"][..., target])


# Eq. 1 ---------------------------------------------------------------------------------------------------------------

QUICK = ("gate", "operators", "two_inputs", "inline", "several", "sigmoid_head")
OTHERS = tuple(name for name in models.NAMES if name not in (*QUICK, "opaque", *loop_replicas.TEXTS))


def adds_up(name, rule):
    """f(x) - f(x0), of each class, or of the unit."""
    case = models.case(name)
    logits = case.logits(case.x).numpy()
    reference = keras.tree.map_structure(lambda x: x[:1], models.data_for(case.model, 1, seed=9))
    before = case.logits(reference).numpy()
    # The logit of a single unit is that of class 1.
    target = max(logits.shape[-1] - 1, 1)
    heat = DeepLIFT(case.model, reference_inputs=reference, rule=rule, **case.options)(case.x, target=target)
    np.testing.assert_allclose(total(heat), (logits - before)[:, -1], atol=1e-5 * np.abs(logits - before).max())


@pytest.mark.parametrize("rule", RULES)
def test_contributions_add_up(rule):
    assert offenders(adds_up, [(name, rule) for name in QUICK]) == {}


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
def test_contributions_add_up_in_all_models(rule):
    assert offenders(adds_up, [(name, rule) for name in OTHERS]) == {}


def test_tokens(eager):
    """They are the sums over what the rest of the model gives their embeddings."""
    for name in loop_replicas.TEXTS:
        case = models.case(name)
        function, points = loop_replicas.from_points(name)
        tokens = np.array([3, 1, 4, 1, 5, 2])
        embedded = case.logits.get_layer("embedding")(tokens[None]).numpy()
        for reference, start in ((None, np.zeros_like(embedded)), (tokens, embedded)):
            heat = DeepLIFT(case.model, reference_inputs=reference).analyze(case.x, 1)
            # What is masked in the sample stays so.
            before = loop_replicas.logits_at(function, [np.broadcast_to(start, points[0].shape)])
            rise = (loop_replicas.logits_at(function, points) - before)[:, 1]
            np.testing.assert_allclose(total(heat), rise, atol=1e-5 * np.abs(rise).max())
            assert heat.shape == case.x.shape
            assert not np.any(heat[case.x == 0]) or name == "text"


def test_several_references_are_the_mean(eager):
    model, x = models.case("conv_bn").model, models.normal(5, 8, 7, 2)
    rows = models.normal(3, 8, 7, 2, seed=6)
    for rule in RULES:
        each = [DeepLIFT(model, reference_inputs=row, rule=rule)(x, target=1) for row in rows]
        analyzer = DeepLIFT(model, reference_inputs=rows, rule=rule)
        # One reference at a time, two and then the third, all at once.
        for batch_size in (5, 10, 100):
            assert_close(analyzer.analyze(x, 1, batch_size), np.mean(each, axis=0))
        assert_close(analyzer(x, target=1), np.mean(each, axis=0))
    logits = models.case("conv_bn").logits
    rise = (outputs(logits, x) - outputs(logits, rows).mean(0))[:, 1]
    np.testing.assert_allclose(metrics.completeness(analyzer, x, 1).gap, 0, atol=1e-5 * np.abs(rise).max())
    np.testing.assert_allclose(analyzer.check(x, 1).start, rise, atol=1e-5 * np.abs(rise).max())


def test_a_function_of_the_outputs(eager):
    model, x = models.case("softmax_head").model, models.case("softmax_head").x
    margin = lambda given: ops.log(given[:, 1]) - given[:, 2]  # noqa: E731
    heat = DeepLIFT(model, reference_inputs=0.3, target=margin)(x)
    now, before = (np.asarray(margin(ops.convert_to_tensor(outputs(model, one)))) for one in (x, np.full_like(x, 0.3)))
    np.testing.assert_allclose(total(heat), now - before, atol=2e-5 * np.abs(now - before).max())


# Nodes of which the paper says nothing ----------------------------------------------------------------------------------

NORMALIZATIONS = {
    "layer": lambda: layers.LayerNormalization(epsilon=0.01, name="norm"),
    "groups": lambda: layers.GroupNormalization(2, epsilon=0.01, name="norm"),
    "rms": lambda: layers.RMSNormalization(epsilon=0.01, name="norm"),
    "unit": lambda: layers.UnitNormalization(name="norm"),
    "operation": lambda: lambda x: ops.normalize(x, axis=-1, order=2),
}


def is_the_mean_derivative(name, reference):
    """Behind one normalization nothing bends, so that integrated gradients, by 400 steps, must be the same."""
    x = keras.Input((3, 4), name="x")
    value = layers.Flatten(name="flat")(NORMALIZATIONS[name]()(x))
    model = models.randomize(keras.Model(x, layers.Dense(3, name="out")(value)), seed=3)
    given = models.normal(4, 3, 4, seed=7)
    start = np.broadcast_to(np.float32(reference), (3, 4))
    places, shares = np.polynomial.legendre.leggauss(400)
    path = start + ((places + 1) / 2)[:, None, None, None] * (given - start)
    (slopes,) = loop_replicas.gradient(lambda t: model(t[0]), [path.reshape(-1, 3, 4)], np.tile(np.eye(3)[1], (1600, 1)))
    expected = (given - start) * (slopes.reshape(400, 4, 3, 4) * (shares / 2)[:, None, None, None]).sum(0)
    assert_close(DeepLIFT(model, reference_inputs=reference)(given, target=1), expected, 2e-5)


def test_normalizations_are_the_mean_derivative():
    rows = models.normal(3, 4, seed=11)
    cases = [(name, reference) for name in NORMALIZATIONS for reference in (rows, 0.5)]
    # From nothing, a norm of nothing is no number that a quadrature could meet.
    cases += [("layer", 0.0), ("groups", 0.0), ("rms", 0.0)]
    assert offenders(is_the_mean_derivative, cases) == {}


def test_a_softmax_is_a_chain_of_functions():
    """exp(x - log sum exp(x)): the Rescale rule at each, in float64; a constant added to all of its inputs does nothing."""
    x, matrix = keras.Input((5,), name="x", dtype="float64"), models.normal(5, 2, seed=1).astype("float64")
    last = layers.Dense(2, name="out", dtype="float64")
    model = keras.Model(x, last(layers.Softmax(name="softmax", dtype="float64")(x)))
    last.set_weights([matrix, np.zeros(2)])
    given, before = models.normal(4, 5, seed=2).astype("float64") * 3, models.normal(5, seed=3).astype("float64")
    e, e0 = np.exp(given), np.exp(before)
    sums, sums0 = e.sum(1, keepdims=True), e0.sum()
    inner = (e - e0) / (given - before) * (np.log(sums) - np.log(sums0)) / (sums - sums0)
    logs, logs0 = given - np.log(sums), before - np.log(sums0)
    outer = (np.exp(logs) - np.exp(logs0)) / (logs - logs0) * matrix[:, 1]
    expected = (outer - inner * outer.sum(1, keepdims=True)) * (given - before)
    analyzer = DeepLIFT(model, reference_inputs=before)
    assert_close(analyzer(given, target=1), expected)
    # No large exponentials: these would be e^80 apart.
    np.testing.assert_allclose(total(analyzer(given + 80, target=1)), total(expected), atol=1e-5)


def test_products_and_quotients_are_shared_by_the_mean_of_both_orders():
    a, b = keras.Input((3,), name="a"), keras.Input((3,), name="b")
    now, before = models.normal(4, 6, seed=1), models.normal(6, seed=2)
    x, y = np.split(np.abs(now) + 0.5, 2, axis=1)
    x0, y0 = np.split(np.abs(before) + 0.5, 2)
    for operation, value in ((ops.multiply, lambda x, y: x * y), (ops.divide, lambda x, y: x / y)):
        model = keras.Model([a, b], operation(a, b))
        one, two = DeepLIFT(model, reference_inputs=[x0, y0])([x, y], target="all")
        assert_close(one, (value(x, y) - value(x0, y) + value(x, y0) - value(x0, y0)) / 2)
        assert_close(two, (value(x, y) - value(x, y0) + value(x0, y) - value(x0, y0)) / 2)


def test_who_moved_an_extreme():
    """By hand: whose move was as large as that of the extreme, so that no multiplier leaves 0..1."""
    a, b = keras.Input((1,), name="a"), keras.Input((1,), name="b")
    now, before = np.array([[5, 3], [1, 2]], "float32"), np.array([[1, 4], [5, 3]], "float32")
    # The last: the least fell from 3, which b was, to 1, which a is.
    expected = {layers.Maximum: [[1, 0], [-3, 0]], layers.Minimum: [[2, 0], [-2, 0]]}
    for layer, wanted in expected.items():
        model = keras.Model([a, b], layer(name="extreme")([a, b]))
        for x, x0, shares in zip(now, before, wanted, strict=True):
            analyzer = DeepLIFT(model, reference_inputs=[x0[:1], x0[1:]])
            found = analyzer([x[None, :1], x[None, 1:]], target="all")
            np.testing.assert_allclose(np.concatenate(found, axis=1)[0], shares, atol=1e-6)


def test_minima_and_attention_add_up():
    x = keras.Input((4, 6), name="x")
    value = layers.MultiHeadAttention(2, 3, name="attention")(layers.LayerNormalization(name="norm")(x), x)
    value = layers.Minimum(name="least")([value, layers.Dense(6, activation="gelu", name="gelu")(x)])
    model = models.randomize(keras.Model(x, layers.Dense(3, name="out")(layers.Flatten(name="flat")(value))), seed=6)
    given = models.normal(4, 4, 6, seed=5)
    for rule in RULES:
        for reference in (0.0, models.normal(4, 6, seed=8)):
            heat = DeepLIFT(model, reference_inputs=reference, rule=rule)(given, target=1)
            before = outputs(model, np.broadcast_to(np.float32(reference), (1, 4, 6)))
            rise = (outputs(model, given) - before)[:, 1]
            np.testing.assert_allclose(total(heat), rise, atol=1e-5 * np.abs(rise).max())


# Check, keep, options ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES)
def test_check_accounts_for_the_difference(rule, eager):
    case = models.case("conv_bn")
    report = DeepLIFT(case.model, reference_inputs=0.2, rule=rule).check(case.x, 1)
    rise = (outputs(case.logits, case.x) - outputs(case.logits, np.full_like(case.x[:1], 0.2)))[:, 1]
    np.testing.assert_allclose(report.start, rise, atol=1e-5 * np.abs(rise).max())
    np.testing.assert_allclose(report.at_input, rise, atol=1e-5 * np.abs(rise).max())
    assert len(report.rows) == len(DeepLIFT(case.model).plan().steps) and np.all(report.unexplained < 1e-5)
    for row in report.rows:
        np.testing.assert_allclose(row.arrived, rise, atol=1e-5 * np.abs(rise).max(), err_msg=row.node)


def test_layers_inside_share_the_same_difference():
    case = models.case("conv_bn")
    for references in (0.2, np.stack([np.full((8, 7, 2), 0.2), np.full((8, 7, 2), 0.2)]).astype("float32")):
        heat, kept = DeepLIFT(case.model, reference_inputs=references).analyze(case.x, 1, keep=["pool", "relu2"])
        for name in ("pool", "relu2"):
            assert kept[name].shape[1:] == case.model.get_layer(name).output.shape[1:]
            np.testing.assert_allclose(total(kept[name]), total(heat), atol=1e-5 * np.abs(total(heat)).max())


def test_names_and_innvestigates_word():
    model, x = models.case("dense").model, models.case("dense").x
    plain, other = (np.asarray(DeepLIFT(model, rule=rule)(x)) for rule in RULES)
    assert np.abs(plain - other).max() > 1e-3 * np.abs(plain).max()
    for name, options, expected in (
        ("deep_lift", {}, plain),
        ("deep_lift.wrapper", {}, plain),
        ("deep_lift.wrapper", {"nonlinear_mode": "rescale"}, plain),
        ("deep_lift.wrapper", {"nonlinear_mode": "reveal_cancel", "reference_inputs": 0}, other),
        ("deep_lift.reveal_cancel", {}, other),
        ("deep_lift", {"rule": "reveal_cancel"}, other),
    ):
        np.testing.assert_array_equal(create_analyzer(name, model, **options)(x), expected)


@pytest.mark.slow
def test_files(tmp_path):
    model, x = models.case("two_inputs").model, models.case("two_inputs").x
    rows = [models.normal(3, 4, seed=1), models.normal(3, 3, 2, seed=2)]
    for references in (None, 0.5, [row[0] for row in rows], rows):
        assert_saved(DeepLIFT(model, reference_inputs=references, rule="reveal_cancel"), x, tmp_path)


@pytest.mark.slow
def test_compiled_by_xla():
    for name, rule in (("conv_bn", "reveal_cancel"), ("dense", "rescale")):
        case = models.case(name)
        references = models.normal(3, *case.x.shape[1:], seed=2)
        plain, compiled = (
            DeepLIFT(case.model, reference_inputs=references, rule=rule, jit_compile=jit).analyze(case.x, 1)
            for jit in (False, True)
        )
        assert_close(compiled, plain)


def recurrent():
    x = keras.Input((4, 3), name="x")
    return models.randomize(keras.Model(x, layers.Dense(2, name="out")(layers.LSTM(3, name="lstm")(x))), seed=1)


def resized():
    """Interpolation by a cubic has coefficients of both signs."""
    x = keras.Input((4, 4, 1), name="x")
    value = layers.UpSampling2D(2, interpolation="bicubic", name="larger")(x)
    return keras.Model(x, layers.Dense(2, name="out")(layers.Flatten(name="flat")(value)))


def test_what_is_refused():
    dense, opaque = models.case("dense").model, models.case("opaque").model
    unsupported = {
        "opaque": (lambda: DeepLIFT(opaque), "Closed: closed"),
        "recurrent": (lambda: DeepLIFT(recurrent()), "goes over steps.*LSTM: lstm.*fallback='gradient'"),
        "both signs": (lambda: DeepLIFT(resized(), rule="reveal_cancel"), "UpSampling2D: larger"),
    }
    assert refusals({k: (use, f"(?s){text}") for k, (use, text) in unsupported.items()}, UnsupportedLayerError) == {}
    invalid = {
        "rule": (lambda: DeepLIFT(dense, rule="linear"), "rule should be one of"),
        "shape": (lambda: DeepLIFT(dense, reference_inputs=np.zeros((2, 5))), "should have shape"),
        "none": (lambda: DeepLIFT(dense, reference_inputs=np.zeros((0, 6))), "at least one sample, but there are 0"),
        "names": (lambda: DeepLIFT(dense, reference_inputs={"y": 0}), "reference_inputs has"),
        "counts": (
            lambda: DeepLIFT(models.case("two_inputs").model, reference_inputs=[np.zeros((2, 4)), np.zeros((3, 3, 2))]),
            "different numbers of samples",
        ),
        "word": (lambda: create_analyzer("deep_lift.wrapper", dense, nonlinear_mode="linear"), "nonlinear_mode should be"),
    }
    assert refusals(invalid, InvalidInputError) == {}


def test_the_mean_gradient_stands_in():
    assert np.any(np.asarray(DeepLIFT(resized())(models.normal(2, 4, 4, 1))))
    for model, x in ((models.case("opaque").logits, models.case("opaque").x), (recurrent(), models.normal(3, 4, 3))):
        heat = DeepLIFT(model, reference_inputs=0.3, fallback="gradient")(x, target=1)
        rise = (outputs(model, x) - outputs(model, np.full_like(x, 0.3)))[:, 1]
        np.testing.assert_allclose(total(heat), rise, atol=1e-4 * np.abs(rise).max())


def _compared(kind):
    x = keras.Input((5,), name="x")
    bent = {
        "where": lambda: keras.ops.where(x > 0, x, 0.1 * x),
        "cast": lambda: keras.ops.cast(x > 0, "float32") * x,
        "sign": lambda: keras.ops.sign(x) * x,
    }[kind]()
    return keras.Model(x, keras.layers.Dense(2, name="logits")(bent))


@pytest.mark.parametrize("kind", ["where", "cast", "sign"])
@pytest.mark.parametrize("rule", ["rescale", "reveal_cancel"])
def test_what_compares_values_of_the_data_is_refused(kind, rule):
    """At a reference it comes out otherwise than at the sample, and the contributions would not sum to the difference."""
    with pytest.raises(UnsupportedLayerError):
        DeepLIFT(_compared(kind), rule=rule)
