"""Relevance through attention, held against formulas in float64 NumPy and against gradients of networks made for it.

AttnLRP (Achtibat et al. 2024, arXiv 2402.05602) and CP-LRP (Ali et al. 2022, arXiv 2202.07304) are input times gradient of
a network whose backward pass is changed at some operations: `Twin` is that network, written with TensorFlow alone.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import innvest_lite
from innvest_lite import rules
from innvest_lite.errors import InvalidInputError, UnsupportedLayerError
from innvest_lite.graph import trace

TOKENS, SIZE, HEADS, HEAD = 5, 8, 2, 4
RANDOM = np.random.default_rng(0)
SAMPLES = RANDOM.normal(size=(3, TOKENS, SIZE))


def block(h, causal=False):
    """A transformer block before whose layers values are normalized."""
    normal = layers.LayerNormalization(dtype="float64", epsilon=1e-6, name="norm1")(h)
    attention = layers.MultiHeadAttention(HEADS, HEAD, dtype="float64", name="attention")
    h = layers.Add(dtype="float64", name="sum1")([h, attention(normal, normal, use_causal_mask=causal)])
    wide = layers.LayerNormalization(dtype="float64", epsilon=1e-6, name="norm2")(h)
    wide = layers.Dense(3 * SIZE, activation="gelu", dtype="float64", name="wide")(wide)
    return layers.Add(dtype="float64", name="sum2")([h, layers.Dense(SIZE, dtype="float64", name="narrow")(wide)])


def transformer(causal=False):
    x = keras.Input((TOKENS, SIZE), dtype="float64")
    h = block(x, causal)
    h = layers.GlobalAveragePooling1D(dtype="float64", name="mean")(h)
    model = keras.Model(x, layers.Dense(3, dtype="float64", name="logits")(h))
    generator = np.random.default_rng(1)
    for variable in model.weights:
        variable.assign(generator.normal(size=variable.shape) * 0.4)
    return model


def held(x):
    return tf.stop_gradient(x)


class Twin:
    """The same network with TensorFlow; `weights` of attention are held for CP-LRP, and halves taken for AttnLRP."""

    def __init__(self, model, weights_held, causal=False):
        self.layer = model.get_layer
        self.held, self.causal = weights_held, causal

    def product(self, equation, one, other):
        if self.held:
            return tf.einsum(equation, one, other)
        # Its gradient halved: of a + (b - b), the second b has none.
        whole = tf.einsum(equation, one, other)
        return 0.5 * whole + held(0.5 * whole)

    def normalized(self, x, name):
        layer = self.layer(name)
        centred = x - tf.reduce_mean(x, -1, keepdims=True)
        deviation = tf.sqrt(tf.reduce_mean(tf.square(centred), -1, keepdims=True) + layer.epsilon)
        return centred / held(deviation) * layer.gamma.value + layer.beta.value

    def __call__(self, x):
        mha = self.layer("attention")
        normal = self.normalized(x, "norm1")
        q, k, v = (
            tf.einsum("btc,chd->bthd", normal, dense.kernel.value) + dense.bias.value
            for dense in (mha.query_dense, mha.key_dense, mha.value_dense)
        )
        logits = self.product("bthd,bshd->bhts", q, k) / np.sqrt(HEAD)
        if self.causal:
            logits = tf.where(np.tri(TOKENS, dtype=bool), logits, -np.inf)
        weights = tf.nn.softmax(logits)
        weights = held(weights) if self.held else weights
        mixed = self.product("bhts,bshd->bthd", weights, v)
        out = mha.output_dense
        h = x + tf.einsum("bthd,hdc->btc", mixed, out.kernel.value) + out.bias.value
        wide = self.normalized(h, "norm2") @ self.layer("wide").kernel.value + self.layer("wide").bias.value
        # A function of one value hands on what it gets: its slope is f(x) / x.
        wide = wide * held(keras.activations.gelu(wide) / wide)
        h = h + wide @ self.layer("narrow").kernel.value + self.layer("narrow").bias.value
        return tf.reduce_mean(h, 1) @ self.layer("logits").kernel.value + self.layer("logits").bias.value


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("composite", "weights_held"), [("attn_lrp", False), ("cp_lrp", True), ("zero", True)])
def test_a_block_is_input_times_the_changed_gradient(composite, weights_held, causal):
    model = transformer(causal)
    twin = Twin(model, weights_held, causal)
    x = tf.constant(SAMPLES)
    with tf.GradientTape() as tape:
        tape.watch(x)
        logits = twin(x)
        explained = logits[:, 1]
    np.testing.assert_allclose(logits, model(SAMPLES), rtol=1e-12)
    options = {} if composite == "zero" else {"composite_options": {"epsilon": 1e-14}}
    found = innvest_lite.LRP(model, composite, **options).analyze(SAMPLES, target=1)
    expected = (x * tape.gradient(explained, x)).numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10 * np.abs(expected).max())


# Operations ------------------------------------------------------------------------------------------------------------


def explained(model, x, composite, **options):
    """`(attributions, report)` of the last output."""
    analyzer = innvest_lite.LRP(model, composite, **options)
    number = keras.tree.flatten(model(x))[0]
    target = np.zeros(number.shape)
    target[..., -1] = 1
    return analyzer.analyze(x, target=target), analyzer.check(x, target=target)


def linear_end(h):
    """A layer without bias, from which relevance arrives as the contributions of what it takes."""
    return layers.Dense(2, use_bias=False, dtype="float64", name="end", kernel_initializer=_kernel)(h)


def _kernel(shape, dtype=None):
    return np.random.default_rng(5).normal(size=shape)


@pytest.mark.parametrize(
    "layer", [layers.Softmax(dtype="float64", name="s"), layers.Activation("softmax", dtype="float64", name="s")]
)
def test_softmax_by_its_formula(layer):
    x = keras.Input((4, 6), dtype="float64")
    model = keras.Model(x, linear_end(layer(x)))
    values = RANDOM.normal(size=(3, 4, 6))
    found, report = explained(model, values, "zero")
    weights = np.exp(values) / np.exp(values).sum(-1, keepdims=True)
    arrived = weights * _kernel((6, 2))[:, 1]
    expected = values * (arrived - weights * arrived.sum(-1, keepdims=True))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    # It does not conserve, and the report says by how much.
    row = next(row for row in report.rows if row.node == "s")
    np.testing.assert_allclose(row.softmax, (arrived - expected).sum((1, 2)), rtol=1e-9)
    assert np.abs(row.softmax).min() > 1e-3
    assert report.unexplained.max() < 1e-9


@pytest.mark.parametrize("hidden", [-1e9, -np.inf, -1e4])
def test_hidden_entries_get_nothing(hidden):
    """Also where a whole row is hidden, and its softmax even; by choice, and, where that is a number, by adding it."""
    x, mask = keras.Input((4, 6), dtype="float64"), keras.Input((4, 6), dtype="bool")
    adds = hidden == -1e9
    weights = ops.softmax(x + (1 - ops.cast(mask, "float64")) * hidden if adds else ops.where(mask, x, hidden))
    # What an infinite row gives is no number, in the model too.
    rows = 4 if np.isfinite(hidden) else 3
    model = keras.Model([x, mask], linear_end(weights[:, :rows]))
    values, seen = RANDOM.normal(size=(3, 4, 6)), RANDOM.uniform(size=(3, 4, 6)) < 0.6
    seen[:, :, 0], seen[:, 3] = True, False
    found = explained(model, [values, seen], "zero")[0][0]
    assert np.isfinite(found).all() and not found[~seen].any()
    expected = np.zeros_like(found)
    for sample, row in np.ndindex(3, 3):
        z, at = values[sample, row][seen[sample, row]], seen[sample, row]
        s = np.exp(z) / np.exp(z).sum()
        arrived = s * _kernel((6, 2))[at, 1]
        expected[sample, row, at] = z * (arrived - s * arrived.sum())
    # What is added to what is seen is 0, and takes no share.
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


PRODUCTS = {
    "matmul": ("bij,bjk->bik", ops.matmul, (4, 5), (5, 3)),
    "queries and keys": ("bid,bjd->bij", lambda a, b: ops.einsum("bid,bjd->bij", a, b), (4, 5), (3, 5)),
    "a dot layer": ("bid,bjd->bij", lambda a, b: layers.Dot(axes=2, dtype="float64")([a, b]), (4, 5), (3, 5)),
    "one by one": ("bij,bij->bij", ops.multiply, (4, 5), (4, 5)),
}


@pytest.mark.parametrize("name", PRODUCTS)
@pytest.mark.parametrize("epsilon", [0.0, 0.01])
def test_products_give_half_to_each(name, epsilon):
    equation, call, one, other = PRODUCTS[name]
    inputs = [keras.Input(one, dtype="float64"), keras.Input(other, dtype="float64")]
    whole = call(*inputs)
    model = keras.Model(inputs, linear_end(whole))
    x = [RANDOM.normal(size=(3, *one)), RANDOM.normal(size=(3, *other))]
    found, report = explained(model, x, [(rules.kind("matmul", "product"), rules.Halves(epsilon)), *LINEAR])
    z = np.einsum(equation, *x)
    share = z * _kernel((z.shape[-1], 2))[:, 1] / (2 * (z + epsilon * np.where(z >= 0, 1, -1)))
    given, output = equation.split("->")
    left, right = given.split(",")
    expected = [
        x[0] * np.einsum(f"{output},{right}->{left}", share, x[1]),
        x[1] * np.einsum(f"{left},{output}->{right}", x[0], share),
    ]
    for one_found, one_expected in zip(found, expected, strict=True):
        np.testing.assert_allclose(one_found, one_expected, rtol=0, atol=1e-11)
    if not epsilon:
        np.testing.assert_allclose(found[0].sum((1, 2)), found[1].sum((1, 2)), atol=1e-11)
        assert np.abs(report.gap).max() < 1e-9
    assert report.unexplained.max() < 1e-9


LINEAR = [(rules.kind("linear"), rules.Zero())]


def test_a_product_with_itself_gives_all_to_its_only_input():
    x = keras.Input((4, 5), dtype="float64")
    model = keras.Model(x, linear_end(ops.einsum("bid,bjd->bij", x, x)))
    found, report = explained(model, RANDOM.normal(size=(3, 4, 5)), "attn_lrp", composite_options={"epsilon": 1e-15})
    assert np.abs(report.gap).max() < 1e-9 and np.abs(found).max() > 0.1


@pytest.mark.parametrize("shares", rules.attention.SHARES)
@pytest.mark.parametrize("weighing", ["softmax", "sigmoid", "hidden, scaled, dropped out, repeated"])
def test_values_that_are_weighed_get_all(shares, weighing):
    logits, values = keras.Input((4, 5), dtype="float64"), keras.Input((5, 3), dtype="float64")
    seen = keras.Input((5,), dtype="bool")
    weights = ops.sigmoid(logits) if weighing == "sigmoid" else layers.Softmax(dtype="float64")(logits)
    if weighing.startswith("hidden"):
        weights = ops.where(seen[:, None], weights, 0.0) * 0.5
        weights = ops.repeat(layers.Dropout(0.5, dtype="float64")(weights), 2, axis=1)
    inputs = [logits, values, seen] if weighing.startswith("hidden") else [logits, values]
    model = keras.Model(inputs, linear_end(ops.matmul(weights, values)))
    x = [RANDOM.normal(size=(3, 4, 5)), RANDOM.normal(size=(3, 5, 3)), np.tile(np.arange(5) < 4, (3, 1))][: len(inputs)]
    found, report = explained(model, x, [(rules.weighted(), rules.ValuePath(shares)), *LINEAR])
    a = 1 / (1 + np.exp(-x[0])) if weighing == "sigmoid" else np.exp(x[0]) / np.exp(x[0]).sum(-1, keepdims=True)
    a = np.repeat(a * [1, 1, 1, 1, 0] / 2, 2, axis=1) if weighing.startswith("hidden") else a
    arrived = a @ x[1] * _kernel((3, 2))[:, 1]
    size = {"contribution": x[1], "magnitude": np.abs(x[1]), "coefficient": np.ones_like(x[1])}[shares]
    expected = size * (np.swapaxes(a, 1, 2) @ (arrived / (a @ size)))
    np.testing.assert_allclose(found[1], expected, rtol=0, atol=1e-11)
    assert not found[0].any()
    assert np.abs(report.gap).max() < 1e-9
    np.testing.assert_allclose(found[1].sum((1, 2)), arrived.sum((1, 2)), rtol=1e-9)


GATES = {
    "sigmoid of two squashed": (lambda a, b: ops.sigmoid(a) * ops.tanh(b), 1),
    "one less a sigmoid": (lambda a, b: ops.tanh(a) * (1 - ops.sigmoid(b)), 0),
    "silu": (lambda a, b: b * ops.silu(a), 1),
    "gelu": (lambda a, b: ops.gelu(a) * (2 * b + 1), 1),
    "softmax": (lambda a, b: ops.softmax(a) * b, 1),
    "two alike": (lambda a, b: a * b, None),
    "two squashed alike": (lambda a, b: ops.tanh(a) * ops.tanh(b), None),
    "two rectified": (lambda a, b: ops.relu(a) * ops.relu(b), None),
}


@pytest.mark.parametrize("name", GATES)
def test_which_input_of_a_product_is_a_gate(name):
    call, signal = GATES[name]
    inputs = [keras.Input((4,), name="a"), keras.Input((4,), name="b")]
    model = keras.Model(inputs, layers.Dense(2)(call(*inputs)))
    plan = innvest_lite.LRP(model, "cp_lrp").plan()
    form = next(step.form for step in plan.steps if step.form.kind == "product")
    assert (form.signal is None) == (signal is None)
    x = [RANDOM.normal(size=(2, 4)).astype("float32"), RANDOM.normal(size=(2, 4)).astype("float32")]
    found = innvest_lite.LRP(model, "cp_lrp").analyze(x, target=0)
    assert [bool(np.any(one)) for one in found] == [signal in (None, 0), signal in (None, 1)]
    # AttnLRP gives half to each, unless one is squashed.
    squashed = any(word in name for word in ("sigmoid", "softmax"))
    found = innvest_lite.LRP(model, "attn_lrp").analyze(x, target=0)
    assert [bool(np.any(one)) for one in found] == [not squashed or signal == 0, not squashed or signal == 1]


def test_a_product_of_ones_own_has_no_known_signal():
    """A form that says no more than its kind: each input gets half."""

    class Twofold(layers.Layer):
        def call(self, x):
            return tf.multiply(x[0], x[1])

    innvest_lite.register_form(Twofold)(lambda node: innvest_lite.Form(node, "product"))
    inputs = [keras.Input((4,)), keras.Input((4,))]
    model = keras.Model(inputs, layers.Dense(2, use_bias=False)(Twofold()(inputs)))
    x = [RANDOM.normal(size=(2, 4)).astype("float32"), RANDOM.normal(size=(2, 4)).astype("float32")]
    for composite in ("attn_lrp", "cp_lrp", "epsilon_plus"):
        one, other = innvest_lite.LRP(model, composite).analyze(x, target=0)
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose((one + other).sum(1), model(x)[:, 0], rtol=1e-3)


def test_a_rule_of_the_value_path_is_not_for_products_of_equals():
    x = [keras.Input((4, 5)), keras.Input((3, 5))]
    model = keras.Model(x, layers.Dense(2)(ops.einsum("bid,bjd->bij", *x)))
    with pytest.raises(InvalidInputError, match=r"ValuePath.* matches only others|is for nodes of the kinds"):
        innvest_lite.LRP(model, [(rules.kind("matmul"), rules.ValuePath()), (rules.kind("linear"), rules.Zero())])
    with pytest.raises(UnsupportedLayerError, match="einsum"):
        innvest_lite.PatternNet(model)


# Whole layers ----------------------------------------------------------------------------------------------------------


def test_the_weights_need_no_rules_where_they_are_constants():
    steps = {step.node.name: step.rule for step in innvest_lite.LRP(transformer(), "cp_lrp").plan().steps}
    held_back = [name for name, rule in steps.items() if isinstance(rule, rules.Evaluated)]
    assert {"attention/query", "attention/key"} <= set(held_back)
    assert not {"attention/value", "attention/attention_output", "wide"}.intersection(held_back)
    everywhere = innvest_lite.LRP(transformer(), "attn_lrp").plan().steps
    assert not any(isinstance(step.rule, rules.Evaluated) for step in everywhere)
    # A layer that nobody can look into may stand there, too.
    x = keras.Input((4, 3))
    gate = layers.Dense(3, activation="sigmoid")(layers.LSTM(5, name="lstm")(x))
    model = keras.Model(x, layers.Dense(2)(layers.Multiply()([layers.Flatten()(x)[:, :3], gate])))
    assert innvest_lite.LRP(model, "zero").analyze(np.ones((1, 4, 3), "float32")).shape == (1, 4, 3)


def by_hand(q, k, v, bias=None, mask=None, scale=None, causal=False):
    logits = np.einsum("bthd,bshd->bhts", q, np.repeat(k, q.shape[2] // k.shape[2], 2)) * (scale or q.shape[-1] ** -0.5)
    logits = logits if bias is None else logits + bias
    seen = np.ones(logits.shape, bool) if mask is None else np.broadcast_to(mask, logits.shape)
    seen = seen & np.tri(*logits.shape[2:], dtype=bool) if causal else seen
    powers = np.where(seen, np.exp(logits), 0)
    return np.einsum("bhts,bshd->bthd", powers / powers.sum(-1, keepdims=True), np.repeat(v, q.shape[2] // v.shape[2], 2))


FUSED = {
    "plain": {},
    "scale": {"scale": 0.7},
    "bias": {"bias": RANDOM.normal(size=(1, 4, 5, 5))},
    "mask": {"mask": np.tri(5, dtype=bool)[None, None, ::-1, ::-1]},
    "causal": {"is_causal": True},
    "groups": {},
    "all": {"scale": 0.3, "bias": RANDOM.normal(size=(1, 4, 5, 5)), "mask": np.ones((1, 4, 5, 5), bool), "is_causal": True},
}


def _takes_groups():
    try:
        ops.dot_product_attention(*(np.ones((1, 2, heads, 3), "float32") for heads in (4, 2, 2)))
    except (ValueError, tf.errors.InvalidArgumentError):
        return False
    return True


@pytest.mark.parametrize("name", FUSED)
def test_fused_attention_is_opened(name):
    groups = 2 if name in ("groups", "all") else 4
    if groups == 2 and not _takes_groups():
        pytest.skip("this Keras has no groups of queries there")
    inputs = [keras.Input((5, heads, 3)) for heads in (4, groups, groups)]
    model = keras.Model(inputs, layers.Dense(2)(layers.Flatten()(ops.dot_product_attention(*inputs, **FUSED[name]))))
    kinds = {node.kind for node in trace(model).nodes}
    assert {"Einsum", "Softmax"} <= kinds and "DotProductAttention" not in kinds
    x = [RANDOM.normal(size=(2, 5, heads, 3)).astype("float32") for heads in (4, groups, groups)]
    options = {("causal" if key == "is_causal" else key): value for key, value in FUSED[name].items()}
    mixed = by_hand(*x, **options).reshape(2, -1)
    expected = mixed * model.layers[-1].kernel.numpy()[:, 1]
    found = innvest_lite.LRP(model, "cp_lrp").analyze(x, target=1)
    np.testing.assert_allclose(found[2].sum((1, 2, 3)), expected.sum(1), rtol=1e-3, atol=1e-5)
    assert not found[0].any() and not found[1].any()
    gradient = innvest_lite.Gradient(model).analyze(x, target=1)
    with tf.GradientTape() as tape:
        given = list(map(tf.constant, x))
        tape.watch(given)
        logits = model(given)[:, 1]
    for one, other in zip(gradient, tape.gradient(logits, given), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_fused_attention_of_open_sizes_stays_one_where_it_has_to():
    inputs = [keras.Input((None, 2, 3)) for _ in range(3)]
    model = keras.Model(inputs, ops.mean(ops.dot_product_attention(*inputs, is_causal=True), axis=(1, 2)))
    x = [RANDOM.normal(size=(2, 6, 2, 3)).astype("float32") for _ in range(3)]
    np.testing.assert_allclose(innvest_lite.Gradient(model).analyze(x)[0].shape, x[0].shape)
    shapes = [(6, 2, 3)] * 3
    assert "DotProductAttention" not in {node.kind for node in trace(model, shapes).nodes}


@pytest.mark.parametrize(
    "composite",
    ["attn_lrp", "epsilon_plus", *(pytest.param(name, marks=pytest.mark.slow) for name in ("cp_lrp", "cp_lrp_gamma"))],
)
def test_padding_gets_nothing_and_changes_nothing(composite, eager):
    """Tokens behind a mask, however many, with a mean over those that are there."""

    def encoder(length):
        tokens = keras.Input((length,), dtype="int32")
        h = layers.Embedding(20, SIZE, mask_zero=True, name="embed")(tokens)
        h = layers.Add(name="sum")([h, layers.MultiHeadAttention(HEADS, HEAD, name="attention")(h, h)])
        h = layers.LayerNormalization(name="norm")(h)
        return keras.Model(tokens, layers.Dense(2, name="end")(layers.GlobalAveragePooling1D(name="mean")(h)))

    short, long = encoder(4), encoder(7)
    for variable in short.weights:
        variable.assign(np.random.default_rng(len(variable.path)).normal(size=variable.shape))
    long.set_weights(short.get_weights())
    x = np.array([[3, 5, 8, 2], [9, 4, 0, 0]], "int32")
    found = innvest_lite.LRP(short, composite).analyze(x, target=1)
    padded = innvest_lite.LRP(long, composite).analyze(np.pad(x, ((0, 0), (0, 3))), target=1)
    assert not padded[:, 4:].any() and not found[1, 2:].any() and np.all(found[0])
    np.testing.assert_allclose(padded[:, :4], found, rtol=1e-4, atol=1e-6)


def test_normalized_products_conserve():
    """A cosine: the norms are constants, as those of any normalization."""
    inputs = [keras.Input((5,)), keras.Input((5,))]
    model = keras.Model(inputs, layers.Dot(axes=1, normalize=True)(inputs))
    x = [RANDOM.normal(size=(3, 5)).astype("float32"), RANDOM.normal(size=(3, 5)).astype("float32")]
    product = x[0] * x[1] / np.linalg.norm(x[0], axis=1)[:, None] / np.linalg.norm(x[1], axis=1)[:, None]
    for found in innvest_lite.LRP(model, "attn_lrp", composite_options={"epsilon": 1e-9}).analyze(x):
        np.testing.assert_allclose(found, product / 2, rtol=1e-4, atol=1e-6)


class Standardized(layers.LayerNormalization):
    """A normalization whose `call` is one's own, and nothing that can be looked into."""

    def call(self, x):
        mean, variance = tf.nn.moments(x, axes=[-1], keepdims=True)
        return (x - mean) * tf.math.rsqrt(variance + 1e-12)


