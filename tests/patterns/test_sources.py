"""Where a fit's data may come from, and how much of it is in memory: sources, sample weights, reading ahead."""

import threading
import time

import h5py
import keras
import models
import numpy as np
import pytest
import tensorflow as tf
from fits import SAMPLES, assert_same, data, dense, fit, fit_dense, fitted, statistics, sums
from PIL import Image

import innvest_lite
from innvest_lite import ImageFolder
from innvest_lite.errors import InvalidInputError
from innvest_lite.inputs import input_spec
from innvest_lite.patterns.data import batches, source_of
from innvest_lite.patterns.layout import Layout


def spec(model):
    return input_spec(model, Layout.of(model).graph)


# Arrays on disk ------------------------------------------------------------------------------------------------------
class Sliced:
    """Something array-like that only ever hands out slices, and remembers how long they were."""

    def __init__(self, array):
        self._array, self.shape, self.lengths = array, array.shape, []

    def __len__(self):
        return len(self._array)

    def __getitem__(self, part):
        taken = self._array[part]
        self.lengths.append(len(taken))
        return taken


def on_disk(kind, folder):
    if kind == "memory-mapped":
        np.save(folder / "x.npy", data())
        return np.load(folder / "x.npy", mmap_mode="r")
    if kind == "HDF5":
        with h5py.File(folder / "x.h5", "w") as file:
            file["x"] = data()
        return h5py.File(folder / "x.h5")["x"]
    return Sliced(data())


@pytest.mark.parametrize("kind", ["memory-mapped", "HDF5", "sliced"])
def test_arrays_are_read_batch_by_batch(kind, tmp_path):
    x = on_disk(kind, tmp_path)
    assert_same(fit_dense(x), fitted())
    if kind == "sliced":
        assert x.lengths == [8, 8, 8, 8, 8]


def test_a_resumed_fit_does_not_read_what_it_has(tmp_path):
    path = tmp_path / "run.h5"
    statistics(data(), steps=3, checkpoint=path)
    rest = Sliced(data())
    assert_same(fit_dense(rest, checkpoint=path), fitted())
    assert rest.lengths == [8, 8, 8], "the first, to know it again, and what is left"
    again = Sliced(data())
    assert_same(fit_dense(again, checkpoint=path), fitted())
    assert again.lengths == [8], "a finished fit reads no data but the first batch"


def test_other_data_is_told_by_its_first_batch(tmp_path, caplog):
    path = tmp_path / "run.h5"
    fit_dense(data(), steps=3, checkpoint=path)
    fit_dense(data(), checkpoint=path)
    assert "first batch" not in caplog.text
    fit_dense(data() + 1, checkpoint=path)
    assert "The first batch of the data differs from the one that" in caplog.text


def test_a_checkpoint_wants_its_batch_size_again(tmp_path, eager_fits):
    statistics(data(), steps=3, checkpoint=tmp_path / "run.h5")
    with pytest.raises(
        innvest_lite.PatternMismatchError, match="holds 24 samples in 3 batches, the first of 8; with batches of 10"
    ):
        statistics(data(), batch_size=10, checkpoint=tmp_path / "run.h5")
    statistics(iter([data()[:5], data()[5:10]]), steps=2, checkpoint=tmp_path / "batches.h5")
    with pytest.raises(
        innvest_lite.PatternMismatchError, match="holds 10 samples in 2 batches, the first of 5; with batches of 8"
    ):
        statistics(data(), checkpoint=tmp_path / "batches.h5")


