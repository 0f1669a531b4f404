"""The page itself: HTML with its style, its script and all pictures within."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import html
import importlib.resources
import io
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

import innvest_lite
from innvest_lite.errors import InvalidInputError
from innvest_lite.files import check_output, replacing
from innvest_lite.report import charts
from innvest_lite.visualize.checks import as_picture

# The page may load nothing from anywhere, and run and apply nothing but its own script and style: it may show file names
# and labels of strangers.
_POLICY = "default-src 'none'; img-src data:; style-src {style}; script-src {script}; base-uri 'none'; form-action 'none'"
_READING = (
    "Red is for the class that is explained, blue against it; each picture is on a scale of its own. Signals (pattern.net) "
    "are shown as they are, grey is zero. Hold the pointer over a picture, or use the arrow keys, to read its values: "
    "sums over channels, in the unit of the method."
)
_READING_BARS = (
    "Bars to the right, in red, are for the answer that is explained, those to the left, in blue, against it, in the unit "
    "of the method; each chart is on a scale of its own, with what counts most on top."
)
_SLIDER = '<label>Heat map over image <input id="overlay" type="range" min="0" max="100" value="70"></label>'
_RHO = "Medians over a layer's neurons. Values that differ from 1 by less than the floor cannot be told from 1."
# Images up to this side show their pixels; larger ones are smooth, and so are the maps on them.
_PIXELATED = 64
_SHOWN = {"all": "all", "wrong": "wrong predictions", "right": "right predictions"}
_ORDERS = {
    "given": "as given",
    "surest": "most confident first",
    "least": "least confident first",
    "name": "by name",
}


@dataclasses.dataclass(frozen=True, eq=False)
class Sample:
    """An image, or a row of a table, and its explanations.

    Attributes:
        name: of the image, such as its file's, or of the row.
        image: uint8 `(height, width, 3)`, of any size: maps are laid over all of it; None for a row.
        classes: `(name, probability)` of the most likely classes, in falling order.
        pictures: method -> uint8 `(height, width, 3)`.
        values: method -> float `(height, width)`, what the picture shows, in the method's unit.
        said: what the model says where that is no probability of classes, such as "the output, 3.20".
        true: the name of the true class, where it is known.
        wrong: whether the prediction is another class; None where that is not known.
        bars: of a row, method -> `(label, number)` of each column, in the method's unit.
    """

    name: str
    image: np.ndarray | None
    classes: tuple[tuple[str, float], ...]
    pictures: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    values: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    said: str = ""
    true: str | None = None
    wrong: bool | None = None
    bars: Mapping[str, Sequence[tuple[str, float]]] = dataclasses.field(default_factory=dict)


def page(
    title: str,
    samples: Sequence[Sample],
    *,
    facts: str = "",
    warnings: Sequence[str] = (),
    curves: Mapping[str, Any] | None = None,
    rows: Sequence[Mapping[str, Any]] | None = None,
) -> str:
    """A report as HTML.

    Args:
        title: of the page.
        samples: `Sample`s.
        facts: a sentence on how it was made.
        warnings: sentences that speak against trusting it, at the top.
        curves: method -> mean probability by patches replaced, of `metrics.degradation`; None: no such section.
        rows: of a table of signal estimators, dicts with the same keys; None: no such section.

    Returns:
        A str: one self-contained file.

    Raises:
        InvalidInputError: there are no samples, something is not a picture, values or curves are not finite or differ in
            length, or rows have different keys.
    """
    samples = list(samples)
    if not samples:
        raise InvalidInputError("A report needs at least one sample.")
    articles = "\n".join(map(_article, range(len(samples)), samples))
    style = _resource("page.css") + "".join(map(_style, range(len(samples)), samples))
    script = _resource("page.js")
    policy = _POLICY.format(style=_source(style), script=_source(script))
    sections = ""
    if curves:
        drawn = charts.lines(curves, "patches replaced", "mean probability")
        sections += f"<section><h2>Image degradation</h2>{drawn}</section>"
    if rows:
        sections += (
            f'<section><h2>Signal estimators (rho, 1 is best)</h2><p class="facts">{_RHO}</p>{_table(rows)}</section>'
        )
    images = any(sample.image is not None for sample in samples)
    reading, slider = (_READING, _SLIDER) if images else (_READING_BARS, "")
    order = _select("order", "Order", _ORDERS)
    known = [sample for sample in samples if sample.wrong is not None]
    show = _select("show", "Show", _SHOWN) if known else ""
    wrong = sum(bool(sample.wrong) for sample in known)
    count = f'<output id="count">{wrong} of {len(known)} predictions are wrong</output>' if known else ""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{html.escape(title)}</title>
<style>{style}</style>
</head>
<body>
<header><h1>{html.escape(title)}</h1><p>{html.escape(facts)}</p><p>{reading}</p>{_told(warnings)}</header>
<form aria-label="How the pictures are shown">
{slider}
{order}
{show}
{count}
</form>
<main>
<div id="samples">
{articles}
</div>
{sections}
</main>
<footer><p class="facts">innvest_lite {html.escape(innvest_lite.__version__)}</p></footer>
<script>{script}</script>
</body>
</html>
"""


