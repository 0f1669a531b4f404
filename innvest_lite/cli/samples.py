"""`innvest-lite analyze` of samples that are no images: a .npy file of inputs, or a .csv table.

To one array of all explanations, and to pictures of the first few: bars for tables, a line on its colours for series, the
colours of tokens. Called by `analysis`.
"""

from __future__ import annotations

import argparse
import html
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

import innvest_lite
from innvest_lite import visualize
from innvest_lite.answers import Answer, Scores, answers_and_scores
from innvest_lite.attributions import checked_path
from innvest_lite.cli import arrays, defaults, exponents, models, naming, overwriting, record, spreadsheets
from innvest_lite.cli.pictures import drawn
from innvest_lite.cli.terminal import complain, say
from innvest_lite.cli.texts import PAGE
from innvest_lite.errors import InvalidInputError
from innvest_lite.files import check_none_among, replacing

# Pictures that are drawn; a file of samples may hold a million.
_DRAWN = 20


def explain(arguments: argparse.Namespace, out: pathlib.Path) -> int:
    """Writes the explanations of a file of samples as one array, and what was explained; returns the exit code."""
    (given,) = arguments.images
    source = pathlib.Path(given)
    table = None if arrays.is_array(given) else spreadsheets.read(given)
    found: Any = arrays.read(given, arguments.preprocess) if table is None else None
    if arguments.overlay:
        raise InvalidInputError("--overlay is for images: tables, series and tokens have no photograph to lay a map on.")
    method = models.named(arguments)
    name = f"{source.stem}.{method}"
    result, folder = out / f"{name}.npy", out / name
    kept = {"the file of the samples": [given], **models.files_read(arguments)}
    saved = [] if arguments.save is None else [checked_path(arguments.save)]
    check_none_among([result, *saved, *(out / one for one in (exponents.NAME, record.JSON, record.CSV))], kept)
    overwriting.refuse_existing([result, folder, *saved], arguments)
    options, labels = models.analyzer_options(arguments), naming.labels(arguments.labels)
    model = models.load(arguments.model)
    names = arguments.columns
    if table is not None:
        found, names = spreadsheets.inputs_of(table, model, arguments.columns)
    options = defaults.with_reference(options, arguments.method, found)
    analyzer = innvest_lite.create_analyzer(arguments.method, model, **options)
    target = models.target_of(arguments.target, analyzer, labels)
    out.mkdir(parents=True, exist_ok=True)
    task = _Samples(analyzer, found, names, target, labels, arguments.batch_size)
    with replacing(result) as partial:
        with arrays.Writer(partial, task.count) as written:
            for values in task.explanations():
                written.add(values)
        exponents.note(out, {name: task.powers})
    if saved:
        task.save(source.name, np.load(result, mmap_mode="r"), arguments)
    _record(task, arguments, source.name, result, [] if arguments.plain else task.pictures(folder, arguments))
    say(f"Wrote {task.count} explanations ({method}) to {result}")
    return 0


def _record(task, arguments, source, result, pictures):
    """Writes and prints what was explained of each sample."""
    out, method = result.parent, models.named(arguments)
    rows = [
        record.row(
            f"{source}[{number}]",
            method,
            answer,
            target=arguments.target,
            values=result.name,
            picture=pictures[number].relative_to(out).as_posix() if number < len(pictures) else None,
        )
        for number, answer in enumerate(task.answers)
    ]
    record.note(out, rows)
    record.show(rows, out)
    for doubt in record.doubts(task.scores):
        complain(f"warning: {doubt}")
    if len(pictures) < task.count and pictures:
        say(f"Pictures of the first {len(pictures)} samples are in {pictures[0].parent}")
    exponents.say_what_is_scaled(len(task.powers), out)


