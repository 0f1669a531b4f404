"""Known truth on the command line: masks and a signal from files, and the scores of methods. Called by `evaluation`.

The command line knows no labels, so all samples count, also those that the model gets wrong; that is said.
"""

from __future__ import annotations

import argparse
import dataclasses
from typing import TYPE_CHECKING

import numpy as np

import innvest_lite
from innvest_lite.cli import arrays
from innvest_lite.cli.terminal import say
from innvest_lite.errors import InvalidInputError

if TYPE_CHECKING:
    from innvest_lite.metrics import GroundTruthTable

CONSTANT = "constant map"
"""What the methods are compared with."""


@dataclasses.dataclass(frozen=True, eq=False)
class Truth:
    """What is known of the samples.

    Attributes:
        masks: as `metrics.ground_truth` takes them.
        signal: likewise, or None.
        emd: whether the earth mover's distance is asked for.
    """

    masks: np.ndarray
    signal: np.ndarray | None
    emd: bool

    def at(self, places: np.ndarray) -> Truth:
        """That of the samples at some places, int (samples,); what goes for all samples stays."""
        return Truth(_at(self.masks, places), None if self.signal is None else _at(self.signal, places), self.emd)


def _at(array, places):
    return array if len(array) == 1 else array[places]


def given(arguments: argparse.Namespace) -> Truth | None:
    """What --truth, --truth-signal and --emd say; None without --truth.

    Raises:
        InvalidInputError: the options do not go together, POT is missing, or a file holds another number of samples.
    """
    if arguments.truth is None:
        if arguments.truth_signal is not None or arguments.emd:
            raise InvalidInputError("--truth-signal and --emd go with --truth, the masks of what is known to matter.")
        return None
    (data,) = arguments.data if len(arguments.data) == 1 else ("",)
    if not arrays.is_array(data):
        raise InvalidInputError(
            "--truth is for arrays: give DATA as a .npy file, whose samples have the order of the masks."
        )
    if arguments.emd:
        from innvest_lite.metrics.transport import optimal_transport

        optimal_transport()
    count = len(arrays.read(data))
    signal = None if arguments.truth_signal is None else _read(arguments.truth_signal, count)
    return Truth(_read(arguments.truth, count), signal, arguments.emd)


def _read(path, count):
    array = arrays.read(path)
    if len(array) not in (1, count):
        raise InvalidInputError(f"{path} holds {len(array)} samples, but DATA {count}; give as many, or 1 for all.")
    return array


class Scores:
    """Scores of methods against what is known; those of a constant map are found at once.

    Args:
        truth: of the samples.
        samples: as the model takes them.
        batch_size: how many samples are explained at a time.

    Raises:
        InvalidInputError: the masks or the signal do not fit the samples.
    """

    def __init__(self, truth: Truth, samples: np.ndarray, batch_size: int) -> None:
        self._truth, self._samples, self._batch_size = truth, samples, batch_size
        self._found = {CONSTANT: self._scored(np.ones(samples.shape))}

    def add(self, name: str, analyzer: innvest_lite.Analyzer | np.ndarray) -> None:
        """Adds the scores of a method, or of explanations that were made before."""
        from innvest_lite.metrics.attributions import Subject

        if isinstance(analyzer, np.ndarray):
            self._found[name] = self._scored(analyzer)
            return
        (values,) = Subject(analyzer, self._samples, batch_size=self._batch_size).explained()
        self._found[name] = self._scored(values)

    def table(self) -> GroundTruthTable:
        """A `GroundTruthTable` of the methods and the constant map, with which they are compared."""
        from innvest_lite.metrics import ground_truth_table

        say(
            f"Known truth: all {len(self._samples)} samples count, also those that the model gets wrong, since no labels "
            "are known here; leave such samples out of the files"
        )
        return ground_truth_table(self._found, baseline=CONSTANT)

    def _scored(self, values):
        from innvest_lite.metrics import ground_truth

        return ground_truth(values, self._truth.masks, self._truth.signal, emd=self._truth.emd)
