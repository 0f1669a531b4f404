"""Explanations while a model trains: what is written, what is not traced again, and that training is as without."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from models import assert_close
from PIL import Image
from trainings import DIGITS, small, trained, untraced

import innvest_lite
from innvest_lite import InvalidInputError, callbacks, visualize
from innvest_lite.backend import summaries
from innvest_lite.callbacks import ExplanationCallback


def pictures(folder):
    return sorted(path.name for path in folder.glob("*.png"))


@pytest.mark.slow
def test_pictures_of_every_second_epoch(tmp_path):
    trained(untraced(), ExplanationCallback("pattern.net", DIGITS[:3], every=2, log_dir=tmp_path / "log"), epochs=4)
    assert pictures(tmp_path / "log") == ["epoch-0002.png", "epoch-0004.png"]
    with Image.open(tmp_path / "log" / "epoch-0004.png") as picture:
        assert picture.width > picture.height > 200


def test_many_pictures_are_wrapped(tmp_path):
    trained(untraced(), ExplanationCallback("gradient", DIGITS[:30], log_dir=tmp_path), epochs=1)
    with Image.open(tmp_path / "epoch-0001.png") as picture:
        assert picture.size == (12 * 120 + 8, 6 * 120 + 8)
        cells = np.asarray(picture)
    heat = cells[8 + 120 : 8 + 232, 8:120][::4, ::4]
    assert (heat != cells[8:120, 8:120][::4, ::4]).any() and (cells[4 * 120 + 8 : 5 * 120, 6 * 120 + 8 :] == 255).all()


def test_training_is_as_without(tmp_path):
    callback = ExplanationCallback(data=DIGITS[:3], log_dir=tmp_path, fit_data=DIGITS[:64])
    for with_it, without in zip(trained(small(), callback), trained(small()), strict=True):
        np.testing.assert_array_equal(with_it, without)


def test_patterns_are_those_of_the_weights_and_nothing_is_traced_again(tmp_path, monkeypatch):
    traced, function = [], tf.function

    def counting(python_function=None, **options):
        if python_function is None:
            return functools.partial(counting, **options)

        def counted(*arguments):
            traced.append(python_function)
            return python_function(*arguments)

        return function(counted, **options)

    monkeypatch.setattr(tf, "function", counting)
    model, counts, values = small(), [], []
    callback = ExplanationCallback(data=DIGITS[:3], log_dir=tmp_path, fit_data=DIGITS[:64])

    class Watch(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            counts.append(len(traced))
            values.append(callback._analyzer.analyze(DIGITS[:3]))
            patterns = innvest_lite.fit_patterns(model, DIGITS[:64], verbose=0)
            assert_close(values[-1], innvest_lite.PatternAttribution(model, patterns=patterns).analyze(DIGITS[:3]), 1e-4)
            counts.append(len(traced))

    trained(model, callback, Watch(), epochs=2)
    # Between the fresh analyzers, the callback's own work traces nothing.
    assert counts[2] == counts[1]
    assert not np.allclose(values[0], values[1])


def test_an_analyzer_of_ones_own(tmp_path, eager):
    model = untraced()
    analyzer = innvest_lite.LRP(model, "epsilon_plus_flat")
    trained(model, ExplanationCallback(analyzer, DIGITS[:2], log_dir=tmp_path), epochs=1)
    assert pictures(tmp_path) == ["epoch-0001.png"]
    with pytest.raises(InvalidInputError, match="is trained. Make it of"):
        trained(untraced(), ExplanationCallback(analyzer, DIGITS[:2], log_dir=tmp_path), epochs=1)


def test_a_model_without_explanations_is_trained_with_one_warning(tmp_path, caplog):
    x = keras.Input((28, 28, 1))
    # Of TensorFlow's functions, which cannot be looked into.
    value = keras.layers.Lambda(lambda x: tf.math.l2_normalize(x, axis=1))(x)
    model = keras.Model(x, keras.layers.Dense(10, activation="softmax")(keras.layers.Flatten()(value)))
    model.compile("sgd", "sparse_categorical_crossentropy")
    before = model.get_weights()
    after = trained(model, ExplanationCallback(data=DIGITS[:2], log_dir=tmp_path / "log"))
    assert not np.allclose(before[0], after[0])
    (record,) = [record for record in caplog.records if record.name == "innvest_lite"]
    assert "no explanations while this model trains" in record.message and "Lambda" in record.message
    assert not (tmp_path / "log").exists()


@pytest.mark.slow
def test_under_a_strategy(tmp_path):
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        model = small()
    trained(model, ExplanationCallback(data=DIGITS[:2], log_dir=tmp_path, fit_data=DIGITS[:64]))
    assert pictures(tmp_path) == ["epoch-0001.png", "epoch-0002.png"]


@pytest.mark.slow
def test_on_two_replicas(python, tmp_path):
    code = "import sys, distributed; print('off by', distributed.explained_on_two_replicas(sys.argv[1]))"
    off = float(python(code, tmp_path).rpartition("off by")[2])
    assert off < 1e-4 and pictures(tmp_path) == ["epoch-0001.png", "epoch-0002.png"]


def test_what_is_written_is_what_is_explained(tmp_path, eager):
    model = untraced()
    options = {"options": {"steps": 4}, "target": 3, "batch_size": 2}
    trained(model, ExplanationCallback("integrated_gradients", DIGITS[:3], log_dir=tmp_path, **options), epochs=1)
    heat = innvest_lite.create_analyzer("integrated_gradients", model, steps=4).analyze(DIGITS[:3], target=3)
    rows = [visualize.overlay(np.zeros_like(DIGITS[:3]), DIGITS[:3]), visualize.heatmap(heat, percentile=99.5)]
    with Image.open(tmp_path / "epoch-0001.png") as picture:
        drawn = np.asarray(picture).astype(int)
    assert (np.abs(drawn - visualize.grid([list(row) for row in rows])) > 8).mean() < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, options",
    [
        ("pattern.net", {"estimator": "linear", "separable": "joint"}),
        ("pattern.attribution", {"preprocessor": lambda images: images / 2 + 1}),
    ],
)
def test_patterns_are_fitted_as_the_options_say(name, options, tmp_path, eager):
    keras.utils.set_random_seed(3)
    hidden = [keras.layers.SeparableConv2D(4, 3, activation="relu"), keras.layers.Flatten()]
    model = keras.Sequential([keras.Input((28, 28, 1)), *hidden, keras.layers.Dense(10, activation="softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy")
    callback = ExplanationCallback(name, DIGITS[:3], log_dir=tmp_path, fit_data=DIGITS[:64], options=options)
    trained(model, callback, epochs=1)
    expected = innvest_lite.create_analyzer(name, model, **options).fit(DIGITS[:64], verbose=0).patterns
    for layer, pattern in callback._analyzer.patterns.items():
        assert_close(pattern, expected[layer], 1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gradient", "pattern.attribution"])
def test_a_model_of_nan_trains_on_with_one_warning(name, tmp_path, caplog, eager):
    model = untraced()

    class Spoil(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                model.set_weights([weight * np.nan for weight in model.get_weights()])

    trained(model, Spoil(), ExplanationCallback(name, DIGITS[:3], log_dir=tmp_path), epochs=3)
    assert pictures(tmp_path) == ["epoch-0001.png"]
    (record,) = [record for record in caplog.records if "are left out where they fail" in record.message]


def test_what_cannot_be_explained_is_said_before_training(tmp_path):
    for options in ({"data": DIGITS[:2, ::2]}, {"target": 10}):
        callback = ExplanationCallback("gradient", **{"data": DIGITS[:2], "log_dir": tmp_path, "every": 9, **options})
        with pytest.raises(InvalidInputError, match="should have shape|out of range"):
            trained(untraced(), callback, epochs=1)


def test_images_are_a_copy(tmp_path, eager):
    images = DIGITS[:3].copy()
    preprocessor = keras.applications.mobilenet_v2.preprocess_input
    callback = ExplanationCallback("gradient", images, log_dir=tmp_path, options={"preprocessor": preprocessor})
    trained(untraced(), callback, epochs=1)
    np.testing.assert_array_equal(images, DIGITS[:3])


def test_a_disk_that_refuses_is_an_error(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError("No space left on device")

    monkeypatch.setattr(callbacks.visualize, "save", full)
    with pytest.raises(OSError, match="No space left"):
        trained(untraced(), ExplanationCallback("gradient", DIGITS[:2], log_dir=tmp_path), epochs=1)


@pytest.mark.slow
def test_again(tmp_path):
    model, callback = untraced(), ExplanationCallback(data=DIGITS[:2], log_dir=tmp_path, fit_data=DIGITS[:64])
    trained(model, callback, epochs=1)
    before = callback._analyzer
    trained(model, callback, epochs=2)
    assert pictures(tmp_path) == ["epoch-0001.png", "epoch-0002.png"] and callback._analyzer is not before


def test_event_files(tmp_path, eager):
    pytest.importorskip("tensorboard")
    trained(untraced(), ExplanationCallback("gradient", DIGITS[:3], log_dir=tmp_path))
    assert pictures(tmp_path) == ["epoch-0001.png", "epoch-0002.png"]
    (events,) = tmp_path.glob("*.explanations")
    found = [
        (event.step, value.tag, tf.make_ndarray(value.tensor))
        for event in tf.compat.v1.train.summary_iterator(str(events))
        for value in event.summary.value
    ]
    assert [(step, tag) for step, tag, _ in found] == [(1, "explanations/gradient"), (2, "explanations/gradient")]
    for _, _, content in found:
        assert content[:2].tolist() == [b"28", b"28"] and len(content) == 2 + 3


def test_without_tensorboard(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(summaries, "can_write", lambda: False)
    trained(untraced(), ExplanationCallback("gradient", DIGITS[:3], log_dir=tmp_path), epochs=1)
    assert "PNG files alone" in caplog.text and [path.suffix for path in tmp_path.iterdir()] == [".png"]


def test_bad_arguments(tmp_path, subtests):
    for options, message in (
        ({"data": None}, "Say what to explain"),
        ({"data": [[1], [1, 2]]}, "data cannot be read as an array"),
        ({"analyzer": innvest_lite.Gradient(small()), "options": {"bogus": 3}}, "this one is made already"),
        ({"analyzer": "gradeint"}, "Did you mean 'gradient'"),
        ({"analyzer": None}, "There is no analyzer None"),
        ({"data": np.zeros((0, 28, 28, 1))}, "data should be images"),
        ({"data": DIGITS[0]}, "data should be images"),
        ({"log_dir": None}, "wants a folder"),
        ({"every": 0}, "every"),
        ({"batch_size": -1}, "batch_size"),
    ):
        with subtests.test(message), pytest.raises(InvalidInputError, match=message):
            ExplanationCallback(**{"data": DIGITS, "log_dir": tmp_path, **options})
