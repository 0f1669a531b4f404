"""Writing an exported analyzer: each format's file, whole or not at all."""

import pathlib

from innvest_lite.atomic import replacing, replacing_folder
from innvest_lite.backend import formats
from innvest_lite.errors import InvalidInputError
from innvest_lite.inputs import one_of
from innvest_lite.patterns.files import check_folder

FORMATS = {"tf_saved_model": "", "litert": ".tflite", "onnx": ".onnx"}
"""Name of a format -> how its files end; a SavedModel is a folder."""

ENDPOINTS = {"tf_saved_model": ("serve", "explain", "predict"), "litert": ("serve",), "onnx": ("serve",)}
"""Name of a format -> the functions of a `Served` that it holds."""

# Where in a file the description stands.
_DESCRIPTION = "description"


def check_path(filepath, file_format):
    """The path as a `pathlib.Path`.

    Raises:
        InvalidInputError: the format is unknown, its files end otherwise, or something is there that is no SavedModel.
        OSError: there is no folder for the file.
    """
    one_of(file_format, tuple(FORMATS), "format")
    path, ending = pathlib.Path(filepath), FORMATS[file_format]
    if ending and path.suffix.lower() != ending:
        raise InvalidInputError(f"A file of the format {file_format!r} ends in {ending}, but the path is {str(path)!r}.")
    other = next((name for name, end in FORMATS.items() if end and end == path.suffix.lower()), file_format)
    if other != file_format:
        raise InvalidInputError(
            f"A SavedModel is a folder, but {str(path)!r} ends as a file of the format {other!r} does: say "
            f"format={other!r}, or choose another folder."
        )
    if ending:
        check_folder(path)
    if not ending and path.exists() and not _may_go(path):
        raise InvalidInputError(f"{str(path)!r} is there and is no SavedModel; it is not replaced. Choose another folder.")
    return path


def _may_go(path):
    """Whether a folder may be replaced: it is empty, or a SavedModel."""
    return path.is_dir() and (not any(path.iterdir()) or formats.is_saved_model(str(path)))


def write(endpoints, path, file_format, text):
    """Writes a file.

    Args:
        endpoints: of a `Served`.
        path: what `check_path` gave.
        file_format: a name in `FORMATS`.
        text: the description.

    Raises:
        ExportError: the format cannot hold the analyzer.
    """
    if file_format == "tf_saved_model":
        path.resolve().parent.mkdir(parents=True, exist_ok=True)
        with replacing_folder(path) as partial:
            formats.write_saved_model(str(partial), endpoints, {f"{_DESCRIPTION}.json": text})
        return
    if file_format == "litert":
        content = formats.litert_model(endpoints["serve"])
    else:
        content = formats.onnx_model(endpoints["serve"], {_DESCRIPTION: text})
    with replacing(path) as partial:
        partial.write_bytes(content)
