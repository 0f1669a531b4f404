"""The layer with which a network is fine-tuned for single deletion: one cell at a time, uniformly, in training alone."""

import keras
import models
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import innvest_lite
from innvest_lite import InvalidInputError
from innvest_lite.metrics import MissingCell, single_deletion
from innvest_lite.metrics.patches import Patches, cell_of


def test_cells_are_those_that_are_deleted():
    """Cell c of n along an axis of s positions begins at floor(c s / n), in the layer and in the measure."""
    for size in range(1, 40):
        for cells in range(1, size + 1):
            starts = [cell * size // cells for cell in range(cells)]
            expected = np.repeat(np.arange(cells), np.diff([*starts, size]))
            np.testing.assert_array_equal(cell_of(np.arange(size), size, cells), expected)
            patches = Patches.in_cells((1,), None, (size,), (cells,))
            assert patches.grid == (cells,) and patches.starts == (tuple(starts),)
            if size < 8:
                spread = patches.spread(np.arange(cells)[None])
                np.testing.assert_array_equal(spread, expected[None])


def missing_of(layer, x):
    """Of each sample, the number of the cell that the layer filled, which must be exactly one, and whole."""
    filled = keras.ops.convert_to_numpy(layer(x, training=True)) != x
    sizes, cells = x.shape[1 : 1 + len(layer.grid)], np.zeros((1,) * (x.ndim - 1), int)
    for axis, (size, count) in enumerate(zip(sizes, layer.grid, strict=True)):
        along = np.searchsorted([cell * size // count for cell in range(count)], np.arange(size), side="right") - 1
        cells = cells * count + along.reshape([-1 if place == axis else 1 for place in range(x.ndim - 1)])
    cells = np.broadcast_to(cells, x.shape[1:])
    found = [np.unique(cells[one]) for one in filled]
    assert all(len(one) == 1 for one in found)
    for one, number in zip(filled, np.concatenate(found), strict=True):
        np.testing.assert_array_equal(one, cells == number)
    return np.concatenate(found)


@pytest.mark.parametrize(
    "shape, grid", [((7, 5, 2), (3, 2)), ((9, 3), (4,)), ((8,), (3,)), ((4, 5, 3, 1), (2, 2, 3)), ((6, 6), (2, 3))], ids=str
)
def test_exactly_one_cell_is_missing(shape, grid):
    x = np.full((50, *shape), 7.0, "float32")
    found = missing_of(MissingCell(grid, seed=1), x)
    assert len(set(found)) > 1 and found.max() < np.prod(grid)


def test_each_cell_is_as_likely_as_the_others_and_samples_differ():
    x = np.ones((6000, 4, 6, 1), "float32")
    layer = MissingCell((2, 3), seed=0)
    found = missing_of(layer, x)
    counts = np.bincount(found, minlength=6)
    # Five standard errors; of neighbours too, which would agree where one draw served a batch.
    assert np.abs(counts - 1000).max() < 5 * np.sqrt(6000 * 5 / 36)
    assert abs(np.mean(found[1:] == found[:-1]) - 1 / 6) < 5 * np.sqrt(5 / 36 / 6000)
    assert np.mean(missing_of(layer, x) == found) < 0.2
    np.testing.assert_array_equal(missing_of(MissingCell((2, 3), seed=0), x), found)


def test_outside_of_training_nothing_happens():
    x = models.normal(5, 7, 5, 2)
    layer = MissingCell((3, 2))
    for found in (layer(x), layer(x, training=False), keras.Sequential([layer]).predict(x, verbose=0)):
        np.testing.assert_array_equal(found, x)


@pytest.mark.parametrize("fill", [0.25, [0.5, -1.0], np.arange(70).reshape(7, 5, 2)], ids=["number", "channels", "sample"])
def test_what_a_cell_becomes(fill):
    x = models.normal(20, 7, 5, 2) + 1000
    found = np.asarray(MissingCell((3, 2), fill)(x, training=True))
    altered = found != x
    assert altered.any((1, 2, 3)).all()
    np.testing.assert_allclose(found[altered], np.broadcast_to(fill, x.shape)[altered])


def test_channels_first_and_other_types():
    x = np.full((30, 2, 4, 6), 3, "uint8")
    found = np.asarray(MissingCell((2, 3), 9, data_format="channels_first")(x, training=True))
    assert found.dtype == np.uint8 and set(np.unique(found)) == {3, 9}
    np.testing.assert_array_equal(found[:, 0], found[:, 1])
    assert ((found == 9).sum((1, 2, 3)) == 2 * 4).all()


def test_it_goes_to_a_file_and_into_a_pipeline(tmp_path):
    layer = MissingCell([3, 2], [0.5, -1.0], seed=4, name="missing")
    again = MissingCell.from_config(layer.get_config())
    assert again.get_config() == layer.get_config() and again.grid == (3, 2)
    model = keras.Sequential([keras.Input((7, 5, 2)), layer, layers.Flatten(), layers.Dense(2)])
    model.save(tmp_path / "missing.keras")
    loaded = keras.models.load_model(tmp_path / "missing.keras")
    x = models.normal(4, 7, 5, 2)
    np.testing.assert_allclose(loaded(x), model(x))
    assert loaded.layers[0].get_config() == layer.get_config()

    def missing(batch):
        return layer(batch, training=True)

    batches = tf.data.Dataset.from_tensor_slices(x).batch(2).map(missing)
    for batch, clean in zip(batches, np.split(x, 2), strict=True):
        assert (batch.numpy() != clean).any((1, 2, 3)).all() and batch.shape == (2, 7, 5, 2)


def test_a_model_of_open_size():
    x = keras.Input((None, None, 1))
    model = keras.Model(x, MissingCell((2, 2), -1.0)(x))
    assert model.output_shape == (None, None, None, 1)
    for size in ((5, 4), (3, 8)):
        found = np.asarray(model(np.ones((9, *size, 1)), training=True))[..., 0]
        halves = [(size[0] // 2, -(-size[0] // 2)), (size[1] // 2, size[1] // 2)]
        assert {int((one < 0).sum()) for one in found} <= {a * b for a in halves[0] for b in halves[1]}


def test_fitting_behind_it_trains_the_model_which_is_explained_without_it():
    network = models.randomize(
        keras.Sequential([keras.Input((6, 6, 1)), layers.Flatten(), layers.Dense(2, activation="softmax")]), seed=1
    )
    trained = keras.Sequential([keras.Input((6, 6, 1)), MissingCell((2, 2), seed=0), network])
    trained.compile("sgd", "sparse_categorical_crossentropy")
    before, x = network.get_weights(), models.normal(8, 6, 6, 1)
    trained.fit(x, np.arange(8) % 2, verbose=0)
    assert np.abs(network.get_weights()[0] - before[0]).max() > 0
    analyzers = [innvest_lite.InputTimesGradient(model) for model in (network, trained)]
    # Explaining both is the same: a layer that does nothing is seen through.
    np.testing.assert_allclose(*(analyzer.analyze(x) for analyzer in analyzers), atol=1e-6)
    innvest_lite.PatternNet(trained).fit(x, verbose=0)
    np.testing.assert_allclose(single_deletion(network, analyzers[0], x, (2, 2)).correlations, 1)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"grid": 4}, r"grid should be how many cells lie along each axis, such as \(4, 4\), but is 4"),
        ({"grid": ()}, "grid should be how many cells"),
        ({"grid": (2, -1)}, "grid should be a whole number of at least 1, but is -1"),
        ({"fill": "mean"}, "fill should be a finite number or an array of such, but is 'mean'"),
        ({"fill": np.inf}, "fill should be a finite number"),
        ({"data_format": "last"}, "data_format should be one of"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(InvalidInputError, match=message):
        MissingCell(**options)


def test_samples_that_do_not_fit():
    for shape, message in (((9, 9, 9, 1), "these have 4 axes"), ((9,), "these have 1 axes"), ((3, 9, 1), "more cells")):
        with pytest.raises(InvalidInputError, match=message):
            MissingCell((4, 4))(np.ones((2, *shape)), training=True)
