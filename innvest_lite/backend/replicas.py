"""The devices on which a fit gathers side by side, and the sums that each of them has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf


class Replicas:
    """The devices of a `tf.distribute` strategy on which this process runs a function side by side; by default one.

    Each has sums of its own, and nothing is exchanged while they are gathered; `total` adds up over processes.

    Args:
        strategy: a `tf.distribute.Strategy`.

    Attributes:
        distributed: whether there is a strategy at all; even with one replica its variables are made differently.
        count: how many replicas there are in this process.
        worker: the number of this process among those of a MultiWorkerMirroredStrategy; 0 with any other.
        workers: how many processes there are.
    """

    def __init__(self, strategy: Any) -> None:
        self._strategy = strategy
        with strategy.scope():
            self.distributed = tf.distribute.has_strategy()
        self.worker, self.workers = 0, 1
        if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
            resolver = strategy.cluster_resolver
            cluster = resolver.cluster_spec().as_dict()
            tasks = [(kind, index) for kind in ("chief", "worker") for index in range(len(cluster.get(kind, ())))]
            self.workers = max(len(tasks), 1)
            self.worker = tasks.index((resolver.task_type, resolver.task_id)) if tasks else 0
        self.count = strategy.num_replicas_in_sync // self.workers

    @classmethod
    def of(cls, model: keras.Model) -> Replicas:
        """Those of the strategy in whose scope a model was made, else of the one in whose scope this is called."""
        return cls(model.distribute_strategy or tf.distribute.get_strategy())

    def variable(self, shape: Sequence[int], dtype: Any) -> Any:
        """A variable of zeros that each replica has for itself."""
        with self._strategy.scope():
            return tf.Variable(
                tf.zeros(shape, dtype),
                trainable=False,
                synchronization=tf.VariableSynchronization.ON_READ,
                aggregation=tf.VariableAggregation.SUM,
            )

    def parts(self, variable: Any) -> list[Any]:
        """The variables of the replicas of this process."""
        return list(self._strategy.experimental_local_results(variable))

    def program(
        self, function: Callable[..., Any], signature: Sequence[Any], jit_compile: bool
    ) -> Callable[[Sequence[Any]], Any]:
        """`function` of tensors, to be called with a list of arguments for each replica.

        Args:
            function: adds to variables and returns nothing.
            signature: a `tensor_spec` for each argument.
            jit_compile: whether XLA compiles it.
        """
        compiled = tf.function(function, input_signature=signature, jit_compile=jit_compile, autograph=False)
        if not self.distributed:
            return lambda arguments: compiled(*arguments[0])
        # Behind a function of Python's: of a tf.function, the strategy would bind all replicas' arguments at once.
        run = tf.function(lambda *arguments: self._strategy.run(lambda *own: compiled(*own), arguments), autograph=False)
        return lambda arguments: run(*(self._spread(values) for values in zip(*arguments, strict=True)))

    def _spread(self, values):
        """One value per replica of this process."""
        return self._strategy.experimental_distribute_values_from_function(
            lambda context: tf.convert_to_tensor(values[context.replica_id_in_sync_group % self.count])
        )

    def total(self, array: Any) -> Any:
        """The sum of an array over all processes, which all must ask for it at the same point."""
        if self.workers == 1:
            return array
        array = np.asarray(array)
        # The array counts once per process, however many replicas it has: the others add zeros.
        values = [array, *[np.zeros_like(array)] * (self.count - 1)]
        # The identity is on the replica's device; an argument may be on none.
        total = self._strategy.run(
            lambda own: tf.distribute.get_replica_context().all_reduce("SUM", tf.identity(own)), (self._spread(values),)
        )
        return self.parts(total)[0].numpy()
