"""`ExplanationCallback`: what a model's explanations look like while it trains, as PNG files and in TensorBoard.

Called by `keras.Model.fit`. The analyzer is made once; after an epoch its patterns are fitted anew to the weights as they
are then, and neither the fit nor the explanation is traced again.
"""

from __future__ import annotations

import concurrent.futures
import functools
import logging
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from innvest_lite import visualize
from innvest_lite.analyzers import Analyzer, create_analyzer
from innvest_lite.analyzers.pattern import PatternAnalyzer
from innvest_lite.analyzers.registry import method_of
from innvest_lite.errors import InnvestLiteError, InvalidInputError, UnsupportedLayerError
from innvest_lite.options import as_array, positive
from innvest_lite.patterns import PatternFits
from innvest_lite.visualize.suited import suited

# Pictures side by side in a file.
_COLUMNS = 12

_log = logging.getLogger("innvest_lite")


class ExplanationCallback(keras.callbacks.Callback):
    """Explains the same images after every so many epochs of `model.fit`.

    Writes `epoch-0001.png`, ... to the folder, the images above their explanations, and the explanations to an event file
    for TensorBoard where that is installed; this is done in a thread, while the next epoch trains. Training is not changed:
    no weight, no gradient, no random number of it.

    Args:
        analyzer: a name that `create_analyzer` takes, for the model that is trained; or an `Analyzer` of it.
        data: the images to explain, shape `(samples, height, width, channels)`, as the model takes them.
        every: after how many epochs.
        log_dir: the folder to write to; it is made.
        fit_data: for pattern methods, samples to fit the patterns on after each of these epochs, as in `fit_patterns`;
            None: `data`.
        target: as in `Analyzer.analyze`.
        batch_size: as in `Analyzer.analyze`, also of the fit.
        options: further options for `create_analyzer`, a dict.

    Raises:
        InvalidInputError: the data are no images, there is no folder or no such analyzer; in training: the analyzer is of
            another model, or the images are none that it takes.

    Example:
        >>> callback = ExplanationCallback("gradient", images[:4], every=2, log_dir="training")
        >>> copy = keras.models.clone_model(model)
        >>> copy.compile(loss="mse")
        >>> history = copy.fit(images, np.zeros((len(images), 10)), epochs=2, verbose=0, callbacks=[callback])
        >>> pathlib.Path("training/epoch-0002.png").exists()
        True
    """

    def __init__(
        self,
        analyzer: str | Analyzer = "pattern.attribution",
        data: Any = None,
        every: int = 1,
        log_dir: str | os.PathLike[str] | None = None,
        *,
        fit_data: Any = None,
        target: Any = None,
        batch_size: int = 32,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(analyzer, Analyzer):
            method_of(analyzer)
        if data is None:
            raise InvalidInputError("Say what to explain: data= should be images, (samples, height, width, channels).")
        self._choice, self._options = analyzer, dict(options or {})
        if isinstance(analyzer, Analyzer) and options:
            raise InvalidInputError("options= is for an analyzer by its name; this one is made already.")
        self._data = np.array(as_array(data, "data"))
        if self._data.ndim != 4 or not len(self._data):
            raise InvalidInputError(
                f"data should be images to explain, (samples, height, width, channels), but has shape {self._data.shape}."
            )
        if log_dir is None:
            raise InvalidInputError("Say where to: log_dir= wants a folder.")
        self._folder = pathlib.Path(log_dir)
        self._fit_data = self._data if fit_data is None else fit_data
        self._every, self._batch_size, self._target = positive(every, "every"), positive(batch_size, "batch_size"), target
        self._analyzer: Analyzer | None = None
        self._fits: PatternFits | None = None
        self._hand: concurrent.futures.ThreadPoolExecutor | None = None
        self._writer: Any = None
        self._written: Any = None

    def on_train_begin(self, logs: Any = None) -> None:
        """Makes the analyzer; a model that it does not support is trained all the same, after one warning."""
        try:
            self._analyzer = self._made()
        except UnsupportedLayerError as error:
            self._analyzer = None
            _log.warning("There will be no explanations while this model trains: %s", error)
            return
        if isinstance(self._analyzer, PatternAnalyzer):
            analyzer = self._analyzer
            options = {name: getattr(analyzer, name) for name in ("separable", "chains", "preprocessor")}
            self._fits = PatternFits(self.model, analyzer.estimator, **options)
        self._analyzer.explainer.checked(self._data, self._target)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._complained = False
        self._writer, self._hand = _writer(self._folder), concurrent.futures.ThreadPoolExecutor(1)

    def _made(self) -> Analyzer:
        if not isinstance(self._choice, Analyzer):
            return create_analyzer(self._choice, self.model, **self._options)
        if self._choice.model is not self.model:
            raise InvalidInputError(
                f"The analyzer explains the model {self._choice.model.name!r}, but {self.model.name!r} is trained. Make it "
                "of the same model, or hand over its name."
            )
        return self._choice

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Explains, every so many epochs; what cannot be explained, such as a model of NaN, is said once."""
        if self._analyzer is None or (epoch + 1) % self._every:
            return
        try:
            self._explain(epoch)
        except InnvestLiteError as error:
            self._complain(error)

    def _complain(self, error):
        if not self._complained:
            self._complained = True
            _log.warning("Explanations while this model trains are left out where they fail: %s", error)

    def _explain(self, epoch):
        if self._fits is not None:
            self._analyzer.set_patterns(self._fits(self._fit_data, batch_size=self._batch_size, verbose=0))
        values, _ = self._analyzer.analyze(self._data, self._target, batch_size=self._batch_size, return_exponent=True)
        self._wait()
        self._written = self._hand.submit(self._write, values, epoch + 1)

    def _wait(self):
        """Until the pictures of the last time are written; says or raises what went wrong with them."""
        written, self._written = self._written, None
        if written is None:
            return
        try:
            written.result()
        except InnvestLiteError as error:
            self._complain(error)

    def _write(self, values, epoch):
        pictures = self._pictures(values)
        lines = [*self._images, list(pictures)]
        visualize.save(visualize.grid(_wrapped(lines)), self._folder / f"epoch-{epoch:04d}.png")
        if self._writer is not None:
            self._writer.write(f"explanations/{self._analyzer.name}", pictures, epoch)

    @functools.cached_property
    def _images(self):
        """The line of the images themselves; none where they have no colours."""
        if self._data.shape[-1] not in (1, 3):
            return []
        # Without relevance, an overlay is the image in grey.
        return [list(visualize.overlay(np.zeros_like(self._data), self._data))]

    def _pictures(self, values):
        picture = self._analyzer.picture
        # Signals in other channels than colours have none to show, and the data may be in any range.
        if picture == "image" or (picture == "signal" and values.shape[-1] not in (1, 3)):
            picture = "heatmap"
        return suited(picture, values, self._data, 99.5)

    def on_train_end(self, logs: Any = None) -> None:
        """Waits for the last pictures, and lets go of what only training needs."""
        try:
            self._wait()
        finally:
            if self._writer is not None:
                self._writer.close()
            if self._hand is not None:
                self._hand.shutdown()
            self._fits = self._writer = self._hand = None


def _wrapped(lines):
    """Lines of pictures, cut where they are too long for a page: the first parts of all lines, then the second ones."""
    width = min(len(lines[0]), _COLUMNS)
    filled = [line + [None] * (-len(line) % width) for line in lines]
    return [line[start : start + width] for start in range(0, len(filled[0]), width) for line in filled]


def _writer(folder):
    """For TensorBoard; None where it is not installed, which is said."""
    from innvest_lite.backend import summaries

    if summaries.can_write():
        return summaries.PictureWriter(folder)
    _log.warning("TensorBoard is not installed: explanations are written as PNG files alone. (pip install tensorboard)")
    return None
