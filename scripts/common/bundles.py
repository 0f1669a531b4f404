"""StableHLO programs in a folder that travels without weights: arguments are told as recipes, and made where they run.

A recipe says shape, dtype, mean and standard deviation of an array; `made` draws one like it with NumPy, the same on every
machine. A program's time does not depend on its weights' values, so long as they are of their size. Whole numbers and short
arrays travel as they are.
"""

import gzip
import hashlib
import json
import math
import re

import numpy as np

# Arrays of at most so many numbers, all alike or not, travel as they are.
_SHORT = 16
_INDEX = "programs.json"


class Bundle:
    """Programs on their way into a folder.

    Args:
        folder: a `pathlib.Path`.
        facts: what else the other side is to know, as JSON.
    """

    def __init__(self, folder, facts):
        self._folder, self._facts = folder, facts
        self._recipes, self._programs = {}, []
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, name, text, arguments, **facts):
        """Adds a program.

        Args:
            name: of the file.
            text: the StableHLO.
            arguments: arrays; recipes of the same array are one.
            facts: what else is known of it, as JSON.
        """
        text = without_locations(text)
        (self._folder / f"{name}.mlir.gz").write_bytes(gzip.compress(text.encode(), mtime=0))
        keys = [self._key(np.asarray(array)) for array in arguments]
        self._programs.append({"name": name, "arguments": keys, "operations": operations(text), **facts})

    def save(self):
        """Writes what the other side reads first."""
        whole = {**self._facts, "recipes": self._recipes, "programs": self._programs}
        (self._folder / _INDEX).write_text(json.dumps(whole))

    def _key(self, array):
        key = hashlib.sha256(f"{array.dtype} {array.shape}".encode() + array.tobytes()).hexdigest()[:16]
        if key not in self._recipes:
            recipe = {"shape": array.shape, "dtype": array.dtype.name}
            if array.size <= _SHORT or array.dtype.kind not in "fV":
                recipe["values"] = array.astype("float64" if array.dtype.kind in "fV" else array.dtype).ravel().tolist()
            else:
                wide = array.astype("float32")
                recipe.update(mean=float(wide.mean(dtype="float64")), deviation=float(wide.std(dtype="float64")))
            self._recipes[key] = recipe
        return key


def read(folder):
    """`(facts, texts)`: what `Bundle.save` wrote, and a function that gives a program's text by its name."""
    facts = json.loads((folder / _INDEX).read_text())
    return facts, lambda name: gzip.decompress((folder / f"{name}.mlir.gz").read_bytes()).decode()


def made(key, recipe):
    """The array of a recipe; its key decides the draw. bfloat16 comes as float32."""
    shape, dtype = tuple(recipe["shape"]), recipe["dtype"]
    dtype = "float32" if dtype == "bfloat16" else dtype
    if "values" in recipe:
        return np.array(recipe["values"], dtype).reshape(shape)
    drawn = np.random.default_rng(int(key, 16)).standard_normal(shape, "float64" if dtype == "float64" else "float32")
    drawn *= recipe["deviation"]
    drawn += recipe["mean"]
    return drawn.astype(dtype, copy=False)


def without_locations(text):
    """A program's text without what says where in its source an operation was made: half of it, and paths."""
    kept = [line for line in text.splitlines() if not line.startswith("#loc")]
    return re.sub(r" loc\((?:#\w+|\"[^\"]*\"|fused\[[^\]]*\])\)", "", "\n".join(kept)) + "\n"


# Operations of floating point ---------------------------------------------------------------------------------------

_RESULT = re.compile(r"^    (%\w+)(?::\d+)? = ")
_NAMES = re.compile(r"%\w+")
_TYPES = re.compile(r"tensor<((?:\d+x)*)[a-z]\w*>")


def operations(text):
    """How many floating-point operations the convolutions and matrix products of a program take, each product being two.

    Of what the outputs depend on; the zeros between the values of a strided convolution's gradient are not counted, zeros
    at the border are.
    """
    return float(sum(2 * _products(line) for line in _needed(text)))


def _needed(text):
    """The operations of the main function on which its outputs depend, as texts."""
    needed, wanted = [], set()
    for operation in reversed(_of_main(text)):
        result = _RESULT.match(operation)
        if result is None or result.group(1) in wanted:
            wanted.update(_NAMES.findall(operation))
            needed.append(operation)
    return needed


def _of_main(text):
    """The operations of the main function, regions and all."""
    lines = iter(text.splitlines())
    for line in lines:
        if "func.func" in line and "@main" in line:
            break
    found = []
    for line in lines:
        if line.startswith("  }"):
            return found
        # An operation begins at the function's own depth; what is deeper, and what closes it, belongs to the last one.
        if line.startswith("    ") and line[4] not in " }^":
            found.append(line)
        elif found:
            found[-1] += "\n" + line
    raise ValueError("no main function")


def _products(operation):
    kind = re.search(r"= stablehlo\.(convolution|dot_general|dot)\b", operation)
    if kind is None:
        return 0
    sizes = [[int(size) for size in found.split("x")[:-1]] for found in _TYPES.findall(operation)[-3:]]
    left, right, result = sizes
    if kind.group(1) == "dot":
        return math.prod(result) * left[-1]
    if kind.group(1) == "dot_general":
        contracted = re.search(r"contracting_dims = \[([\d, ]*)\]", operation).group(1)
        return math.prod(result) * math.prod(left[int(axis)] for axis in contracted.split(",") if axis.strip())
    kernel = re.search(r"\]x\[([\w, ]+)\]->", operation).group(1).split(", ")
    dilated = re.search(r"lhs_dilate = \[([\d, ]+)\]", operation)
    between = math.prod(int(size) for size in dilated.group(1).split(",")) if dilated else 1
    return math.prod(result) * math.prod(right) // right[kernel.index("o")] // between