# Data sets -----------------------------------------------------------------------------------------------------------
class Numbered(keras.utils.PyDataset):
    """Batches of eight that remember which thread or process read them, and when an epoch began and ended."""

    def __init__(self, x, weights=None, endless=False, **options):
        super().__init__(**options)
        self.x, self.weights, self.endless, self.hooks, self.readers = x, weights, endless, [], set()

    @property
    def num_batches(self):
        return None if self.endless else -(-len(self.x) // 8)

    def __getitem__(self, index):
        self.readers.add(threading.current_thread().name)
        time.sleep(0.002 * (index % 3))  # not in order of their numbers
        part = slice(index * 8 % len(self.x), index * 8 % len(self.x) + 8)
        return (self.x[part], None, self.weights[part]) if self.weights is not None else self.x[part]

    def on_epoch_begin(self):
        self.hooks.append("begin")

    def on_epoch_end(self):
        self.hooks.append("end")


_PROCESSES = {"workers": 2, "use_multiprocessing": True}


@pytest.mark.parametrize("options", [{}, {"workers": 3}, pytest.param(_PROCESSES, marks=pytest.mark.slow)])
def test_the_workers_of_a_pydataset_read_it(options):
    dataset = Numbered(data(), **options)
    assert_same(fit_dense(dataset), fitted())
    assert dataset.hooks == ["begin", "end"]
    if options == {"workers": 3}:
        assert len(dataset.readers) > 1
    if "use_multiprocessing" in options:
        assert not dataset.readers, "the other processes read their copies"


@pytest.mark.parametrize("kind", ["tf.data", "PyDataset"])
def test_a_data_set_without_an_end_wants_steps(kind):
    endless = {
        "tf.data": lambda: tf.data.Dataset.from_tensor_slices(data()).batch(8).repeat(),
        "PyDataset": lambda: Numbered(data(), endless=True),
    }[kind]
    with pytest.raises(InvalidInputError, match="infinite: give the number of batches to use, with steps="):
        fit_dense(endless())
    assert_same(fit_dense(endless(), steps=5), fitted())


def test_a_generator_is_read_no_further_than_asked():
    read = []
    source = (read.append(start) or data()[start : start + 8] for start in range(0, SAMPLES, 8))
    fit_dense(source, steps=2)
    assert read == [0, 8]
    assert len(list(source)) == 3, "the rest is still there"


def test_few_batches_are_in_memory_at_a_time():
    ahead, read, used = [], 0, 0

    def generate():
        nonlocal read
        for start in range(0, SAMPLES, 8):
            read += 1
            ahead.append(read - used)
            yield data()[start : start + 8]

    for _ in batches(source_of(generate(), spec(dense()), 8), spec(dense())):
        used += 1
    assert max(ahead) <= 4


def test_reading_stops_when_the_fit_does(eager_fits):
    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = batch == 1

    before = threading.active_count()
    dataset = Numbered(data(), endless=True, workers=3)
    assert statistics(dataset, steps=1000, callbacks=[Stop()]).batches == 2
    assert threading.active_count() <= before


def test_an_error_of_the_source_comes_through():
    def broken():
        yield data()[:8]
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        fit_dense(broken())


@pytest.mark.parametrize("given", [3, None.__class__, object()])
def test_what_is_no_data_is_told(given):
    with pytest.raises(InvalidInputError, match="should be arrays, a tf.data.Dataset, a PyDataset, an iterable"):
        fit_dense(given)


def test_a_distributed_data_set_is_refused():
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    dataset = strategy.experimental_distribute_dataset(tf.data.Dataset.from_tensor_slices(data()).batch(8))
    assert not isinstance(dataset, tf.data.Dataset)
    with pytest.raises(InvalidInputError, match="pass the data set that it was made from"):
        fit_dense(dataset)


# Sample weights ------------------------------------------------------------------------------------------------------
WEIGHTS = np.random.default_rng(1).integers(0, 4, SAMPLES)


def repeated():
    """The data with each sample as often as its weight says."""
    return np.repeat(data(), WEIGHTS, axis=0)


def weighted_sources():
    parts = [slice(start, start + 8) for start in range(0, SAMPLES, 8)]
    return {
        "array": (data(), {"sample_weight": WEIGHTS}),
        "triple of arrays": ((data(), None, WEIGHTS), {}),
        "tf.data": (tf.data.Dataset.from_tensor_slices((data(), WEIGHTS, WEIGHTS)).batch(8), {}),
        "generator": (((data()[part], None, WEIGHTS[part]) for part in parts), {}),
        "PyDataset": (Numbered(data(), WEIGHTS), {}),
    }


@pytest.mark.slow
def test_a_weight_counts_a_sample_so_often(subtests, eager_fits):
    whole = statistics(repeated())
    for source, (given, options) in weighted_sources().items():
        actual = statistics(given, **options)
        with subtests.test(source):
            assert actual.samples == SAMPLES
            assert_same(sums(actual), sums(whole), 1e-6)
            assert_same(actual.patterns(), whole.patterns())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["conv_bn", "residual", "separable", "shared"])
