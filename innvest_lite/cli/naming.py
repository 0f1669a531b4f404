"""Names of classes, and the true class of each image, from what people have: a file of labels, folders by class.

Called by `analysis` and `reporting`.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from innvest_lite.answers import ordered_labels
from innvest_lite.cli import plain_text
from innvest_lite.cli.reading import Found
from innvest_lite.errors import InvalidInputError


def labels(given: str | None) -> list[str] | None:
    """The names of the classes that --labels says; None without it.

    Args:
        given: a text file with a name on each line; a .json file with a list of names or a dict of names and numbers, such
            as the `class_indices` of Keras's generators or ImageNet's `{"0": ["n01440764", "tench"]}`; or names between
            commas.

    Raises:
        InvalidInputError: it is neither, or the file cannot be read as such.
    """
    if given is None:
        return None
    path = pathlib.Path(given)
    if not path.is_file() and "," in given and path.suffix.lower() not in (".txt", ".json", ".csv"):
        return [name.strip() for name in given.split(",")]
    if not path.is_file():
        raise InvalidInputError(f"--labels {given!r}: there is no such file, and names have commas between them.")
    text = plain_text.read(given)
    return _of_json(text, given) if path.suffix.lower() == ".json" else text.rstrip("\n").split("\n")


def _of_json(text, given):
    """Names from a JSON file: a list, or a dict from number to name or from name to number, in the order of the numbers."""
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"--labels {given!r} is no JSON: {error}.") from error
    if isinstance(found, dict):
        try:
            found = ordered_labels(found)
        except InvalidInputError as error:
            raise InvalidInputError(f"--labels {given!r}: {error}") from error
    if not isinstance(found, list):
        raise InvalidInputError(f"--labels {given!r} should hold a list of names, or a dict of numbers and names.")
    # ImageNet's has an identifier before each name.
    return [str(name[-1] if isinstance(name, list) and name else name) for name in found]


# Folders of these names hold parts of the data, not classes.
_PARTS = {"train", "training", "test", "testing", "val", "valid", "validation", "dev", "eval"}


@dataclasses.dataclass(frozen=True)
class Truth:
    """What folders say of the classes.

    Attributes:
        classes: path of an image -> the number of its true class; those of which nothing is known are missing.
        labels: names of all classes, from --labels or from the folders; None where neither gives them.
        said: how the folders were read, as a sentence; "" where they say nothing.
    """

    classes: Mapping[pathlib.Path, int]
    labels: Sequence[str] | None
    said: str = ""


def truth_of(found: Found, given: Sequence[str] | None, classes: int | None) -> Truth:
    """The true classes of images in a folder for each class.

    With labels, a folder is of the class of its name, whatever the case and with "_" for a space. Without, the folders,
    sorted by name, are the classes in order, as `keras.utils.image_dataset_from_directory` numbers them, if there are as
    many of them as the model has classes.

    Args:
        found: the images.
        given: the labels, or None.
        classes: how many classes the model has; None where its output is of no class.
    """
    if classes is None:
        return Truth({}, None)
    folders = {path: _folder(path, found.root) for path in found.paths}
    if given is not None:
        exact, plain = _numbers(given), _numbers(map(_plain, given))
        known = {path: exact.get(name, plain.get(_plain(name))) for path, name in folders.items()}
        unknown = "No folder has the name of a label, so that true classes are not known"
        said = unknown if len(set(folders.values())) > 1 and not any(one is not None for one in known.values()) else ""
        return Truth({path: number for path, number in known.items() if number is not None}, given, said)
    names = sorted(one.name for one in found.root.iterdir() if one.is_dir() and not one.name.startswith("."))
    if len(names) != classes or not set(folders.values()) <= set(names) or set(map(str.casefold, names)) <= _PARTS:
        return Truth({}, None)
    said = f"The folders are taken for the classes, in the order of their names: {_listed(names)} (--labels says otherwise)"
    return Truth({path: names.index(name) for path, name in folders.items()}, names, said)


def _numbers(names):
    """Name -> number, of the names that are one class's alone."""
    names = list(names)
    return {name: number for number, name in enumerate(names) if names.count(name) == 1}


def _folder(path, root):
    """The folder of an image just below the root; of an image in the root itself, the root's own name."""
    inside = path.relative_to(root).parts
    return inside[0] if len(inside) > 1 else root.resolve().name


def _plain(name):
    return name.casefold().replace("_", " ").replace("-", " ").strip()


def _listed(names, most=6):
    numbered = [name if name == str(number) else f"{number} {name}" for number, name in enumerate(names)]
    return ", ".join(numbered if len(names) <= most else [*numbered[: most - 1], "...", numbered[-1]])