class _Samples:
    """The samples, and what was explained of them so far."""

    def __init__(self, analyzer: Any, found: Any, names: Any, target: Any, labels: Any, batch_size: int) -> None:
        self.powers: dict[str, int] = {}
        self.answers: list[Answer] = []
        self.scores: list[Scores] = []
        self._analyzer, self._found, self._names = analyzer, found, names
        self._target, self._labels, self._batch_size = target, labels, batch_size
        self._first: list[np.ndarray] = []

    @property
    def count(self) -> int:
        """How many samples there are."""
        return len(next(iter(self._found.values())) if isinstance(self._found, dict) else self._found)

    def explanations(self) -> Iterator[np.ndarray]:
        """Explanations, batch by batch; of several inputs as columns."""
        for start in range(0, self.count, self._batch_size):
            batch = self._part(slice(start, start + self._batch_size))
            given: dict[str, Any] = {"target": self._target, "batch_size": self._batch_size}
            values, of_batch = self._analyzer.analyze(batch, return_exponent=True, **given)
            values = (
                np.hstack([one.reshape(len(one), -1) for one in values.values()]) if isinstance(values, dict) else values
            )
            self.powers.update({str(start + place): int(power) for place, power in enumerate(of_batch) if power})
            said, found = answers_and_scores(self._analyzer, batch, labels=self._labels, **given)
            self.answers += said
            self.scores += [] if found is None else [found]
            self._first += list(values[: max(0, _DRAWN - len(self._first))])
            yield values

    def save(self, source: str, values: np.ndarray, arguments: argparse.Namespace) -> None:
        """Writes all explanations, which stand in a file already, as `Attributions`."""
        powers = np.array([self.powers.get(str(number), 0) for number in range(self.count)], "int32")
        names = [f"{source}[{number}]" for number in range(self.count)]
        models.attributions(arguments, self._analyzer, names, values, powers, self.answers).save(arguments.save)

    def _part(self, rows):
        return (
            {name: one[rows] for name, one in self._found.items()} if isinstance(self._found, dict) else self._found[rows]
        )

    def pictures(self, folder: pathlib.Path, arguments: argparse.Namespace) -> list[pathlib.Path]:
        """Draws the first samples into a folder; returns the paths, [] where there is no picture of such samples."""
        first = self._part(slice(0, len(self._first)))
        written = []
        for number, values in enumerate(self._first):
            title = f"sample {number}: {self.answers[number]} ({models.named(arguments)})"
            sample = first[number] if not isinstance(first, dict) else [one[number].ravel()[0] for one in first.values()]
            picture = self._picture(values, sample, title, arguments)
            if picture is None:
                return []
            path = folder / f"{number:03d}.{'html' if isinstance(picture, str) else arguments.format}"
            folder.mkdir(parents=True, exist_ok=True)
            if isinstance(picture, str):
                with replacing(path) as partial:
                    partial.write_text(PAGE.format(title=html.escape(title), body=picture), encoding="utf-8")
            else:
                visualize.save(picture, path)
            written.append(path)
        return written

    def _picture(self, values, sample, title, arguments):
        """A picture of one sample, HTML of tokens, or None."""
        if values.ndim == 1 and np.asarray(sample).dtype.kind in "iu" and self._names is None:
            return visualize.tokens([str(token) for token in sample], values, arguments.colormap)
        if values.ndim == 1:
            names = self._names or [f"feature {place}" for place in range(len(values))]
            look = {"title": title, "unit": self._analyzer.unit, "colormap": arguments.colormap}
            return visualize.bars(values, names, sample, **look)
        if values.ndim == 2:
            return visualize.caption(visualize.series(values, sample, arguments.colormap), title)
        if values.ndim == 3 and values.shape[-1] in (1, 3):
            look = {"colormap": arguments.colormap, "unit": self._analyzer.unit}
            return drawn(arguments.method, values, None, _as_photo(sample), style="panel", title=title, **look)
        return None


def _as_photo(sample):
    """A sample's numbers as a picture: its least value black and its largest white."""
    low, high = float(np.min(sample)), float(np.max(sample))
    grey = np.rint(255 * (np.asarray(sample, "float64") - low) / ((high - low) or 1)).astype("uint8")
    return np.broadcast_to(grey, (*grey.shape[:-1], 3)).copy()