def test_weights_on_every_form(name):
    model = models.case(name).model
    x = models.data_for(model, 12, seed=3)
    weights = np.random.default_rng(2).integers(0, 3, 12)
    actual = statistics(x, model, sample_weight=weights)
    assert_same(sums(actual), sums(statistics(np.repeat(x, weights, axis=0), model)), 1e-5)


def test_bad_weights(subtests):
    for weights in (np.ones(3), -np.ones(SAMPLES), np.full(SAMPLES, np.nan), ["a"] * SAMPLES, [[1]] * SAMPLES):
        with subtests.test(str(weights)[:20]), pytest.raises(InvalidInputError, match="sample_weight"):
            fit_dense(data(), sample_weight=weights)


def test_weights_for_batches_stand_in_the_batches():
    with pytest.raises(InvalidInputError, match="batches bring their own weights"):
        fit_dense([data()[:8]], sample_weight=WEIGHTS)
    with pytest.raises(InvalidInputError, match="has 4 parts"):
        fit_dense(iter([(data()[:8], 0, 0, 0)]))
    with pytest.raises(InvalidInputError, match="no sample .of a weight above 0."):
        fit_dense(data(), sample_weight=np.zeros(SAMPLES))


# Folders -------------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    pixels = np.random.default_rng(4).integers(0, 256, (10, 8, 8), "uint8")
    for index, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{index}.png")
    (folder / "4b.png").write_bytes(b"no image")
    return folder, pixels[..., None]


def grey():
    x = keras.Input((8, 8, 1))
    value = keras.layers.Flatten()(keras.layers.Conv2D(2, 3, activation="relu", name="conv")(x))
    return models.randomize(keras.Model(x, keras.layers.Dense(2, name="out")(value)), seed=1)


def test_a_folder_of_images(photos, eager_fits):
    folder, pixels = photos
    expected = innvest_lite.fit_patterns(grey(), pixels / np.float32(255), verbose=0)
    assert_same(innvest_lite.fit_patterns(grey(), folder, preprocess="unit", batch_size=3, verbose=0), expected)
    assert_same(innvest_lite.fit_patterns(grey(), str(folder), preprocess="unit", verbose=0), expected)
    images = ImageFolder(folder, (8, 8, 1), "unit", batch_size=3)
    assert_same(innvest_lite.fit_patterns(grey(), images, verbose=0), expected)
    assert len(images) == 4 and len(images.unreadable) == 1 and "4b.png" in images.unreadable[0]
    assert [len(images[index]) for index in range(4)] == [3, 2, 3, 2]


def test_arrays_are_loaded_first():
    with pytest.raises(InvalidInputError, match='np.load."x.npy", mmap_mode="r"'):
        fit_dense("x.npy")


def test_a_folder_goes_with_one_input_of_a_fixed_size(photos, tmp_path):
    folder, _ = photos
    with pytest.raises(InvalidInputError, match="A folder of images needs a model with one input of a fixed size"):
        fit_dense(folder)
    with pytest.raises(InvalidInputError, match="preprocess= is for a folder of images"):
        fit_dense(data(), preprocess="unit")
    with pytest.raises(InvalidInputError, match="No folder or file is called"):
        fit(grey(), tmp_path / "missing")
    (tmp_path / "bad.png").write_bytes(b"no image")
    with pytest.raises(InvalidInputError, match="The data set is empty"):
        fit(grey(), tmp_path)


def test_shards_of_a_folder_are_the_whole(photos):
    folder, _ = photos
    whole = ImageFolder(folder, (8, 8, 1)).paths
    parts = [ImageFolder(folder, (8, 8, 1), shard=(index, 3)).paths for index in range(3)]
    assert sorted(path for part in parts for path in part) == whole
    with pytest.raises(InvalidInputError, match="Part 12 of 12 is empty: there are only 11 images"):
        ImageFolder(folder, (8, 8, 1), shard=(11, 12))
