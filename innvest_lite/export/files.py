"""The formats of exported analyzers: each file is written whole or not at all."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Callable
from typing import Any

from innvest_lite import backend
from innvest_lite.backend import formats
from innvest_lite.errors import InvalidInputError
from innvest_lite.files import check_output, replacing, replacing_folder
from innvest_lite.options import one_of, truth

# Where in a file the description stands.
_DESCRIPTION = "description"


@dataclasses.dataclass(frozen=True)
class Format:
    """A file format for analyzers.

    Attributes:
        ending: how its files end, with the dot; "" for a folder.
        endpoints: the functions of a `Served` that it holds.
        write: a function of `(path, endpoints, description)` that writes the whole file, or nothing.
        checks: whether its programs can stop at a target out of range; without, that sample's attributions are NaN.
        echoes: whether its programs may hand out a target that came in, under the same name.
    """

    ending: str
    endpoints: tuple[str, ...]
    write: Callable[[pathlib.Path, dict[str, Any], str], None]
    checks: bool = False
    echoes: bool = True

    def __post_init__(self) -> None:
        truth(self.checks, "checks")
        truth(self.echoes, "echoes")


def _write_saved_model(path, endpoints, text):
    path.resolve().parent.mkdir(parents=True, exist_ok=True)
    with replacing_folder(path) as partial:
        try:
            formats.write_saved_model(str(partial), endpoints, {f"{_DESCRIPTION}.json": text})
        except backend.OperationError as error:
            raise OSError(f"The SavedModel cannot be written to {path}: {error.message}") from error


def _write_litert(path, endpoints, text):
    _write_bytes(path, formats.litert_model(endpoints["serve"]))


def _write_onnx(path, endpoints, text):
    _write_bytes(path, formats.onnx_model(endpoints["serve"], {_DESCRIPTION: text}))


def _write_bytes(path, content):
    with replacing(path) as partial:
        partial.write_bytes(content)


FORMATS = {
    "tf_saved_model": Format("", ("serve", "explain", "predict"), _write_saved_model, checks=True),
    "litert": Format(".tflite", ("serve",), _write_litert),
    "onnx": Format(".onnx", ("serve",), _write_onnx, echoes=False),
}
"""Name of a format -> what it is. To add one is to add a row."""


def check_path(filepath: str | os.PathLike[str], file_format: str) -> pathlib.Path:
    """The path as a `pathlib.Path`.

    Raises:
        InvalidInputError: the format is unknown, its files end otherwise, or something is there that is no SavedModel.
        OSError: there is no folder for the file.
    """
    one_of(file_format, tuple(FORMATS), "format")
    path, ending = pathlib.Path(filepath), FORMATS[file_format].ending
    if ending and not path.name.lower().endswith(ending):
        raise InvalidInputError(f"A file of the format {file_format!r} ends in {ending}, but the path is {str(path)!r}.")
    # Several formats may have one ending.
    other = None if ending else next((name for name, one in FORMATS.items() if _has_ending(path, one)), None)
    if other is not None:
        raise InvalidInputError(
            f"A SavedModel is a folder, but {str(path)!r} ends as a file of the format {other!r} does: say "
            f"format={other!r}, or choose another folder."
        )
    if ending:
        check_output(path)
    if not ending and path.exists() and not _may_go(path):
        raise InvalidInputError(f"{str(path)!r} is there and is no SavedModel; it is not replaced. Choose another folder.")
    return path


def _has_ending(path, form):
    return form.ending and path.name.lower().endswith(form.ending)


def _may_go(path):
    """Whether a folder may be replaced: it is empty, or a SavedModel."""
    return path.is_dir() and (not any(path.iterdir()) or formats.is_saved_model(str(path)))