def test_a_normalizer_that_was_missed_is_refused_and_rings_an_alarm():
    """A value divided by its own size has a slope at right angles to it, so that input times gradient sums to 0."""
    x = keras.Input((SIZE,))
    h = Standardized(name="own")(layers.Dense(SIZE, use_bias=False, name="first")(x))
    model = keras.Model(x, layers.Dense(2, use_bias=False, name="last")(h))
    with pytest.raises(UnsupportedLayerError, match="Standardized: own"):
        innvest_lite.LRP(model, "zero")
    with pytest.raises(UnsupportedLayerError, match="Standardized: own"):
        innvest_lite.LRP(model, "zero", fallback="gradient")
    missed = innvest_lite.LRP(model, [(rules.kind("opaque"), rules.Contributions()), *LINEAR])
    report = missed.check(SAMPLES[:, 0].astype("float32"), target=1)
    assert len(report.alarms) == 1 and "At own (Contributions" in report.alarms[0] and report.alarms[0] in str(report)
    # Keras's own is known, and so is one that is written with keras.ops.
    known = keras.Model(x, layers.Dense(2, name="last")(layers.LayerNormalization(name="norm")(x)))
    assert not innvest_lite.LRP(known, "zero").check(SAMPLES[:, 0].astype("float32"), target=1).alarms


