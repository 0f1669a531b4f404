"""Loggers, against what TensorBoard, MLflow and Weights & Biases themselves read back."""

import dataclasses
import json
import sys

import keras
import numpy as np
import pytest
from command_line import small_model
from PIL import Image

import innvest_lite
from innvest_lite import loggers
from innvest_lite.answers import answers
from innvest_lite.data import load_digits
from innvest_lite.errors import InvalidInputError

NAMES = ["a/b.png", "two"]


@pytest.fixture(scope="module")
def given():
    return innvest_lite.InputTimesGradient(small_model()), load_digits()[0][:2]


def test_tensorboard(given, tmp_path):
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = loggers.tensorboard(tmp_path, *given, 3, step=7, names=NAMES, labels=[f"digit {n}" for n in range(10)])
    assert found.answers == tuple(answers(*given, 3, [f"digit {n}" for n in range(10)]))
    events = reading.EventAccumulator(str(tmp_path), size_guidance={"tensors": 0})
    events.Reload()
    tags = events.Tags()["tensors"]
    assert "explanations/InputTimesGradient" in tags
    assert {f"explanations/InputTimesGradient/{name}" for name in NAMES} <= set(tags)
    (one,) = events.Tensors("explanations/InputTimesGradient/two")
    width, height, *_ = one.tensor_proto.string_val
    assert one.step == 7 and int(width) > 400 and int(height) > 200
    (text,) = events.Tensors("explanations/InputTimesGradient")
    (shown,) = text.tensor_proto.string_val
    assert b"digit 3" in shown and shown.count(b"\n") == 3


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_mlflow(given, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    library = pytest.importorskip("mlflow")
    library.set_tracking_uri((tmp_path / "runs").as_uri())
    experiment = library.create_experiment("explained", artifact_location=(tmp_path / "artifacts").as_uri())
    with library.start_run(experiment_id=experiment) as run:
        found = loggers.mlflow(*given, step=2, names=NAMES)
    folder = tmp_path / "artifacts" / run.info.run_id / "artifacts" / "explanations" / "InputTimesGradient"
    pictures = sorted(path.name for path in folder.glob("*.png"))
    assert pictures == ["000002-000-a_b.png.png", "000002-001-two.png"]
    assert np.asarray(Image.open(folder / pictures[0])).std() > 0
    table = json.loads((folder / "000002-explained.json").read_text())
    assert table["columns"][0] == "sample" and [row[0] for row in table["data"]] == NAMES
    assert [row[2] for row in table["data"]] == [one.index for one in found.answers]


def test_wandb(given, tmp_path, monkeypatch):
    library = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    logged = []

    class Run:
        def log(self, values, step=None):
            logged.append((values, step))

    loggers.wandb(*given, step=4, names=NAMES, run=Run())
    ((values, step),) = logged
    images, table = values["explanations/InputTimesGradient"], values["explanations/InputTimesGradient/table"]
    assert step == 4 and [type(one) for one in images] == [library.Image] * 2
    said = answers(*given)
    assert [one._caption for one in images] == [f"{name}: {one}" for name, one in zip(NAMES, said, strict=True)]
    assert table.columns[:3] == ["sample", "method", "class"] and [row[3] for row in table.data] == [
        one.name for one in said
    ]
    monkeypatch.setattr(library, "run", None)
    with pytest.raises(InvalidInputError, match="no active run"):
        loggers.wandb(*given)


def test_series_and_tables_have_pictures_too(tmp_path):
    pytest.importorskip("tensorboard")
    for shape in ((12, 2), (5,)):
        model = keras.Sequential([keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(2)])
        x = np.random.default_rng(0).normal(size=(2, *shape)).astype("float32")
        assert len(loggers.tensorboard(tmp_path, innvest_lite.Gradient(model), x)) == 2
    model = keras.Sequential([keras.Input((2, 3, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(2)])
    with pytest.raises(InvalidInputError, match="have no picture"):
        loggers.tensorboard(tmp_path, innvest_lite.Gradient(model), np.ones((1, 2, 3, 4, 1), "float32"))


def test_what_does_not_go(given, tmp_path, monkeypatch):
    analyzer, x = given
    found = innvest_lite.Attributions.of(analyzer, x)
    with pytest.raises(InvalidInputError, match="target, names and labels already"):
        loggers.tensorboard(tmp_path, found, x, 3)
    with pytest.raises(InvalidInputError, match="2 attributions for 1 samples"):
        loggers.tensorboard(tmp_path, found, x[:1])
    with pytest.raises(InvalidInputError, match="An analyzer or Attributions"):
        loggers.tensorboard(tmp_path, analyzer.model, x)
    for name in ("mlflow", "wandb"):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(InvalidInputError, match=f"pip install {name}"):
            getattr(loggers, name)(analyzer, x)


def test_pictures_are_of_the_true_values_and_of_these_samples(given):
    """Exponents are no longer divided out; samples of another size are refused; names need not differ."""
    analyzer, x = given
    found = innvest_lite.Attributions.of(analyzer, x, [1, 2], names=["same", "same"])
    larger = dataclasses.replace(found, exponents=np.full(2, 20, "int32"))
    plain = [picture for _, picture in loggers._pictures(found, x)]
    scaled = [picture for _, picture in loggers._pictures(larger, x)]
    for one, other in zip(plain, scaled, strict=True):
        assert one.shape != other.shape or (one != other).any(), "the colour bar has other numbers"
    with pytest.raises(InvalidInputError, match="they are of others"):
        list(loggers._pictures(found, x[:, :5]))
    captions = []

    class Run:
        def log(self, values, step=None):
            captions.extend(one._caption for one in values["explanations/InputTimesGradient"])

    pytest.importorskip("wandb")
    loggers.wandb(found, x, run=Run())
    assert captions == [f"same: {answer}" for answer in found.answers] and captions[0] != captions[1]
