"""Networks on tables with categories, words and crossed features; recommenders."""
# ruff: noqa: D102 (what Keras calls)

import keras
import numpy as np
from keras import layers, ops

from .base import choice, listed, model, named, normal, numbers, unit

_COLUMNS = {"workclass": 5, "education": 7, "occupation": 6}


@model(
    "entity embeddings of categories beside numbers",
    "tabular",
    named(store=numbers(1, 10), day=numbers(1, 7), numeric=normal(4)),
    tokens=("store", "day"),
)
def entity_embeddings():
    """Rossmann: an embedding for every category."""
    store, day = keras.Input((1,), name="store", dtype="int32"), keras.Input((1,), name="day", dtype="int32")
    numeric = keras.Input((4,), name="numeric")
    parts = [layers.Flatten()(layers.Embedding(10, 4)(store)), layers.Reshape((3,))(layers.Embedding(7, 3)(day))]
    x = layers.Concatenate()([*parts, numeric])
    x = layers.Dropout(0.1)(layers.Dense(16, activation="relu")(x))
    return keras.Model({"store": store, "day": day, "numeric": numeric}, layers.Dense(1)(x))


@model(
    "StringLookup one-hot and adapted Normalization",
    "tabular",
    named(thal=choice("fixed", "normal", "reversible", "other"), age=normal(1), chol=normal(1)),
)
def string_lookup():
    """keras.io's structured data classification, preprocessing inside."""
    thal = keras.Input((1,), name="thal", dtype="string")
    age, chol = keras.Input((1,), name="age"), keras.Input((1,), name="chol")
    lookup = layers.StringLookup(vocabulary=["fixed", "normal", "reversible"], output_mode="one_hot")
    normalized = []
    for column, center in ((age, 1.0), (chol, -0.5)):
        normalizer = layers.Normalization()
        normalizer.adapt(np.random.default_rng(0).normal(center, 2.0, (64, 1)).astype("float32"))
        normalized.append(normalizer(column))
    x = layers.concatenate([lookup(thal), *normalized])
    x = layers.Dense(16, activation="relu")(x)
    x = layers.Dropout(0.5)(x)
    output = layers.Dense(1, activation="sigmoid")(x)
    return keras.Model({"thal": thal, "age": age, "chol": chol}, output)


@model("Discretization and CategoryEncoding", "tabular", normal(1))
def discretization():
    """A number in bins, one-hot."""
    return keras.Sequential(
        [
            layers.Input((1,)),
            layers.Discretization(bin_boundaries=[-1.0, 0.0, 1.0], output_mode="one_hot"),
            layers.Dense(8, activation="relu"),
            layers.Dense(2),
        ]
    )


@model(
    "hashed crossing of two categories",
    "tabular",
    listed(numbers(1, 6), numbers(1, 6), normal(3)),
    tokens=(0, 1),
)
def crossing():
    """Wide part: a hashed cross; deep part: numbers."""
    a, b = keras.Input((1,), name="a", dtype="int32"), keras.Input((1,), name="b", dtype="int32")
    c = keras.Input((3,), name="c")
    crossed = layers.HashedCrossing(num_bins=12, output_mode="one_hot")((a, b))
    deep = layers.Dense(8, activation="relu")(c)
    return keras.Model([a, b, c], layers.Dense(1, activation="sigmoid")(layers.concatenate([crossed, deep])))


class CrossLayer(layers.Layer):
    """Deep and cross network: x0 times a linear map of x, plus x."""

    def build(self, input_shape):
        self.w = self.add_weight(shape=(input_shape[0][-1], 1), initializer="glorot_uniform", name="w")
        self.b = self.add_weight(shape=(input_shape[0][-1],), initializer="zeros", name="b")

    def call(self, inputs):
        x0, x = inputs
        return x0 * ops.matmul(x, self.w) + self.b + x


@model("deep and cross network", "tabular", normal(9))
def deep_and_cross():
    """Cross layers beside dense ones."""
    inputs = keras.Input((9,))
    cross = inputs
    for _ in range(2):
        cross = CrossLayer()([inputs, cross])
    deep = layers.Dense(16, activation="relu")(inputs)
    x = layers.concatenate([cross, layers.BatchNormalization()(deep)])
    return keras.Model(inputs, layers.Dense(1, activation="sigmoid")(x))


class FactorizationMachine(layers.Layer):
    """Pairs of features by the square of the sum less the sum of squares."""

    def __init__(self, factors=4, **kwargs):
        super().__init__(**kwargs)
        self.factors = factors

    def build(self, input_shape):
        dim = input_shape[-1]
        self.w0 = self.add_weight(shape=(1,), initializer="zeros", name="w0")
        self.w = self.add_weight(shape=(dim, 1), initializer="random_normal", name="w")
        self.v = self.add_weight(shape=(dim, self.factors), initializer="random_normal", name="v")

    def call(self, x):
        linear = self.w0 + ops.matmul(x, self.w)
        square_of_sum = ops.square(ops.matmul(x, self.v))
        sum_of_squares = ops.matmul(ops.square(x), ops.square(self.v))
        return linear + 0.5 * ops.sum(square_of_sum - sum_of_squares, axis=1, keepdims=True)


