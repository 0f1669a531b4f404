"""Where positions lie after values were moved, against the values themselves: each holds the number of its position."""

import keras
import numpy as np
from comparing import offenders
from keras import layers, ops

from innvest_lite.forms import forms_of
from innvest_lite.forms.positions import LOST, places_of
from innvest_lite.graph import trace

SHAPE = (8, 6, 4)


def followed(move, shape=SHAPE):
    """The model that moves, and where the package says that positions lie in what it gives; "gone" where nowhere."""
    x = keras.Input(shape)
    graph = trace(keras.Model(x, move(x)))
    return keras.Model(x, move(x)), places_of(graph, forms_of(graph), graph.inputs[0]).get(graph.outputs[0], "gone")


def patches(x):
    """As a patch embedding without a convolution: blocks of 2 x 3 become channels."""
    x = ops.transpose(ops.reshape(x, (-1, 4, 2, 2, 3, 4)), (0, 1, 3, 2, 4, 5))
    return ops.reshape(x, (-1, 4, 2, 24))


class Own(layers.Layer):
    """A layer of one's own, which may count the samples."""

    def __init__(self, move):
        super().__init__()
        self.move = move

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 2, 3), initializer="ones")

    def call(self, x):
        return self.move(x, ops.shape(x)[0], self.kernel)


def own(move):
    return lambda x: Own(move)(x)


MOVES = {
    "counted by samples": own(lambda x, samples, _: ops.reshape(x, (samples, 48, 4))),
    "cut in patches by a layer": own(
        lambda x, samples, _: ops.reshape(ops.image.extract_patches(x, size=(2, 3)), (samples, 8, 24))
    ),
    "by weights in an einsum": own(lambda x, _, kernel: ops.einsum("bijc,cde->bidje", x, kernel)),
    "exchanged": lambda x: layers.Permute((2, 1, 3))(x),
    "the channels first": lambda x: ops.transpose(x, (0, 3, 1, 2)),
    "moved": lambda x: ops.moveaxis(x, 1, 3),
    "swapped": lambda x: ops.swapaxes(x, -1, 1),
    "of groups of channels": lambda x: ops.transpose(ops.reshape(x, (-1, 8, 6, 2, 2)), (0, 1, 2, 4, 3)),
    "one axis": lambda x: layers.Reshape((48, 4))(x),
    "one axis, columns first": lambda x: layers.Reshape((-1, 4))(layers.Permute((2, 1, 3))(x)),
    "and back": lambda x: layers.Reshape((8, 6, 2, 2))(layers.Reshape((48, 4))(x)),
    "with an axis more": lambda x: ops.expand_dims(x, 2),
    "and less": lambda x: ops.squeeze(ops.expand_dims(x, 2), 2),
    "a part": lambda x: x[:, 1:7, ::2],
    "a channel": lambda x: x[..., 1],
    "channels turned round": lambda x: x[..., ::-1],
    "halves of columns": lambda x: layers.Reshape((16, 3, 4))(x),
    "patches": patches,
}


def index_along(axis):
    """An input each of whose numbers is its position along an axis."""
    shape = [1, *SHAPE]
    return np.broadcast_to(np.arange(shape[axis]).reshape([-1 if a == axis else 1 for a in range(4)]), shape).astype(
        "float32"
    )


def lies_there(name):
    model, places = followed(MOVES[name])
    assert sorted(one for here in places.axes for one in here) == [0, 1]
    for one in (0, 1):
        values = model(index_along(one + 1)).numpy()
        for axis in range(1, values.ndim):
            rises = np.diff(values.mean(tuple(other for other in range(values.ndim) if other != axis)))
            here = places.axes[axis]
            if one not in here:
                # Channels may hold what is finer than a position, but no other axis of positions varies.
                assert not here or not np.any(np.abs(rises) > 1e-5), (axis, here)
            elif len(here) == 1:
                assert np.all(rises > 0) and np.ptp(rises) < 1e-5
            else:
                sizes = [places.sizes[each] for each in here]
                rows = np.unravel_index(np.arange(values.shape[axis]), sizes)[here.index(one)]
                steps = np.diff(rows)
                # Coarse positions are several fine ones apart.
                np.testing.assert_allclose(rises / np.ptp(rises), steps / np.ptp(steps), atol=1e-5)


def test_positions_lie_where_their_numbers_rise():
    assert offenders(lies_there, MOVES) == {}


UNKNOWN = {
    "the first": lambda x: x[:, 0],
    "some": lambda x: ops.take(x, [0, 3], axis=1),
    "turned round": lambda x: x[:, ::-1],
    "upside down": lambda x: ops.flip(x, 1),
    "cut into samples": lambda x: layers.Permute((2, 1, 3))(ops.reshape(x, (-1, 4, 6, 4))),
    "rolled": lambda x: ops.roll(x, 2, axis=2),
    "one above the other": lambda x: layers.Concatenate(axis=1)([x, x]),
    "a sum with itself exchanged": lambda x: x[:, :6] + ops.transpose(x[:, :6], (0, 2, 1, 3)),
    "cut across": lambda x: layers.Reshape((12, 4, 4))(x),
    "one more in one axis": lambda x: layers.ZeroPadding1D((1, 0))(layers.Reshape((48, 4))(x)),
}
GONE = {
    "flat": lambda x: layers.Flatten()(x),
    "rows": lambda x: layers.Reshape((8, 24))(x),
    "mean": lambda x: ops.mean(x, (1, 2), keepdims=True),
    "largest": lambda x: layers.GlobalMaxPooling2D(keepdims=True)(x),
    "one of one": lambda x: layers.AveragePooling2D((8, 6))(x)[:, 0, 0],
    "mixed": lambda x: layers.Dense(8)(layers.Permute((3, 2, 1))(x)),
    "read": lambda x: layers.LSTM(3)(layers.Reshape((48, 4))(x)),
    "a mask": lambda x: x > 0,
}


def test_where_positions_are_lost_and_where_they_end():
    assert {name: followed(move)[1] for name, move in UNKNOWN.items()} == dict.fromkeys(UNKNOWN, LOST)
    assert {name: followed(move)[1] for name, move in GONE.items()} == dict.fromkeys(GONE, "gone")


def test_pairs_lie_along_two_axes():
    """Scores of additive attention: summed over channels they still are; over one of a pair they are no more."""
    pairs = lambda x: ops.tanh(x[:, :, None] + x[:, None])  # noqa: E731
    _, scores = followed(lambda x: ops.sum(pairs(x), -1), (5, 4))
    _, shapeless = followed(lambda x: ops.sum(pairs(x), (2, 3)), (5, 4))
    assert scores.axes == ((), (0,), (0,)) and shapeless == "gone"


def test_what_is_added_to_positions_keeps_them():
    """A gate, an attended text, a bias for each place: the positions of the one that has some."""
    x, query = keras.Input((5, 4)), keras.Input((3, 4))
    gated = layers.Multiply()([x, layers.Dense(4, activation="sigmoid")(layers.GlobalAveragePooling1D(keepdims=True)(x))])
    asked = layers.MultiHeadAttention(1, 2)(query, gated)
    graph = trace(keras.Model([x, query], [gated, asked]))
    over_x, over_query = (places_of(graph, forms_of(graph), source) for source in graph.inputs)
    assert over_x[graph.outputs[0]].axes == ((), (0,), ()) and graph.outputs[0] not in over_query
    # What attention gives lies where its queries do; what it looks at is pooled.
    assert over_query[graph.outputs[1]].axes == ((), (0,), ()) and graph.outputs[1] not in over_x