def test_growth_from_block_to_block_rings_an_alarm():
    x = keras.Input((4,))
    h = layers.Dense(4, use_bias=False, name="one", kernel_initializer="identity")(x)
    h = layers.Dense(4, use_bias=False, name="two", kernel_initializer="identity")(h)
    model = keras.Model(x, layers.Dense(2, use_bias=False, name="end", kernel_initializer="ones")(h))
    samples = np.ones((2, 4), "float32")
    assert not innvest_lite.LRP(model, "zero").check(samples, target=0).alarms
    # A rule that gives each input three times its share.
    tripled = [(rules.named("one"), rules.AlphaBeta(3.0, 2.0)), *LINEAR]
    report = innvest_lite.LRP(model, tripled).check(samples, target=0)
    assert [alarm.split(",")[0] for alarm in report.alarms] == ["From two to one"] and "grows 3 times" in report.alarms[0]


@pytest.mark.parametrize(
    "analyzer", [pytest.param(innvest_lite.PatternNet, marks=pytest.mark.slow), innvest_lite.PatternAttribution]
)
def test_patterns_go_through_attention_by_its_values(analyzer, eager, eager_fits):
    model = keras.models.clone_model(transformer())
    fitted = analyzer(model).fit(RANDOM.normal(size=(64, TOKENS, SIZE)), verbose=0)
    names = {step.node.name for step in fitted.plan().steps if step.rule.needs_kernel}
    assert "attention/value" in names and not {"attention/query", "attention/key"} & names
    found = fitted.analyze(SAMPLES)
    assert np.isfinite(found).all() and np.abs(found).max() > 0
    assert fitted.check(SAMPLES).unexplained.max() < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lrp.attn_lrp", "pattern.attribution"])
def test_explainers_of_attention_are_served(name, tmp_path):
    model = transformer()
    analyzer = innvest_lite.create_analyzer(name, model)
    analyzer.fit(RANDOM.normal(size=(64, TOKENS, SIZE)), verbose=0)
    analyzer.export(tmp_path / "served", verbose=False)
    served = tf.saved_model.load(tmp_path / "served")
    np.testing.assert_allclose(served.serve(SAMPLES)["attributions"], analyzer.analyze(SAMPLES), rtol=1e-5, atol=1e-6)