def write(path: str | os.PathLike[str], title: str, samples: Sequence[Sample], **options: Any) -> pathlib.Path:
    """Writes a `page` to a file, whole or not at all.

    Args:
        path: of the file, which ends in .html.
        title: as in `page`.
        samples: as in `page`.
        **options: as in `page`.

    Returns:
        The path, a `pathlib.Path`.

    Raises:
        InvalidInputError: the path does not end in .html, or as `page`.
        OSError: no file can be written there.
    """
    path = checked_path(path)
    text = page(title, samples, **options)
    with replacing(path) as partial:
        # The name of a file may hold bytes that are not text.
        partial.write_bytes(text.encode("utf-8", "backslashreplace"))
    return path


def checked_path(path: str | os.PathLike[str]) -> pathlib.Path:
    """The `path` of a page as a `pathlib.Path`.

    Raises:
        InvalidInputError: it does not end in .html.
        OSError: no file can be written there.
    """
    path = pathlib.Path(path)
    if path.suffix.lower() not in (".html", ".htm"):
        raise InvalidInputError(f"A report is an HTML file, but the path is {str(path)!r}; let it end in .html.")
    check_output(path, "report.html")
    return path


def _source(text):
    """What stands for an element of this text in a content policy: its hash."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _style(number, sample):
    """The rules for one sample; attributes of style would need a policy that lets strangers' pass, too."""
    if sample.image is None:
        return ""
    height, width = sample.image.shape[:2]
    return (
        f"#sample-{number} {{ --image: url({_data(sample.image, 'image', photo=True)}); }}\n"
        f"#sample-{number} .stack {{ aspect-ratio: {width} / {height}; }}\n"
    )


def _told(warnings):
    """What speaks against trusting the page, as a list."""
    items = "".join(f"<li>{html.escape(text)}</li>" for text in warnings)
    return f'<ul class="warnings" aria-label="Warnings">{items}</ul>' if items else ""


def _select(name, label, options):
    choices = "".join(f'<option value="{value}">{text}</option>' for value, text in options.items())
    return f'<label>{label} <select id="{name}">{choices}</select></label>'


