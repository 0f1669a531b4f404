"""What all contestants of `scripts/benchmarks/race.py` share: the methods' settings, the loop that answers requests.

A worker is a process of its own. Its first line on stdout is JSON: its versions, its methods with a note on each, and what
it lacks, with the reason. Then it answers each line on stdin with one: `{"do": "prepare", "model": "VGG16", "batch": 1,
"method": "gradient"}` builds and calls once, `{"do": "time"}` calls again (`"variant"` says how) and gives the seconds,
`{"do": "drop"}` lets the memory go. An error is an answer too.
Between two lines it waits on stdin and computes nothing.
"""

import contextlib
import ctypes
import gc
import importlib.metadata
import json
import os
import sys

import numpy as np
from common.measuring import timed
from common.networks import images

EPSILON, STEPS, SAMPLES, NOISE, MASKS, CELLS, WINDOW = 1e-6, 8, 8, 10.0, 32, 7, 32
# How many altered samples go through the model at a time, where a package lets one choose.
TOGETHER = 16


def versions(*packages):
    """Package -> version, of those that are installed here."""
    return {package: importlib.metadata.version(package) for package in packages}


def serve(explaining, methods, installed, missing=()):
    """Answers requests until stdin ends.

    Args:
        explaining: a function of (model's name, method's name, batch of images) that gives a context manager, which
            hands out the call to time, or several by the names of variants, "" the first, and clears up behind it.
        methods: name -> what its settings differ in from the others', "" for nothing.
        installed: from `versions`.
        missing: name -> why this contestant cannot have it.
    """
    # Libraries print on stdout, too: let them print to stderr.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(content):
        print(json.dumps(content), file=answers, flush=True)

    answer({"versions": installed, "methods": methods, "missing": dict(missing)})
    case = Case(explaining)
    for line in sys.stdin:
        try:
            answer(case.done(**json.loads(line)))
        except Exception as error:
            case.drop()
            answer({"error": f"{type(error).__name__}: {error}"})


class Case:
    """What is explained at the moment: a model, a batch and a method."""

    def __init__(self, explaining):
        self.explaining = explaining
        self.stack = contextlib.ExitStack()
        self.calls = {}
        self.prepared = {}

    def done(self, do, **case):
        """The answer to a request."""
        if do == "time":
            return {"seconds": timed(self.calls[case.get("variant", "")])}
        if do == "drop" or case != self.prepared:
            self.drop()
        if do == "prepare" and case != self.prepared:
            return self._prepare(case)
        return {}

    def _prepare(self, case):
        batch = images(case["batch"])
        found = self.stack.enter_context(self.explaining(case["model"], case["method"], batch))
        self.calls = found if isinstance(found, dict) else {"": found}
        called = [call() for call in self.calls.values()]
        finite = all(bool(np.isfinite(result).all()) for result in called)
        self.prepared = case
        return {} if finite else {"note": "values are not finite"}

    def drop(self):
        """Forgets the case."""
        self.calls, self.prepared = {}, {}
        self.stack.close()
        gc.collect()
        # Freed memory goes back to the machine, which the others need.
        ctypes.CDLL(None).malloc_trim(0)
