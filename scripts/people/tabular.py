"""Networks on tables of numbers: perceptrons of many kinds, gates, experts, heads for several purposes."""
# ruff: noqa: D102 (what Keras calls)

import keras
from keras import layers, ops

from .base import listed, model, named, normal


@model("mlp, logits", "tabular", normal(8))
def mlp():
    """Three dense layers, as in every first lesson."""
    return keras.Sequential(
        [
            layers.Input((8,)),
            layers.Dense(16, activation="relu"),
            layers.Dense(16, activation="relu"),
            layers.Dense(3),
        ]
    )


@model("mlp, BatchNormalization and dropout, sigmoid unit", "tabular", normal(10))
def mlp_batch_normalization():
    """A binary classifier of a Kaggle notebook."""
    model = keras.Sequential()
    model.add(keras.Input(shape=(10,)))
    for units in (24, 12):
        model.add(layers.Dense(units, use_bias=False))
        model.add(layers.BatchNormalization())
        model.add(layers.Activation("relu"))
        model.add(layers.Dropout(0.3))
    model.add(layers.Dense(1, activation="sigmoid"))
    return model


@model("mlp, self-normalizing SELU with alpha dropout", "tabular", normal(9))
def mlp_selu():
    """Self-normalizing network with a softmax."""
    model = keras.Sequential([layers.Input((9,))])
    for _ in range(4):
        model.add(layers.Dense(12, activation="selu", kernel_initializer="lecun_normal"))
        model.add(layers.AlphaDropout(0.1))
    model.add(layers.Dense(4, activation="softmax"))
    return model


@model("mlp, PReLU, LeakyReLU, ELU, softplus", "tabular", normal(7))
def mlp_activations():
    """Each layer has another activation, as a layer."""
    x = inputs = keras.Input((7,))
    for activation in (layers.PReLU(), layers.LeakyReLU(0.1), layers.ELU(), layers.Activation("softplus")):
        x = activation(layers.Dense(14)(x))
    return keras.Model(inputs, layers.Dense(1)(x))


class GatedLinearUnit(layers.Layer):
    """keras.io: a linear layer times a sigmoid gate."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.linear = layers.Dense(units)
        self.sigmoid = layers.Dense(units, activation="sigmoid")

    def call(self, inputs):
        return self.linear(inputs) * self.sigmoid(inputs)


class GatedResidualNetwork(layers.Layer):
    """keras.io: ELU, dropout, a gated linear unit, a sum and LayerNormalization."""

    def __init__(self, units, dropout_rate=0.1, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.elu_dense = layers.Dense(units, activation="elu")
        self.linear_dense = layers.Dense(units)
        self.dropout = layers.Dropout(dropout_rate)
        self.gated_linear_unit = GatedLinearUnit(units)
        self.layer_norm = layers.LayerNormalization()
        self.project = layers.Dense(units)

    def call(self, inputs):
        x = self.elu_dense(inputs)
        x = self.linear_dense(x)
        x = self.dropout(x)
        if inputs.shape[-1] != self.units:
            inputs = self.project(inputs)
        x = inputs + self.gated_linear_unit(x)
        return self.layer_norm(x)


@model("gated residual network", "tabular", normal(6))
def gated_residual_network():
    """The blocks of keras.io's classification with gated residual networks."""
    inputs = keras.Input((6,))
    x = GatedResidualNetwork(12)(inputs)
    x = GatedResidualNetwork(12)(x)
    return keras.Model(inputs, layers.Dense(2, activation="softmax")(x))


class VariableSelection(layers.Layer):
    """keras.io: a softmax over features weighs the features' networks."""

    def __init__(self, num_features, units):
        super().__init__()
        self.grns = [GatedResidualNetwork(units) for _ in range(num_features)]
        self.grn_concat = GatedResidualNetwork(units)
        self.softmax = layers.Dense(units=num_features, activation="softmax")

    def call(self, inputs):
        v = layers.concatenate(inputs)
        v = self.grn_concat(v)
        v = ops.expand_dims(self.softmax(v), axis=-1)
        x = [self.grns[idx](feature) for idx, feature in enumerate(inputs)]
        x = ops.stack(x, axis=1)
        return ops.squeeze(ops.matmul(ops.transpose(v, axes=[0, 2, 1]), x), axis=1)


@model(
    "variable selection network, dict of columns",
    "tabular",
    named(age=normal(1), income=normal(1), hours=normal(1)),
)
def variable_selection():
    """Each column is an input and has a network of its own."""
    inputs = {name: keras.Input((1,), name=name) for name in ("age", "income", "hours")}
    encoded = [layers.Dense(8)(column) for column in inputs.values()]
    x = VariableSelection(3, 8)(encoded)
    return keras.Model(inputs, layers.Dense(1, activation="sigmoid")(x))