@model("factorization machine", "tabular", normal(10))
def factorization_machine():
    """With a sigmoid behind it."""
    return keras.Sequential([keras.Input((10,)), FactorizationMachine(), layers.Activation("sigmoid")])


@model("DeepFM on fields of categories", "tabular", numbers(5, 20), tokens=(0,))
def deep_fm():
    """One table of embeddings for all fields, FM and a perceptron on it."""
    fields = keras.Input((5,), dtype="int32")
    first = ops.sum(layers.Embedding(20, 1)(fields), axis=1)
    embedded = layers.Embedding(20, 4)(fields)
    summed = ops.square(ops.sum(embedded, axis=1))
    second = 0.5 * ops.sum(summed - ops.sum(ops.square(embedded), axis=1), axis=-1, keepdims=True)
    deep = layers.Dense(1)(layers.Dense(12, activation="relu")(layers.Flatten()(embedded)))
    return keras.Model(fields, ops.sigmoid(layers.add([first, second, deep])))


@model(
    "TabTransformer",
    "attention",
    named(**{name: numbers(1, count) for name, count in _COLUMNS.items()}, numeric=normal(4)),
    tokens=tuple(_COLUMNS),
)
def tab_transformer():
    """keras.io: attention over the embeddings of categories, numbers normalized beside it."""
    inputs = {name: keras.Input((1,), name=name, dtype="int32") for name in _COLUMNS}
    inputs["numeric"] = keras.Input((4,), name="numeric")
    encoded = [layers.Embedding(count, 8)(inputs[name]) for name, count in _COLUMNS.items()]
    encoded = layers.Concatenate(axis=1)(encoded)
    position = layers.Embedding(input_dim=3, output_dim=8)(ops.arange(0, 3, 1))
    encoded = encoded + position
    for _ in range(2):
        attention = layers.MultiHeadAttention(num_heads=2, key_dim=8, dropout=0.1)(encoded, encoded)
        x = layers.LayerNormalization(epsilon=1e-6)(layers.Add()([attention, encoded]))
        mlp = layers.Dense(8)(layers.Dropout(0.1)(layers.Dense(16, activation=keras.activations.gelu)(x)))
        encoded = layers.LayerNormalization(epsilon=1e-6)(layers.Add()([mlp, x]))
    features = layers.concatenate([layers.Flatten()(encoded), layers.LayerNormalization()(inputs["numeric"])])
    features = layers.Dense(16, activation="selu")(layers.BatchNormalization()(features))
    return keras.Model(inputs, layers.Dense(1, activation="sigmoid")(features))


class FeatureTokenizer(layers.Layer):
    """FT-Transformer: each number times a vector plus a vector; a class token in front."""

    def __init__(self, dim):
        super().__init__()
        self.dim = dim

    def build(self, input_shape):
        self.weight = self.add_weight(shape=(input_shape[-1], self.dim), initializer="random_normal", name="weight")
        self.bias = self.add_weight(shape=(input_shape[-1], self.dim), initializer="zeros", name="bias")
        self.cls = self.add_weight(shape=(1, 1, self.dim), initializer="random_normal", name="cls")

    def call(self, x):
        tokens = x[..., None] * self.weight[None] + self.bias[None]
        cls = ops.repeat(self.cls, ops.shape(x)[0], axis=0)
        return ops.concatenate([cls, tokens], axis=1)


@model("FT-Transformer on numbers", "attention", normal(6))
def ft_transformer():
    """Pre-norm blocks with ReGLU, the class token's head."""
    inputs = keras.Input((6,))
    x = FeatureTokenizer(8)(inputs)
    for _ in range(2):
        y = layers.LayerNormalization()(x)
        x = x + layers.MultiHeadAttention(2, 4)(y, y)
        a, b = ops.split(layers.Dense(24)(layers.LayerNormalization()(x)), 2, axis=-1)
        x = x + layers.Dense(8)(a * ops.relu(b))
    return keras.Model(inputs, layers.Dense(3)(ops.relu(layers.LayerNormalization()(x[:, 0]))))


