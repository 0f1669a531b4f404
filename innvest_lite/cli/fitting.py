"""`innvest-lite fit`: the patterns of a model from a folder of images, read batch by batch."""

import os
import pathlib
import warnings

import innvest_lite
from innvest_lite.cli import folder, models
from innvest_lite.errors import InvalidInputError
from innvest_lite.images import find_images


def run(arguments):
    """Fits, prints what the data said of each layer, and saves; returns the exit code."""
    models.check_file(arguments.model)
    out = _checked_out(arguments.out, arguments.model)
    paths = find_images(arguments.images)
    folder.check_preprocessor(arguments.preprocess)
    model = models.load(arguments.model)
    shape = models.image_shape(model, arguments.size)
    batches = folder.ImageBatches(paths, shape, arguments.preprocess, arguments.batch_size)
    try:
        patterns = _fit(model, batches, arguments.estimator)
    finally:
        code = batches.report()
    patterns.save(out)
    print(patterns.report())
    print(f"Saved the patterns of {len(patterns)} layers to {out}")
    return code


def _fit(model, batches, estimator):
    """The patterns. The progress bar is that of the batches: Keras's own could not know how many will be readable."""
    with warnings.catch_warnings():
        # Keras says so at the end of every generator.
        warnings.filterwarnings("ignore", "Your input ran out of data")
        return innvest_lite.fit_patterns(model, (batch.inputs for batch in batches), estimator, verbose=0)


def _checked_out(out, model):
    """The path to write to, refused before the work starts rather than after it."""
    out = pathlib.Path(out)
    if not out.parent.is_dir():
        raise InvalidInputError(f"Cannot write {str(out)!r}: there is no folder {str(out.parent)!r}. Make it first.")
    if out.is_dir():
        raise InvalidInputError(f"Cannot write {str(out)!r}: it is a folder. Name a file, such as patterns.h5, in it.")
    if out.exists() and os.path.samefile(out, model):
        raise InvalidInputError(f"--out names the model's own file, {str(out)!r}; choose another, such as patterns.h5.")
    return out
