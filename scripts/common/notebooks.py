"""Notebooks: run from top to bottom, with outputs that are worth keeping, and two runs compared.

`executed` gives a notebook with new outputs, `differences` says where those of one differ from those of another. Called
by `scripts/make/notebooks.py`, which stores outputs, and by the tests, which run all notebooks and compare.

A cell that trains a network, and what is computed from it, carries the tag "trained": on another machine the weights
differ, so that its texts are compared without their numbers, and its pictures by their size. What it claims, it asserts.
"""

import base64
import io
import os
import pathlib
import re
import shutil
import tempfile
from html.parser import HTMLParser

import nbclient
import nbformat
import numpy as np
from PIL import Image

NOTEBOOKS = pathlib.Path(__file__).resolve().parents[2] / "notebooks"
TRAINED = "trained"
# Of a kernel: nothing of TensorFlow's on the page, and sums in one order.
ENVIRONMENT = {"TF_CPP_MIN_LOG_LEVEL": "3", "OMP_NUM_THREADS": "1", "KERAS_BACKEND": "tensorflow"}
# A picture shows the same where in each of its 8 x 8 tiles pixels differ by less than this, of 255, on average, so that one
# small picture of a sheet counts; colours of words, each by less.
PIXELS, TILES, COLOUR = 2.0, 8, 4
# Bytes of a picture; larger ones keep 256 colours.
FULL_COLOUR = 330_000
# Numbers that are not whole: units of the last digit that is printed, a share, and what is nothing.
DIGITS, SHARE, NOTHING = 2, 2e-3, 1e-5
_NOTES = re.compile(r"^(?:WARNING: All log messages before absl::|[IW]0000 ).*$", re.MULTILINE)
_PNG, _HTML, _JPEG = "image/png", "text/html", "image/jpeg"
_NUMBER = re.compile(r"rgb\([\d,]+\)|(?<![\w.])[+-]?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?(?![\w])", re.IGNORECASE)


def executed(path, timeout=300):
    """A notebook, run from top to bottom in an empty folder with the files that lie beside it.

    Args:
        path: of the notebook.
        timeout: seconds for a cell.

    Returns:
        An `nbformat.NotebookNode` with new outputs.
    """
    notebook = nbformat.read(path, 4)
    with tempfile.TemporaryDirectory() as folder:
        for beside in path.parent.glob("*.keras"):
            shutil.copy(beside, folder)
        options = {"timeout": timeout, "record_timing": False, "coalesce_streams": True}
        client = nbclient.NotebookClient(notebook, resources={"metadata": {"path": folder}}, **options)
        client.execute(env={**os.environ, "MPLBACKEND": "module://matplotlib_inline.backend_inline", **ENVIRONMENT})
    for cell in code_of(notebook):
        cell.outputs = [_kept(output) for output in cell.outputs if not _of_tensorflow(output)]
        cell.metadata.pop("execution", None)
    notebook.metadata.language_info = {"name": "python"}
    return notebook


