"""What compiled programs compute, counted in their graphs: what a method does not need is not in them."""

import collections

import keras
import models
import numpy as np
import pytest
from comparing import assert_close
from keras import layers

from innvest_lite import backend, create_analyzer

X = models.normal(3, 8, 8, 2)
AVERAGED = ("integrated_gradients", "expected_gradients", "smoothgrad", "squaregrad", "vargrad")
BACK = "Conv2DBackpropInput"


@pytest.fixture
def programs(monkeypatch):
    """The programs that are compiled from now on."""
    found, real = [], backend.compiled
    monkeypatch.setattr(backend, "compiled", lambda *arguments: found.append(real(*arguments)) or found[-1])
    return found


def counted(program):
    """How many operations of each type the outputs of a program hang on; loops count as one, whatever is in them."""
    seen, waiting = {}, [tensor.op for tensor in program.graph.outputs]
    while waiting:
        operation = waiting.pop()
        if operation.name not in seen:
            seen[operation.name] = operation.type
            waiting += [tensor.op for tensor in operation.inputs] + list(operation.control_inputs)
    return collections.Counter(seen.values())


def network():
    """Three convolutions, the last of them in front of the global pooling."""
    x = hidden = keras.Input((8, 8, 2))
    for name in ("first", "second", "third"):
        hidden = layers.Conv2D(4, 3, activation="relu", padding="same", name=name)(hidden)
    return models.randomize(keras.Model(x, layers.Dense(3)(layers.GlobalAveragePooling2D()(hidden))), seed=2)


@pytest.mark.parametrize("name", AVERAGED)
def test_where_the_class_is_given_the_sample_itself_is_not_evaluated(name, programs):
    """Only its altered copies are, in the loop; VarGrad's pivot is a gradient at the sample."""
    analyzer, clean = create_analyzer(name, network()), 3 if name == "vargrad" else 0
    analyzer.analyze(X)
    analyzer.analyze(X, target=1)
    predicted, given = map(counted, programs)
    assert "While" in given or "StatelessWhile" in given
    assert (predicted["Conv2D"], given["Conv2D"]) == (clean + 3, clean)


@pytest.mark.parametrize(("layer", "behind"), [("third", 0), ("second", 1), ("first", 2)])
def test_class_activation_maps_go_back_to_their_layer_alone(layer, behind, programs):
    """No vector-Jacobian product of what lies before the feature maps; a gradient has those of all three convolutions."""
    for name in ("gradcam", "gradcam++", "layercam"):
        create_analyzer(name, network(), layer=layer).analyze(X)
        found = counted(programs.pop())
        assert (found["Conv2D"], found[BACK], found["ReluGrad"]) == (3, behind, behind), name
    create_analyzer("gradient", network()).analyze(X)
    assert counted(programs.pop())[BACK] == 3


def test_a_given_class_is_that_of_each_sample():
    """Against a program that looks at the sample: the same weights, one class for all and one for each."""
    analyzer = create_analyzer("integrated_gradients", network(), steps=4)
    largest = np.argmax(analyzer.model.predict(X, verbose=0), axis=1)
    assert_close(analyzer.analyze(X, target=largest), analyzer.analyze(X), 1e-6)
