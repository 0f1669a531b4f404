"""`innvest-lite analyze MODEL texts.txt`: explains the lines of a file, to a page and a JSON file. Called by `analysis`."""

from __future__ import annotations

import argparse
import html
import json
import pathlib
from typing import Any

import innvest_lite
from innvest_lite.answers import answers_and_scores
from innvest_lite.cli import models, naming, overwriting, plain_text, record
from innvest_lite.cli.terminal import complain, say
from innvest_lite.errors import InvalidInputError
from innvest_lite.files import check_none_among, replacing

_ENDING = ".txt"
PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<body style="font:16px sans-serif;max-width:60em;margin:2em auto">
<h1 style="font-size:1.2em">{title}</h1>
{body}
"""


def is_texts(path: str) -> bool:
    """Whether a path names a file of texts, by its ending."""
    return pathlib.Path(path).suffix.lower() == _ENDING


def read(path: str) -> list[str]:
    """The lines of a text file that are not empty.

    Raises:
        InvalidInputError: there is no such file, it is not UTF-8, or holds no text.
    """
    found = [line.strip() for line in plain_text.read(path).splitlines() if line.strip()]
    if not found:
        raise InvalidInputError(f"The file {path!r} holds no text; expected one on each line.")
    return found


def explain(arguments: argparse.Namespace, out: pathlib.Path) -> int:
    """Writes the explanations of all texts; returns the exit code."""
    (given,) = arguments.images
    texts = read(given)
    if arguments.overlay:
        raise InvalidInputError("--overlay is for images; texts are shown on the colours of their words.")
    if arguments.preprocess not in ("none", models.OWN_PREPROCESSOR):
        raise InvalidInputError(
            f"--preprocess {arguments.preprocess} is for images; a model of texts prepares them itself."
        )
    stem = f"{pathlib.Path(given).stem}.{models.named(arguments)}"
    results = [out / f"{stem}.html", out / f"{stem}.json"]
    check_none_among(results, {"the file of the texts": [given], **models.files_read(arguments)})
    overwriting.refuse_existing(results, arguments)
    options = models.analyzer_options(arguments)
    preprocessor, model = reading(models.load(arguments.model))
    options["input_shape"] = _sizes(model, preprocessor, texts)
    analyzer = innvest_lite.create_analyzer(arguments.method, model, preprocessor=preprocessor, **options)
    labels = naming.labels(arguments.labels)
    target = models.target_of(arguments.target, analyzer, labels)
    found = innvest_lite.texts.explain(analyzer, texts, target, batch_size=arguments.batch_size)
    said, scores = answers_and_scores(analyzer, texts, target, labels, arguments.batch_size)
    out.mkdir(parents=True, exist_ok=True)
    title = f"{pathlib.Path(given).name}: {models.named(arguments)} of {pathlib.Path(arguments.model).name}"
    with replacing(results[0]) as partial:
        body = "\n".join(
            f'<h2 style="font-size:1em">{number}: {html.escape(str(answer))}</h2>\n{one.html()}'
            for number, (one, answer) in enumerate(zip(found, said, strict=True))
        )
        partial.write_text(PAGE.format(title=html.escape(title), body=body), encoding="utf-8")
    with replacing(results[1]) as partial:
        pairs = zip(texts, found, said, strict=True)
        written = [{"text": text, **one.to_dict(), "explained": answer.to_dict()} for text, one, answer in pairs]
        partial.write_text(json.dumps(written, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    files = {"values": results[1].name, "picture": results[0].name}
    known: dict[str, Any] = {"target": arguments.target, **files}
    rows = [
        record.row(f"{pathlib.Path(given).name}[{number}]", models.named(arguments), answer, **known)
        for number, answer in enumerate(said)
    ]
    record.note(out, rows)
    record.show(rows, out)
    for doubt in record.doubts([] if scores is None else [scores]):
        complain(f"warning: {doubt}")
    say(f"Wrote {len(found)} explanations ({models.named(arguments)}) to {results[0]} and {results[1]}")
    return 0


def reading(model: Any) -> tuple[Any, Any]:
    """What makes tokens of texts, and the model of tokens.

    Raises:
        InvalidInputError: the model takes no texts.
    """
    own = getattr(model, "preprocessor", None)
    if own is not None:
        return own, model
    try:
        return innvest_lite.texts.split(model)
    except InvalidInputError as error:
        raise InvalidInputError(
            "A .txt file is for a model that takes texts: with a TextVectorization layer in it, or a KerasHub task with "
            "its preprocessor. A model of tokens takes them as a .npy file."
        ) from error


def _sizes(model, preprocessor, texts):
    """The sizes of what the model takes, where it leaves them open; else None."""
    if all(None not in tensor.shape[1:] for tensor in model.inputs):
        return None
    import keras

    from innvest_lite.preprocessing import Preprocessor

    prepare: Any = Preprocessor.of(preprocessor)
    return keras.tree.map_structure(lambda array: array.shape[1:], prepare(texts))