def code_of(notebook):
    """The cells of a notebook that hold code."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def differences(stored, new):
    """Where the outputs of two notebooks differ, as sentences; none, if they show the same.

    Args:
        stored: a notebook.
        new: another with the same cells.
    """
    pairs = zip(code_of(stored), code_of(new), strict=True)
    return [f"{one.id}: {said}" for one, other in pairs for said in _of_cell(one, other)]


def pictures_of(notebook):
    """Pairs of a cell's id and a picture below it, an image of Pillow's."""
    for cell in code_of(notebook):
        yield from ((cell.id, _picture(output.data[_PNG])) for output in cell.outputs if _PNG in output.get("data", {}))


def _of_tensorflow(output):
    """Whether an output holds nothing but what TensorFlow says of itself and the machine when it starts."""
    return output.get("name") == "stderr" and not _NOTES.sub("", output.text).strip()


def _kept(output):
    """An output as it is stored: a picture once, as PNG without notes, a large one with fewer colours."""
    data = output.get("data", {})
    data.pop(_JPEG, None)
    if _PNG in data:
        picture = _picture(data[_PNG])
        whole = _as_png(picture)
        fewer = _as_png(picture.quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=1)) if len(whole) > FULL_COLOUR else whole
        data[_PNG] = base64.b64encode(fewer).decode()
    return output


def _as_png(picture):
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _picture(text):
    picture = Image.open(io.BytesIO(base64.b64decode(text))).convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")


def _of_cell(stored, new):
    kinds = [[_kind(output) for output in cell.outputs] for cell in (stored, new)]
    if kinds[0] != kinds[1]:
        yield f"outputs are {kinds[1]}, stored are {kinds[0]}"
        return
    trained = TRAINED in stored.metadata.get("tags", ())
    for one, other in zip(stored.outputs, new.outputs, strict=True):
        for kind, (was, now) in _parts(one, other):
            said = _of_pictures(was, now, trained) if kind == _PNG else _of_texts(was, now, trained, kind == _HTML)
            if said:
                yield said


def _kind(output):
    return output.get("name") or sorted(output.get("data", {})) or output.output_type


def _parts(one, other):
    """Kind -> the same part of two outputs."""
    if "text" in one:
        return [("text/plain", (one.text, other.text))]
    return [(kind, (one.data[kind], other.data[kind])) for kind in one.get("data", {})]


def _of_pictures(stored, new, trained):
    was, now = _picture(stored), _picture(new)
    if was.size != now.size:
        return f"a picture has {now.size} pixels, stored are {was.size}"
    apart = apart_by_tiles(was, now)
    return None if trained or apart <= PIXELS else f"pixels of a picture differ by {apart:.2f} of 255 from those stored"


def apart_by_tiles(one, other):
    """The mean difference of pixels, of 255, in the tile of two pictures in which it is largest."""
    apart = np.abs(np.asarray(one, "float64") - np.asarray(other, "float64"))
    rows = np.array_split(apart, min(TILES, len(apart)))
    return max(tile.mean() for row in rows for tile in np.array_split(row, min(TILES, row.shape[1]), axis=1))


def _of_texts(stored, new, trained, is_html):
    was, now = (_words(text) for text in (stored, new))
    if [_plain(word) for word in was[::2]] != [_plain(word) for word in now[::2]]:
        return f"the text is {_text(new, is_html)!r}, stored is {_text(stored, is_html)!r}"
    pairs = zip(was[1::2], now[1::2], strict=True)
    apart = [f"{other}, stored is {one}" for one, other in pairs if not trained and not _close(one, other)]
    return f"a number is {apart[0]} ({len(apart)} differ)" if apart else None


def _words(text):
    """Texts and numbers in turn, beginning and ending with a text; the ink of words goes by the colour behind them."""
    text, found, end = text.replace("color:#fff", "color:#111"), [], 0
    for match in _NUMBER.finditer(text):
        found += [text[end : match.start()], match.group()]
        end = match.end()
    return [*found, text[end:]]


def _plain(text):
    """A text without what depends on how wide numbers are: blanks, and the rules of tables."""
    return re.sub(r"[\s-]+", " ", text).strip()


def _close(one, other):
    if one.startswith("rgb"):
        return max(abs(a - b) for a, b in zip(_colours(one), _colours(other), strict=True)) <= COLOUR
    if _whole(one) and _whole(other):
        return int(one.replace(",", "")) == int(other.replace(",", ""))
    was, now = (float(text.replace(",", "")) for text in (one, other))
    return abs(was - now) <= max(DIGITS * _last(one), DIGITS * _last(other), SHARE * abs(was), NOTHING)


def _whole(text):
    return re.fullmatch(r"[+-]?[\d,]+", text) is not None


def _last(text):
    """What one unit of the last digit is worth; nothing for a whole number."""
    digits, _, power = text.lower().partition("e")
    behind = len(digits.partition(".")[2])
    return 10.0 ** (int(power or 0) - behind) if behind or power else 0.0


def _colours(text):
    return [int(part) for part in text[4:-1].split(",")]


class _Text(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_data(self, data):
        """A text between tags."""
        self.found.append(data)


def _text(text, is_html):
    """What a reader sees, shortened."""
    if is_html:
        parser = _Text()
        parser.feed(text)
        text = " ".join(parser.found)
    return text if len(text) <= 200 else f"{text[:197]}..."