def _article(number, sample):
    confidence = sample.classes[0][1] if sample.classes else 0
    said = [f"{name}: {_percent(share)}" for name, share in sample.classes] or [sample.said] * bool(sample.said)
    classes = "".join(f"<li>{html.escape(text)}</li>" for text in said)
    if sample.true is not None:
        mark = "wrong: this is" if sample.wrong else "true class:"
        classes += f'<li class="{"wrong" if sample.wrong else "true"}">{mark} {html.escape(sample.true)}</li>'
    judged = "" if sample.wrong is None else f' data-judged="{"wrong" if sample.wrong else "right"}"'
    smooth = sample.image is not None and max(sample.image.shape[:2]) > _PIXELATED
    kind = "sample smooth" if smooth else "sample" if sample.image is not None else "sample row"
    name = html.escape(sample.name)
    alone = f'<div class="stack alone" role="img" aria-label="{name}"></div>'
    figures = [_figure(alone, "image")] if sample.image is not None else []
    figures += [_heat(sample, method) for method in sample.pictures]
    figures += [_figure(charts.bars(pairs, f"{method} of {sample.name}"), method) for method, pairs in sample.bars.items()]
    return (
        f'<article class="{kind}" id="sample-{number}" data-confidence="{confidence:.6f}" data-name="{name}"{judged}>'
        f'<h2>{name}</h2><ul class="classes">{classes}</ul><div class="pictures">{"".join(figures)}</div></article>'
    )


def _percent(share):
    return f"{100 * share:.1f} %"


def _heat(sample, method):
    """A heat map over its image, with its values."""
    values = np.asarray(sample.values[method], "float64")
    if values.shape != sample.pictures[method].shape[:2] or not np.isfinite(values).all():
        raise InvalidInputError(
            f"The values of {method} of {sample.name!r}, of shape {values.shape}, should be finite numbers, one for each "
            f"pixel of its picture, {sample.pictures[method].shape[:2]}."
        )
    limit = float(np.abs(values).max())
    numbers = np.rint(values / (limit or 1) * 32767).astype("<i2")
    height, width = values.shape
    label = html.escape(f"{method} of {sample.name}: arrow keys read values")
    stack = (
        f'<div class="stack" tabindex="0" role="group" aria-label="{label}" data-width="{width}" data-height="{height}" '
        f'data-limit="{limit:.6g}" data-values="{base64.b64encode(numbers.tobytes()).decode()}">'
        f"{_image(sample.pictures[method], f'heat map by {method}')}"
        '<span class="mark"></span></div>'
    )
    nothing = "" if limit else "<br>(all zero)"
    return _figure(stack, method, f'{nothing}<output aria-live="polite"></output>')


def _figure(content, caption, more=""):
    return f"<figure>{content}<figcaption>{_breakable(caption)}{more}</figcaption></figure>"


def _breakable(name):
    """A name as HTML that may be wrapped after underscores."""
    return html.escape(str(name)).replace("_", "_<wbr>")


def _image(picture, text):
    height, width = picture.shape[:2]
    return f'<img src="{_data(picture, text)}" width="{width}" height="{height}" alt="{html.escape(text)}">'


def _data(picture, name, photo=False):
    """A picture as a data URL; a photograph as JPEG."""
    picture = as_picture(picture, name)
    if photo and max(picture.shape[:2]) > _PIXELATED:
        return _url(Image.fromarray(picture), "JPEG", quality=88, optimize=True)
    colors, places = np.unique(picture.reshape(-1, 3), axis=0, return_inverse=True)
    if len(colors) > 256:
        image = Image.fromarray(picture)
    else:  # a heat map has one colour for each step of its map: a third of the bytes
        image = Image.fromarray(places.reshape(picture.shape[:2]).astype("uint8"))
        image.putpalette(colors.tobytes())
    return _url(image, "PNG", optimize=True)


def _url(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _table(rows):
    if any(list(row) != list(rows[0]) for row in rows):
        raise InvalidInputError("The rows of a table have different columns.")
    heads = "".join(f'<th scope="col">{_breakable(name)}</th>' for name in rows[0])
    body = "".join("<tr>" + "".join(f"<td>{_cell(value)}</td>" for value in row.values()) + "</tr>" for row in rows)
    whole = f"<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="scroll" tabindex="0" role="region" aria-label="table">{whole}</div>'


def _cell(value):
    return f"{value:.3g}" if isinstance(value, float | np.floating) else html.escape(str(value))


def _resource(name):
    return importlib.resources.files("innvest_lite.report").joinpath(name).read_text(encoding="utf-8")
