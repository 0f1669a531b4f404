"""The memory that a folder of large images takes: `python scripts/checks/image_memory.py`.

Makes forty PNGs of 9400 x 9400 pixels (88 megapixels each, a few hundred KB as a file), a model of 224 x 224 pixels, and
runs `innvest-lite fit` and `innvest-lite analyze` on the folder, each in a process of its own. Prints the peak of each
process's resident memory; the exit code is 1 where one is above `--limit`, or a command failed.
"""

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
_COMMAND = "import sys; from innvest_lite.cli import main; sys.exit(main(sys.argv[1:]))"
# Of Linux, where ru_maxrss counts KiB; elsewhere bytes.
_UNIT = 1024 if sys.platform.startswith("linux") else 1


def make_images(folder, count, side):
    """A folder of so many large images, of one file under many names: with transparency, which takes the most."""
    from PIL import Image

    folder.mkdir()
    tile = Image.effect_mandelbrot((256, 256), (-2, -1.5, 1, 1.5), 50).convert("RGB")
    tile.putalpha(Image.linear_gradient("L"))
    image = Image.new("RGBA", (side, side))
    row = Image.new("RGBA", (side, 256))
    for left in range(0, side, 256):
        row.paste(tile, (left, 0))
    for top in range(0, side, 256):
        image.paste(row, (0, top))
    image.save(folder / "000.png", compress_level=9)
    for number in range(1, count):
        os.link(folder / "000.png", folder / f"{number:03d}.png")
    return (folder / "000.png").stat().st_size


def make_model(path):
    """A small convolutional network for images of 224 x 224."""
    code = """
import sys, keras
layers = keras.layers
stack = [keras.Input((224, 224, 3)), layers.Conv2D(4, 7, 4, activation="relu"), layers.GlobalAveragePooling2D()]
keras.Sequential([*stack, layers.Dense(3, activation="softmax")]).save(sys.argv[1])
"""
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, env=_environment())


def peak_of(*arguments):
    """`(exit code, peak resident bytes, seconds)` of a command in a process of its own."""
    begin = time.monotonic()
    command = [sys.executable, "-c", _COMMAND, *map(str, arguments)]
    process = subprocess.Popen(command, env=_environment(), stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage.ru_maxrss * _UNIT, time.monotonic() - begin


def _environment():
    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": paths, "TF_CPP_MIN_LOG_LEVEL": "3"}


def main():
    """The command line; the exit code says whether a limit was passed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=40, metavar="N", help="default: %(default)s")
    parser.add_argument("--side", type=int, default=9400, metavar="PIXELS", help="default: %(default)s")
    parser.add_argument("--limit", type=float, default=3.0, metavar="GB", help="default: %(default)s")
    parser.add_argument("--command", choices=("fit", "analyze"), help="only this one; default: both")
    options = parser.parse_args()
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        size = make_images(folder / "images", options.images, options.side)
        make_model(folder / "model.keras")
        given = folder / "model.keras", folder / "images", "--preprocess", "unit"
        print(f"{options.images} PNGs of {options.side} x {options.side} pixels, {size / 1e3:.0f} KB each", flush=True)
        commands = {
            "fit": ("fit", *given, "--out", folder / "patterns.h5"),
            "analyze": ("analyze", *given, "--method", "gradient", "--out", folder / "heat"),
        }
        for name in [options.command] if options.command else commands:
            arguments = commands[name]
            code, peak, seconds = peak_of(*arguments)
            wrong = code != 0 or peak > options.limit * 1e9
            failed = failed or wrong
            said = f"exit code {code}, peak {peak / 1e9:.2f} GB, {seconds:.0f} s"
            print(f"{name}: {said}{f', above {options.limit:g} GB or failed' if wrong else ''}", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