class WideAndDeep(keras.Model):
    """Géron's wide and deep network with two inputs and an auxiliary output."""

    def __init__(self, units=16, activation="relu", **kwargs):
        super().__init__(**kwargs)
        self.norm_layer_wide = layers.LayerNormalization()
        self.hidden1 = layers.Dense(units, activation=activation)
        self.hidden2 = layers.Dense(units, activation=activation)
        self.main_output = layers.Dense(1)

    def call(self, inputs):
        input_wide, input_deep = inputs
        hidden2 = self.hidden2(self.hidden1(input_deep))
        concat = ops.concatenate([self.norm_layer_wide(input_wide), hidden2], axis=-1)
        return self.main_output(concat)


@model("wide and deep, subclassed, list of inputs", "tabular", listed(normal(5), normal(6)))
def wide_and_deep():
    """A regression."""
    return WideAndDeep()


@model("wide and deep, Functional, auxiliary output", "tabular", listed(normal(5), normal(6)), output="output")
def wide_and_deep_functional():
    """The same with a second output."""
    wide, deep = keras.Input((5,), name="wide"), keras.Input((6,), name="deep")
    hidden = layers.Dense(12, activation="relu")(deep)
    hidden = layers.Dense(12, activation="relu")(hidden)
    output = layers.Dense(1, name="output")(layers.Concatenate()([wide, hidden]))
    auxiliary = layers.Dense(1, name="aux_output")(hidden)
    return keras.Model([wide, deep], {"output": output, "aux_output": auxiliary})


@model("mixture of experts, softmax gate", "tabular", normal(8))
def mixture_of_experts():
    """Experts stacked, weighted by a gate."""
    inputs = keras.Input((8,))
    gate = layers.Dense(4, activation="softmax", name="gate")(inputs)
    experts = ops.stack([layers.Dense(6, activation="relu", name=f"expert_{i}")(inputs) for i in range(4)], axis=1)
    x = ops.sum(experts * ops.expand_dims(gate, -1), axis=1)
    return keras.Model(inputs, layers.Dense(3, activation="softmax")(x))


class TopKMoE(layers.Layer):
    """Sparse mixture: only the best two experts count, their gates are normalized again."""

    def __init__(self, experts, units, k=2):
        super().__init__()
        self.k, self.num_experts = k, experts
        self.gate = layers.Dense(experts)
        self.experts = [layers.Dense(units, activation="gelu") for _ in range(experts)]

    def call(self, x):
        logits = self.gate(x)
        values, indices = ops.top_k(logits, self.k)
        weights = ops.softmax(values, axis=-1)
        one_hot = ops.one_hot(indices, self.num_experts)
        combined = ops.einsum("bk,bke->be", weights, one_hot)
        outputs = ops.stack([expert(x) for expert in self.experts], axis=1)
        return ops.einsum("be,bed->bd", combined, outputs)


@model("mixture of experts, sparse top-k", "tabular", normal(8))
def sparse_mixture():
    """Switch-like routing."""
    inputs = keras.Input((8,))
    x = TopKMoE(4, 10)(inputs)
    x = layers.LayerNormalization()(x)
    return keras.Model(inputs, layers.Dense(3)(x))


@model("multi-gate mixture of experts, two tasks", "tabular", normal(10), output="ctr")
def multi_gate():
    """MMoE: a gate for each task."""
    inputs = keras.Input((10,))
    experts = layers.Lambda(lambda tensors: ops.stack(tensors, axis=1), output_shape=(3, 8))(
        [layers.Dense(8, activation="relu")(inputs) for _ in range(3)]
    )
    outputs = []
    for task in ("ctr", "cvr"):
        gate = layers.Dense(3, activation="softmax", use_bias=False)(inputs)
        mixed = layers.Dot(axes=(1, 1))([gate, experts])
        tower = layers.Dense(6, activation="relu")(mixed)
        outputs.append(layers.Dense(1, activation="sigmoid", name=task)(tower))
    return keras.Model(inputs, outputs)


@model("maxout", "tabular", normal(8))
def maxout():
    """The largest of three linear pieces, by a reshape."""
    x = inputs = keras.Input((8,))
    for _ in range(2):
        x = layers.Dense(10 * 3)(x)
        x = layers.Reshape((10, 3))(x)
        x = layers.Lambda(lambda t: ops.max(t, axis=-1))(x)
    return keras.Model(inputs, layers.Dense(4)(x))


class Highway(layers.Layer):
    """A transform gate between a layer and its input."""

    def build(self, input_shape):
        dim = input_shape[-1]
        self.kernel = self.add_weight(shape=(dim, dim), name="kernel")
        self.bias = self.add_weight(shape=(dim,), initializer="zeros", name="bias")
        self.gate_kernel = self.add_weight(shape=(dim, dim), name="gate_kernel")
        self.gate_bias = self.add_weight(shape=(dim,), initializer=keras.initializers.Constant(-1.0), name="gate_bias")

    def call(self, x):
        gate = ops.sigmoid(ops.matmul(x, self.gate_kernel) + self.gate_bias)
        hidden = ops.relu(ops.dot(x, self.kernel) + self.bias)
        return gate * hidden + (1.0 - gate) * x


