"""Explanations in the logs of an experiment, in one line each: TensorBoard, MLflow, Weights & Biases.

In: an analyzer and samples, or `Attributions`. Out: a picture of each sample, with what was explained in its title, and the
class, name and score of each as a table where the logger has tables. None of the three is needed to import this module.

| function | pictures | table |
|---|---|---|
| `tensorboard` | images of the event file | text of the event file |
| `mlflow` | artifacts of the run, by step | artifact `explanations.json` |
| `wandb` | media of the run, with captions | a `wandb.Table` |
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from innvest_lite import visualize
from innvest_lite.analyzers.base import Analyzer
from innvest_lite.attributions import Attributions
from innvest_lite.errors import InvalidInputError
from innvest_lite.visualize.pictures import bytes_of
from innvest_lite.visualize.suited import KINDS, centred

_COLUMNS = ("sample", "method", "class", "name", "unit", "score")


def tensorboard(
    folder: str | os.PathLike[str],
    explained: Analyzer | Attributions,
    x: Any,
    target: Any = None,
    *,
    step: int = 0,
    name: str = "explanations",
    names: Sequence[str] | None = None,
    labels: Sequence[str] | None = None,
) -> Attributions:
    """Writes explanations to an event file of TensorBoard's.

    Args:
        folder: where TensorBoard is pointed to.
        explained: an `Analyzer`, or `Attributions` of these samples.
        x: the samples, images `(samples, height, width, 1 or 3)`, or series or tables.
        target: as of `Analyzer.analyze`.
        step: of the experiment.
        name: the group under which the pictures stand.
        names: of the samples.
        labels: a name for each class.

    Returns:
        The `Attributions`, to be saved or logged elsewhere too.

    Raises:
        InvalidInputError: TensorBoard is not installed, or as `Attributions.of`.

    Example:
        >>> found = tensorboard("runs/1", innvest_lite.InputTimesGradient(model), images[:2], step=3)
        >>> len(found)
        2
    """
    from innvest_lite.backend import summaries

    if not summaries.can_write():
        raise _missing("tensorboard")
    found = _attributions(explained, x, target, names, labels)
    writer = summaries.PictureWriter(folder)
    for sample, picture in _pictures(found, x):
        writer.write(f"{name}/{found.method}/{sample}", picture[None], step)
    header, rows = "|".join(_COLUMNS), ("|".join(str(cell).replace("|", "/") for cell in row) for row in _rows(found))
    writer.write_text(f"{name}/{found.method}", "\n".join([header, "|".join(["---"] * len(_COLUMNS)), *rows]), step)
    writer.close()
    return found


def mlflow(
    explained: Analyzer | Attributions,
    x: Any,
    target: Any = None,
    *,
    step: int = 0,
    name: str = "explanations",
    names: Sequence[str] | None = None,
    labels: Sequence[str] | None = None,
    run_id: str | None = None,
) -> Attributions:
    """Logs explanations to an MLflow run: pictures as artifacts by step, and a table of what was explained.

    Args:
        explained: as of `tensorboard`.
        x: likewise.
        target: likewise.
        step: likewise.
        name: the folder of the artifacts.
        names: as of `tensorboard`.
        labels: likewise.
        run_id: the run; None: the active one, or a new one, as MLflow does.

    Returns:
        The `Attributions`.

    Raises:
        InvalidInputError: MLflow is not installed, or as `Attributions.of`.
    """
    client = _library("mlflow")
    found = _attributions(explained, x, target, names, labels)
    run_id = run_id or (client.active_run() or client.start_run()).info.run_id
    place = client.MlflowClient()
    for number, (sample, picture) in enumerate(_pictures(found, x)):
        file = f"{step:06d}-{number:03d}-{_as_file(sample)}.png"
        place.log_image(run_id, picture, artifact_file=f"{_as_file(name)}/{found.method}/{file}")
    table = {"columns": list(_COLUMNS), "data": [list(row) for row in _rows(found)]}
    place.log_dict(run_id, table, f"{_as_file(name)}/{found.method}/{step:06d}-explained.json")
    return found


def wandb(
    explained: Analyzer | Attributions,
    x: Any,
    target: Any = None,
    *,
    step: int | None = None,
    name: str = "explanations",
    names: Sequence[str] | None = None,
    labels: Sequence[str] | None = None,
    run: Any = None,
) -> Attributions:
    """Logs explanations to a run of Weights & Biases: pictures with captions, and a table of what was explained.

    Args:
        explained: as of `tensorboard`.
        x: likewise.
        target: likewise.
        step: likewise; None: as the run counts.
        name: under which both stand.
        names: as of `tensorboard`.
        labels: likewise.
        run: a `wandb` run; None: the active one.

    Returns:
        The `Attributions`.

    Raises:
        InvalidInputError: wandb is not installed, there is no run, or as `Attributions.of`.
    """
    library = _library("wandb")
    run = library.run if run is None else run
    if run is None:
        raise InvalidInputError("There is no active run of Weights & Biases: call wandb.init() first, or say run=.")
    found = _attributions(explained, x, target, names, labels)
    pairs = zip(_pictures(found, x), found.answers, strict=True)
    images = [library.Image(picture, caption=f"{sample}: {answer}") for (sample, picture), answer in pairs]
    table = library.Table(columns=list(_COLUMNS), data=[list(row) for row in _rows(found)])
    run.log({f"{name}/{found.method}": images, f"{name}/{found.method}/table": table}, step=step)
    return found


def _attributions(explained, x, target, names, labels):
    """`Attributions` of the samples."""
    if isinstance(explained, Attributions):
        if target is not None or names is not None or labels is not None:
            raise InvalidInputError("Attributions have their target, names and labels already: leave them out.")
        if len(explained) != len(x):
            raise InvalidInputError(f"There are {len(explained)} attributions for {len(x)} samples.")
        return explained
    if not isinstance(explained, Analyzer):
        raise InvalidInputError(f"An analyzer or Attributions are expected, not {explained!r}.")
    return Attributions.of(explained, x, target, names=names, labels=labels)


def _pictures(found: Attributions, x: Any) -> Iterator[tuple[str, np.ndarray]]:
    """`(name, uint8 picture)` of each sample: panels of images, lines of series, bars of tables."""
    if np.shape(x)[1:-1] != found.values.shape[1:-1] or (found.values.ndim == 2 and np.shape(x) != found.values.shape):
        raise InvalidInputError(
            f"The attributions have the shape {found.values.shape}, and the samples {np.shape(x)}: they are of others."
        )
    true = np.ldexp(found.values.astype("float64"), found.exponents.reshape(-1, *[1] * (found.values.ndim - 1)))
    for sample, values, answer, one in zip(found.names, true, found.answers, np.asarray(x), strict=True):
        title = f"{sample}: {answer}"
        values = centred(found.picture, values)
        if values.ndim == 3 and values.shape[-1] in (1, 3):
            kind = KINDS[found.picture]
            yield sample, visualize.panel(bytes_of(one), {found.method: values}, title, found.unit, kind=kind)
        elif values.ndim == 2:
            yield sample, visualize.caption(visualize.series(values, one), title)
        elif values.ndim == 1:
            columns = [f"column {number}" for number in range(len(values))]
            yield sample, visualize.bars(values, columns, one, title=title, unit=found.unit)
        else:
            raise InvalidInputError(
                f"Samples of shape {values.shape} have no picture; images, series (steps, channels) and tables have."
            )


def _rows(found):
    """What was explained of each sample, in the order of `_COLUMNS`."""
    for sample, answer in zip(found.names, found.answers, strict=True):
        yield sample, found.method, answer.index, answer.name, answer.unit, answer.score


def _as_file(name):
    """A name as part of a file's: what stands for folders is replaced."""
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name)


def _library(name):
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise _missing(name) from error


def _missing(name):
    return InvalidInputError(f"{name} is not installed: pip install {name}.")
