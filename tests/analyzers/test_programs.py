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


def operations(program):
    """The operations that the outputs of a program hang on; of loops, nothing that is in them."""
    seen, waiting = {}, [tensor.op for tensor in program.graph.outputs]
    while waiting:
        operation = waiting.pop()
        if operation.name not in seen:
            seen[operation.name] = operation
            waiting += [tensor.op for tensor in operation.inputs] + list(operation.control_inputs)
    return list(seen.values())


def counted(program):
    """How many there are of each type."""
    return collections.Counter(operation.type for operation in operations(program))


def network():
    """Three convolutions, the last of them in front of the global pooling."""
    x = hidden = keras.Input((8, 8, 2))
    for name in ("first", "second", "third"):
        hidden = layers.Conv2D(4, 3, activation="relu", padding="same", name=name)(hidden)
    return models.randomize(keras.Model(x, layers.Dense(3)(layers.GlobalAveragePooling2D()(hidden))), seed=2)


@pytest.mark.parametrize(
    "name",
    [
        name if name in ("integrated_gradients", "vargrad") else pytest.param(name, marks=pytest.mark.slow)
        for name in AVERAGED
    ],
)
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
    # What was explained is said where the sample was looked at, and only there.
    explained = [analyzer.explainer.run([X], weights)[3] for weights in (None, np.eye(3, dtype="float32")[largest])]
    assert_close(explained[0], np.max(analyzer.model.predict(X, verbose=0), axis=1), 1e-6)
    assert np.isnan(explained[1]).all()


def test_a_bias_is_added_by_what_tensorflow_fuses_with_a_convolution(programs):
    """Keras's own layers do so; as a plain sum, a bias would be a pass of its own over all feature maps."""
    create_analyzer("gradient", network()).analyze(X)
    biases = [one for one in operations(programs.pop()) if one.type == "BiasAdd"]
    assert collections.Counter(one.inputs[0].op.type for one in biases) == {"Conv2D": 3, "MatMul": 1}


def test_a_bias_of_channels_first_goes_to_the_channels():
    """There are as many columns as channels, which the same operation could take for them."""
    x = keras.Input((2, 4, 5))
    maps = layers.Conv2D(5, 3, padding="same", data_format="channels_first")(x)
    model = models.randomize(keras.Model(x, layers.Dense(3)(layers.Flatten()(maps))), seed=4)
    samples = models.normal(2, 2, 4, 5)
    assert_close(create_analyzer("gradient", model).explainer.logits_of([samples]), model.predict(samples, verbose=0))


def normalized(size, fold=None):
    """A convolution with windows of this size, BatchNormalization behind it; `fold`: one, folded into it by hand."""
    x = keras.Input((2, 2, 16))
    hidden = layers.Conv2D(8, size, padding="same", name="conv")(x)
    hidden = hidden if fold else layers.BatchNormalization(name="norm")(hidden)
    model = keras.Model(x, layers.Dense(3, name="out")(layers.Flatten()(layers.ReLU()(hidden))))
    if fold is None:
        return models.randomize(model, seed=6)
    kernel, bias = map(keras.ops.convert_to_numpy, fold.get_layer("conv").variables)
    gamma, beta, mean, variance = map(keras.ops.convert_to_numpy, fold.get_layer("norm").variables)
    factor = gamma / np.sqrt(variance + fold.get_layer("norm").epsilon)
    model.get_layer("conv").set_weights([kernel * factor, (bias - mean) * factor + beta])
    model.get_layer("out").set_weights(fold.get_layer("out").get_weights())
    return model


@pytest.mark.parametrize(("size", "scales_outputs"), [(3, True), (1, False)])
def test_batchnorm_is_multiplied_with_the_smaller_of_kernel_and_outputs(size, scales_outputs, programs):
    """Both ways against the network into which it was folded by hand; factors of both signs."""
    model, kernel, x = normalized(size), (size, size, 16, 8), models.normal(4, 2, 2, 16)
    patterns = {"conv": models.normal(*kernel), "out": models.normal(32, 3)}
    folded = normalized(size, model)
    for name, options in (
        ("lrp.epsilon", {"epsilon": 0.1}),
        ("pattern.attribution", {"shares": "sample", "patterns": patterns}),
    ):
        found = [create_analyzer(name, one, **options).analyze(x, 1) for one in (model, folded)]
        assert_close(*found, 1e-5)
        shapes = {tuple(operation.outputs[0].shape) for operation in operations(programs[0]) if operation.type == "Mul"}
        assert (kernel in shapes) != scales_outputs, name
        programs.clear()
