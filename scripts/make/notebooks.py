"""The outputs that notebooks are stored with: `python scripts/make/notebooks.py`, or `... notebooks 02 05` for some.

Each is run from top to bottom, in an empty folder, and stored with what it shows (`pip install '.[notebooks,test]'`). A
warning, a failing cell, a path of this machine or a notebook that has grown too large is an error, and nothing is stored.
`--pictures FOLDER` also writes all pictures as files, to look at.
"""

import argparse
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import nbformat
from common.notebooks import NOTEBOOKS, code_of, differences, executed, pictures_of

LARGEST = 1_500_000


def complaints(notebook):
    """What must not be stored: sentences."""
    for cell in code_of(notebook):
        for output in cell.outputs:
            if output.output_type == "error" or output.get("name") == "stderr":
                yield f"{cell.id} says {output.get('text') or output.evalue}"
    text = nbformat.writes(notebook)
    if len(text) > LARGEST:
        yield f"it has {len(text):,} bytes, more than {LARGEST:,}"
    for part in (str(pathlib.Path.home()), str(NOTEBOOKS.parent), sys.prefix, "site-packages", "/tmp/"):
        if len(part) > 1 and part in text:
            yield f"it names {part}"


def make(path, folder):
    """Runs a notebook and stores it; whether that went well."""
    started = time.perf_counter()
    notebook, stored = executed(path), nbformat.read(path, 4)
    seconds = time.perf_counter() - started
    for place, (cell, picture) in enumerate(pictures_of(notebook)):
        if folder:
            picture.save(folder / f"{path.stem}_{place}_{cell}.png")
    if found := list(complaints(notebook)):
        print(f"{path.name} is not stored:", *found, sep="\n  ")
        return False
    changed = len(differences(stored, notebook))
    nbformat.write(notebook, path)
    print(f"{path.name}: {seconds:.0f} s, {path.stat().st_size / 1e6:.2f} MB, {changed} outputs changed", flush=True)
    return True


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", nargs="*", help="how names of notebooks begin, such as 02; none: all")
    parser.add_argument("--pictures", type=pathlib.Path, help="a folder for all pictures")
    options = parser.parse_args()
    if options.pictures:
        options.pictures.mkdir(parents=True, exist_ok=True)
    wanted = tuple(options.which) or ("",)
    paths = [path for path in sorted(NOTEBOOKS.glob("*.ipynb")) if path.name.startswith(wanted)]
    failed = [path.name for path in paths if not make(path, options.pictures)]
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