@model("highway network, weights by hand", "tabular", normal(8))
def highway():
    """Three highway layers."""
    return keras.Sequential([layers.Input((8,)), Highway(), Highway(), Highway(), layers.Dense(3, activation="softmax")])


@model("residual mlp with pre-activation", "tabular", normal(10))
def residual_mlp():
    """RTDL's ResNet for tables: BatchNormalization, Dense, ReLU, dropout, Dense, a sum."""
    inputs = keras.Input((10,))
    x = layers.Dense(16)(inputs)
    for _ in range(3):
        y = layers.BatchNormalization()(x)
        y = layers.Dense(24)(y)
        y = layers.ReLU()(y)
        y = layers.Dropout(0.2)(y)
        y = layers.Dense(16)(y)
        x = layers.add([x, y])
    x = layers.BatchNormalization()(x)
    return keras.Model(inputs, layers.Dense(1)(layers.ReLU()(x)))


@model("multi-task, shared trunk, dict of outputs", "tabular", normal(12), output="churn")
def multi_task():
    """A regression, a class and a yes or no from one trunk."""
    inputs = keras.Input((12,))
    trunk = layers.Dense(16, activation="relu")(inputs)
    outputs = {
        "price": layers.Dense(1)(layers.Dense(8, activation="relu")(trunk)),
        "segment": layers.Dense(4, activation="softmax")(layers.Dense(8, activation="relu")(trunk)),
        "churn": layers.Dense(1, activation="sigmoid")(layers.Dense(8, activation="relu")(trunk)),
    }
    return keras.Model(inputs, outputs)


@model("quantile regression, ordered by cumulative softplus", "tabular", normal(8))
def quantiles():
    """Three quantiles that cannot cross."""
    inputs = keras.Input((8,))
    x = layers.Dense(16, activation="tanh")(inputs)
    first = layers.Dense(1)(x)
    steps = layers.Dense(2, activation="softplus")(x)
    return keras.Model(inputs, ops.cumsum(ops.concatenate([first, steps], axis=-1), axis=-1))


@model("survival, discrete hazards and cumulative product", "tabular", normal(9))
def survival():
    """nnet-survival: the probability to live through each interval."""
    inputs = keras.Input((9,))
    x = layers.Dense(16, activation="relu")(inputs)
    conditional = layers.Dense(5, activation="sigmoid")(x)
    return keras.Model(inputs, ops.cumprod(conditional, axis=1))


@model("survival, Weibull head", "tabular", normal(9))
def weibull():
    """WTTE: alpha by exp, beta by softplus."""

    def weibull_activate(ab):
        a, b = ab[:, 0:1], ab[:, 1:2]
        return ops.concatenate([ops.exp(ops.clip(a, -5.0, 5.0)), ops.softplus(b)], axis=-1)

    return keras.Sequential(
        [
            layers.Input((9,)),
            layers.Dense(12, activation="tanh"),
            layers.Dense(2),
            layers.Activation(weibull_activate),
        ]
    )


@model("autoencoder and classifier on the bottleneck", "tabular", normal(14), output="label")
def autoencoder_classifier():
    """Jane Street on Kaggle: noise, an autoencoder, and a classifier of input and code."""
    inputs = keras.Input((14,))
    x = layers.BatchNormalization()(inputs)
    encoded = layers.GaussianNoise(0.05)(x)
    encoded = layers.Dense(8, activation="swish")(encoded)
    decoded = layers.Dense(14, name="decoded")(layers.Dropout(0.2)(encoded))
    x = layers.Concatenate()([x, encoded])
    for units in (16, 8):
        x = layers.Dropout(0.2)(layers.Activation("swish")(layers.BatchNormalization()(layers.Dense(units)(x))))
    label = layers.Dense(3, activation="sigmoid", name="label")(x)
    return keras.Model(inputs, [decoded, label])


@model("TabNet-like, sequential attention with sparse masks", "tabular", normal(8))
def tabnet():
    """Masks times features in steps; priors are used up."""
    inputs = keras.Input((8,))
    features = layers.BatchNormalization()(inputs)
    shared = layers.Dense(12)
    prior, attention, total = ops.ones_like(features), layers.Dense(6, activation="relu")(features), 0.0
    for step in range(2):
        mask = layers.BatchNormalization(name=f"mask_norm_{step}")(layers.Dense(8)(attention)) * prior
        mask = layers.Activation("sparsemax")(mask)
        prior = prior * (1.3 - mask)
        value, gate = ops.split(shared(mask * features), 2, axis=-1)
        out = value * ops.sigmoid(gate)
        total = total + ops.relu(out)
        attention = out
    return keras.Model(inputs, layers.Dense(2)(total))