@model("neural decision forest", "tabular", normal(8))
def decision_forest():
    """keras.io: soft decisions route to leaves; each tree sees some of the features."""

    class NeuralDecisionTree(keras.Model):
        def __init__(self, depth, num_features, num_classes, rng):
            super().__init__()
            self.depth, self.num_leaves = depth, 2**depth
            chosen = rng.choice(num_features, num_features // 2, replace=False)
            self.used_features_mask = np.eye(num_features, dtype="float32")[chosen]
            self.pi = self.add_weight(shape=(self.num_leaves, num_classes), initializer="random_normal", name="pi")
            self.decision_fn = layers.Dense(self.num_leaves, activation="sigmoid", name="decision")

        def call(self, features):
            batch_size = ops.shape(features)[0]
            features = ops.matmul(features, ops.transpose(self.used_features_mask))
            decisions = ops.expand_dims(self.decision_fn(features), axis=2)
            decisions = layers.concatenate([decisions, 1 - decisions], axis=2)
            mu = ops.ones([batch_size, 1, 1])
            begin, end = 1, 2
            for level in range(self.depth):
                mu = ops.reshape(mu, [batch_size, -1, 1])
                mu = ops.tile(mu, (1, 1, 2))
                mu = mu * decisions[:, begin:end, :]
                begin, end = end, end + 2 ** (level + 1)
            mu = ops.reshape(mu, [batch_size, self.num_leaves])
            return ops.matmul(mu, ops.softmax(self.pi))

    class NeuralDecisionForest(keras.Model):
        def __init__(self, num_trees=3):
            super().__init__()
            rng = np.random.default_rng(0)
            self.norm = layers.BatchNormalization()
            self.ensemble = [NeuralDecisionTree(2, 8, 3, rng) for _ in range(num_trees)]

        def call(self, inputs):
            x = self.norm(inputs)
            return sum(tree(x) for tree in self.ensemble) / len(self.ensemble)

    return NeuralDecisionForest()


@model("two towers and a dot product", "tabular", listed(numbers(1, 12), numbers(1, 15)), tokens=(0, 1))
def two_towers():
    """A recommender with an encoder for either side."""

    def tower(name, count):
        return keras.Sequential(
            [
                layers.Input((1,), dtype="int32"),
                layers.Embedding(count, 8),
                layers.Flatten(),
                layers.Dense(8, activation="relu"),
                layers.Dense(6),
                layers.UnitNormalization(),
            ],
            name=f"{name}_tower",
        )

    user, item = keras.Input((1,), name="user", dtype="int32"), keras.Input((1,), name="item", dtype="int32")
    score = layers.Dot(axes=1)([tower("user", 12)(user), tower("item", 15)(item)])
    return keras.Model([user, item], score)


class RecommenderNet(keras.Model):
    """keras.io: embeddings with biases of users and movies."""

    def __init__(self, num_users, num_movies, embedding_size, **kwargs):
        super().__init__(**kwargs)
        self.user_embedding = layers.Embedding(num_users, embedding_size, embeddings_initializer="he_normal")
        self.user_bias = layers.Embedding(num_users, 1)
        self.movie_embedding = layers.Embedding(num_movies, embedding_size, embeddings_initializer="he_normal")
        self.movie_bias = layers.Embedding(num_movies, 1)

    def call(self, inputs):
        user_vector = self.user_embedding(inputs[:, 0])
        movie_vector = self.movie_embedding(inputs[:, 1])
        dot = ops.sum(user_vector * movie_vector, axis=1, keepdims=True)
        return ops.nn.sigmoid(dot + self.user_bias(inputs[:, 0]) + self.movie_bias(inputs[:, 1]))


@model("collaborative filtering, one table of pairs", "tabular", numbers(2, 9), tokens=(0,))
def collaborative_filtering():
    """User and movie are two columns of one input."""
    return RecommenderNet(9, 9, 5)


@model("neural collaborative filtering, GMF and MLP", "tabular", listed(numbers(1, 12), numbers(1, 15)), tokens=(0, 1))
def neural_collaborative_filtering():
    """NeuMF: a product of embeddings beside a perceptron."""
    user, item = keras.Input((1,), dtype="int64", name="u"), keras.Input((1,), dtype="int64", name="i")

    def embed(x, count, dim):
        return layers.Flatten()(layers.Embedding(count, dim, embeddings_regularizer="l2")(x))

    gmf = layers.Multiply()([embed(user, 12, 6), embed(item, 15, 6)])
    mlp = layers.Concatenate()([embed(user, 12, 6), embed(item, 15, 6)])
    for units in (12, 6):
        mlp = layers.Dense(units, activation="relu")(mlp)
    x = layers.Concatenate()([gmf, mlp])
    return keras.Model([user, item], layers.Dense(1, activation="sigmoid", kernel_initializer="lecun_uniform")(x))


@model("generalized additive model, a net per feature", "tabular", unit(5))
def additive_model():
    """NAM: columns split, a small net for each, their sum."""
    inputs = keras.Input((5,))
    columns = ops.split(inputs, 5, axis=1)
    nets = [keras.Sequential([layers.Dense(8, activation="relu"), layers.Dense(1, use_bias=False)]) for _ in columns]
    outputs = [net(column) for net, column in zip(nets, columns, strict=True)]
    return keras.Model(inputs, layers.Dense(1)(layers.Add()(outputs)))
