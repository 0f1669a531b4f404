"""Explanations with all that says what they are, as one value and one file: names, classes and scores, method, settings.

In: an analyzer and samples. Out: `Attributions`, whose `.npz` file the report, `evaluate` and the measures read back, and
NumPy alone too. Called by users, the command line and `loggers`.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

import innvest_lite
from innvest_lite.answers import Answer, answers
from innvest_lite.errors import CorruptFileError, InvalidInputError
from innvest_lite.files import check_output, replacing
from innvest_lite.npz import read_arrays
from innvest_lite.visualize.suited import PICTURES

if TYPE_CHECKING:
    from innvest_lite.analyzers.base import Analyzer

_ENDING, _VERSION = ".npz", 1
_KEYS = ("values", "exponents", "names", "classes", "scores", "about")


@dataclasses.dataclass(frozen=True, eq=False)
class Attributions:
    """Explanations of samples by one method.

    Attributes:
        values: what `Analyzer.analyze` gave, float `(samples, ...)`, in the method's unit.
        names: of the samples, such as files.
        answers: what was explained of each: class, name, score.
        method: the name of the method.
        exponents: int32 `(samples,)`: the true values of a sample are `values * 2**exponent`.
        unit: what the values are counted in.
        picture: what they are shown as, one of `visualize.suited.PICTURES`.
        sign_tells: whether the sign of a value says for or against.
        settings: how they were made: the model's name, the version of this package, and what the caller adds.

    Raises:
        InvalidInputError: values, names, answers and exponents differ in number, or `picture` is no such word.
    """

    values: np.ndarray
    names: tuple[str, ...]
    answers: tuple[Answer, ...]
    method: str
    exponents: np.ndarray
    unit: str = ""
    picture: str = "heatmap"
    sign_tells: bool = True
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        counts = {len(self.values), len(self.names), len(self.answers), len(self.exponents)}
        if len(counts) != 1 or self.picture not in PICTURES:
            raise InvalidInputError(
                f"Attributions hold a name, an answer and an exponent for each of their samples, and are shown as one of "
                f"{PICTURES}; got {len(self.values)} values, {len(self.names)} names, {len(self.answers)} answers, "
                f"{len(self.exponents)} exponents, {self.picture!r}."
            )

    @classmethod
    def of(
        cls,
        analyzer: Analyzer,
        x: Any,
        target: Any = None,
        *,
        names: Sequence[str] | None = None,
        labels: Sequence[str] | None = None,
        method: str | None = None,
        batch_size: int = 32,
        **settings: Any,
    ) -> Attributions:
        """Explains samples.

        Args:
            analyzer: of a model with one input.
            x: samples, as of `Analyzer.analyze`.
            target: likewise.
            names: of the samples; None: "0", "1", ...
            labels: a name for each class.
            method: the name of the method; None: the analyzer's class.
            batch_size: as of `Analyzer.analyze`.
            **settings: what else shall be kept, as JSON takes it, such as `preprocess="vgg16"`.

        Returns:
            The `Attributions`.

        Raises:
            InvalidInputError: as `Analyzer.analyze`; more or fewer names than samples.

        Example:
            >>> found = Attributions.of(innvest_lite.InputTimesGradient(model), images[:2], names=["zero", "one"])
            >>> found.values.shape, found.method, str(found.answers[1])
            ((2, 28, 28, 1), 'InputTimesGradient', 'class 1, probability > 0.999')
        """
        values, exponents = analyzer.analyze(x, target, batch_size, return_exponent=True)
        if not isinstance(values, np.ndarray):
            raise InvalidInputError("Attributions hold those of one input, and this model has several: pick one's by hand.")
        said = answers(analyzer, x, target, labels, batch_size)
        names = [str(number) for number in range(len(values))] if names is None else names
        about = {"model": analyzer.model.name, "innvest_lite": innvest_lite.__version__, **settings}
        try:
            json.dumps(about)
        except (TypeError, ValueError) as error:
            raise InvalidInputError(f"What is kept with attributions should be what JSON takes, but: {error}.") from error
        name = type(analyzer).__name__ if method is None else method
        shown = analyzer.unit, analyzer.picture, analyzer.sign_tells
        return cls(values, tuple(map(str, names)), tuple(said), name, exponents, *shown, about)

    @classmethod
    def joined(cls, parts: Sequence[Attributions]) -> Attributions:
        """All samples of several parts by the same method, in order.

        Raises:
            InvalidInputError: there are none, or their methods or the shapes of their samples differ.
        """
        if not parts or len({(part.method, part.values.shape[1:]) for part in parts}) != 1:
            raise InvalidInputError("Parts that are joined have one method, and samples of one shape.")
        return dataclasses.replace(
            parts[0],
            values=np.concatenate([part.values for part in parts]),
            names=tuple(name for part in parts for name in part.names),
            answers=tuple(one for part in parts for one in part.answers),
            exponents=np.concatenate([part.exponents for part in parts]),
        )

    def __len__(self) -> int:
        return len(self.names)

    def at(self, names: Sequence[str]) -> Attributions:
        """Those of the samples of these names, in this order.

        Raises:
            InvalidInputError: there is no sample of one of the names, or several of one.
        """
        places = {name: place for place, name in enumerate(self.names)}
        missing = [name for name in names if name not in places]
        if missing or len(places) != len(self.names):
            what = f"hold no {missing[0]!r}" if missing else "have names that are not unique"
            raise InvalidInputError(f"The attributions by {self.method} {what}: they are of {self._listed()}.")
        chosen = [places[name] for name in names]
        return dataclasses.replace(
            self,
            values=self.values[chosen],
            names=tuple(names),
            answers=tuple(self.answers[place] for place in chosen),
            exponents=self.exponents[chosen],
        )

    @property
    def targets(self) -> np.ndarray | None:
        """The explained classes, int64 `(samples,)`; None where not every one is of a class."""
        found = [answer.index for answer in self.answers]
        return None if None in found else np.array(found, "int64")

    def save(self, path: str | os.PathLike[str]) -> pathlib.Path:
        """Writes a `.npz` file, whole or not at all; NumPy reads it without this package.

        Its arrays: `values`, `exponents`, `names`, `classes` (-1 for none), `scores`, and `about`, all else as JSON.

        Args:
            path: of the file, ending in .npz.

        Returns:
            The path.

        Raises:
            InvalidInputError: another ending.
            OSError: no file can be written there.
        """
        path = checked_path(path)
        about = {
            "version": _VERSION,
            **{name: getattr(self, name) for name in ("method", "unit", "picture", "sign_tells")},
            "settings": dict(self.settings),
            "answers": [dataclasses.asdict(one) for one in self.answers],
        }
        arrays = {
            "values": self.values,
            "exponents": np.asarray(self.exponents, "int32"),
            "names": np.array(self.names, str),
            "classes": np.array([-1 if one.index is None else one.index for one in self.answers], "int64"),
            "scores": np.array([one.score for one in self.answers], "float64"),
            "about": np.array(json.dumps(about)),
        }
        # Uncompressed: what a file claims to hold can then be told from its size, see `npz.read_arrays`.
        with replacing(path) as partial, partial.open("wb") as stream:
            np.savez(stream, **arrays)
        return path

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Attributions:
        """What `save` wrote; nothing in the file is run.

        Args:
            path: of the file.

        Returns:
            The `Attributions`.

        Raises:
            CorruptFileError: it is damaged, or no file of attributions.
            InvalidInputError: there is no such file.
        """
        found = read_arrays(path, _KEYS)
        try:
            about = json.loads(str(found["about"]))
            said = tuple(Answer(**one) for one in about["answers"])
            shown = {name: about[name] for name in ("method", "unit", "picture", "sign_tells", "settings")}
            if about["version"] != _VERSION:
                raise CorruptFileError(f"{str(path)!r} is of format {about['version']!r}; this package reads {_VERSION}.")
            _check_types(found, said, shown["settings"])
            return cls(found["values"], tuple(map(str, found["names"])), said, exponents=found["exponents"], **shown)
        except (ValueError, TypeError, LookupError, RecursionError) as error:
            raise CorruptFileError(f"{str(path)!r} is not what Attributions.save writes: {error}.") from error

    def __repr__(self) -> str:
        of = "one sample" if len(self) == 1 else f"{len(self)} samples"
        return f"<Attributions: {self.method} of {of}, values {self.values.shape}{f' in {self.unit}' if self.unit else ''}>"

    def _listed(self, most=5):
        return ", ".join(map(repr, self.names[:most])) + (f" and {len(self) - most} more" if len(self) > most else "")


def _check_types(arrays, said, settings):
    """Raises ValueError where a file says something else than what it has to."""
    numbers = arrays["values"].dtype.kind == "f" and arrays["exponents"].dtype.kind == "i" and arrays["exponents"].ndim == 1
    answers_are = all(
        isinstance(one.index, int | None) and isinstance(one.name, str) and isinstance(one.score, int | float)
        for one in said
    )
    if not numbers or not answers_are or not isinstance(settings, dict) or arrays["names"].ndim != 1:
        raise ValueError("values, exponents, names, answers or settings are of another type.")


def checked_path(path: str | os.PathLike[str]) -> pathlib.Path:
    """The `path` of a file of attributions, which ends in .npz and lies in a folder that there is.

    Raises:
        InvalidInputError: another ending.
        OSError: no file can be written there.
    """
    path = pathlib.Path(path)
    if path.suffix.lower() != _ENDING:
        raise InvalidInputError(f"Attributions are saved as .npz, but the path is {str(path)!r}; let it end in .npz.")
    check_output(path, "maps.npz")
    return path
