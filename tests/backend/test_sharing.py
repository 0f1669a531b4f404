"""What is made of weights once while a program is traced: where it is given again, and where it must not be."""

import numpy as np
import tensorflow as tf

from innvest_lite import backend


def test_a_thing_is_made_once_within_the_context_alone():
    """Inside of another context, too, which knows nothing of it."""
    made = []

    def make():
        made.append(1)
        return tf.constant(float(len(made)))

    with backend.weights_stay():
        assert [float(backend.once("a", make)) for _ in range(3)] == [1, 1, 1]
        with backend.weights_stay():
            assert float(backend.once("a", make)) == 2
        assert float(backend.once("a", make)) == 1
    assert [float(backend.once("a", make)) for _ in range(2)] == [3, 4]


def test_what_is_made_in_a_branch_is_made_again_outside():
    """A tensor of one graph is of no use in another."""
    weight = tf.Variable([1.0, 2.0])

    def doubled():
        return backend.once("doubled", lambda: weight * 2)

    def function(x):
        with backend.weights_stay():
            inside = tf.cond(x > 0, doubled, lambda: tf.zeros(2))
            return inside + doubled()

    program = backend.compiled(function, [backend.tensor_spec((), "float32")], False)
    np.testing.assert_array_equal(program(tf.constant(1.0)), [4, 8])
    weight.assign([3.0, 3.0])
    np.testing.assert_array_equal(program(tf.constant(-1.0)), [6, 6])
