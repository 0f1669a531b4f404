"""`Looped`: an analyzer that evaluates the model many times for each sample, in one compiled loop of bounded memory.

Called by the methods that average over a path or over noise (`averaged`) and by those that hide parts of the input
(`perturbation`).
"""

import numpy as np
from keras import ops

from innvest_lite import backend
from innvest_lite.analyzers import sweep
from innvest_lite.analyzers.base import Analyzer
from innvest_lite.analyzers.batches import run
from innvest_lite.errors import InvalidInputError
from innvest_lite.rules import Gradient, anything, bind

# How many samples a model evaluates at a time.
_BATCH = 32


class Looped(Analyzer):
    """Evaluates each sample `_evaluations()` times.

    `batch_size` in `analyze` counts evaluated samples: with one sample and a batch size of 32, 32 evaluations of it go at a
    time; with 32 samples or more, one of each.
    """

    def _set_graph(self, graph):
        super()._set_graph(graph)
        self._plan = bind(self._graph, [(anything(), Gradient())], type(self).__name__)

    def _evaluations(self):
        """How many times each sample is evaluated."""
        raise NotImplementedError

    def _looped(self, inputs, target, keep, place, seed=None):
        """As `_explain`.

        Args:
            inputs: a tensor per input.
            target: None or weights in the shape of the output.
            keep: as `_explain` takes it.
            place: `(index, together)`: int32 (batch,), the number of each sample in `analyze`, on which random numbers
                hang; and how many evaluations of each sample go at a time.
            seed: as `_explain` takes it.
        """
        raise NotImplementedError

    def _explain(self, inputs, target, keep, seed=None):
        index = ops.arange(ops.shape(inputs[0])[0], dtype="int32")
        return self._looped(inputs, target, keep, (index, self._together(inputs[0].shape[0])), seed)

    def _together(self, count):
        """How many evaluations of each sample go at a time where nobody says: 32 samples make a batch."""
        return 1 if count is None else self._evenly(_BATCH // max(count, 1))

    def _evenly(self, most):
        """How many go at a time where at most so many may: so many that no round is left with a few, and filled up."""
        rounds = self._rounds(max(most, 1))
        return self._rounds(rounds)

    def _values(self, names):
        if names:
            raise InvalidInputError(f"{type(self).__name__} has no single backward pass, so it keeps nothing on the way.")
        return ()

    def _in_batches(self, arrays, weights, keep, batch_size, verbose):
        count = len(arrays[0])
        at_a_time = min(max(count, 1), batch_size)
        together = self._evenly(batch_size // at_a_time)
        flat = [*arrays, *([] if weights is None else [weights]), np.arange(count, dtype="int32")]
        program = self._looped_program(weights is not None, keep, together)
        whole = run(program, flat, at_a_time, self.jit_compile, verbose)
        return whole[: len(arrays)], whole[len(arrays) : -1], whole[-1]

    def _looped_program(self, with_target, keep, together):
        key = (with_target, keep, together)
        if key not in self._programs.value:
            values = self._values(keep)

            def explain(*tensors):
                *rest, index = tensors
                target = rest.pop() if with_target else None
                found = self._looped(rest, target, values, (index, together))
                return found.relevance, found.kept, found.exponent

            signature = [*self._signature(with_target), backend.tensor_spec((None,), "int32")]
            self._programs.value[key] = backend.compiled(explain, signature, self.jit_compile)
        return self._programs.value[key]

    def _weights(self, logits, target):
        """Weights on the outputs: the target's, or one for the clean sample's largest."""
        if target is None:
            return sweep.largest(logits)
        return ops.broadcast_to(ops.cast(target, logits.dtype), ops.shape(logits))

    def _rounds(self, together):
        """How many rounds there are of so many evaluations."""
        return -(-self._evaluations() // together)


def repeated(x, times):
    """Each sample `times` times, one after the other; the Keras mask of tensors made from it comes out right."""
    return x if times == 1 else ops.repeat(x, times, axis=0)


def by_sample(x, together):
    """(batch * together, ...) as (batch, together, ...)."""
    return ops.reshape(x, (-1, together, *ops.shape(x)[1:]))


def no_exponent(x):
    """The exponents of explanations that stay in float32's range."""
    return ops.zeros(ops.shape(x)[:1], "int32")
