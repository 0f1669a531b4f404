"""The API reference as HTML, from the docstrings: `python scripts/make/api_reference.py --out api`.

pdoc (`pip install '.[docs]'`) makes it, and every warning is an error. What has no leading underscore is in it, also what
is loaded when first used.
"""

import argparse
import os
import pathlib
import tempfile
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["KERAS_BACKEND"] = "tensorflow"

import pdoc

import innvest_lite

MODULES = (
    *("analyzers", "callbacks", "data", "datasets", "errors", "export", "forms", "graph", "images", "metrics", "patterns"),
    *("preprocessing", "report", "rules", "visualize"),
)


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("api"), help="a folder (%(default)s)")
    out = parser.parse_args().out.resolve()
    for name in innvest_lite.__all__:  # pdoc looks names up in the module's dictionary, where lazy ones are not yet
        vars(innvest_lite)[name] = getattr(innvest_lite, name)
    pdoc.render.configure(docformat="google", footer_text=f"innvest_lite {innvest_lite.__version__}")
    here = os.getcwd()
    with tempfile.TemporaryDirectory() as elsewhere, warnings.catch_warnings():
        warnings.simplefilter("error")
        # Beside the checkout, pdoc asks whether the package or its folder is meant.
        os.chdir(elsewhere)
        pdoc.pdoc("innvest_lite", *(f"innvest_lite.{name}" for name in MODULES), output_directory=out)
        os.chdir(here)
    print(f"{out / 'index.html'}: {len(list(out.rglob('*.html')))} pages")


if __name__ == "__main__":
    main()
