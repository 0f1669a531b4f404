"""What a model of the collection is, how it enters it, and the random weights and inputs that all of them get."""

import contextlib
import dataclasses
import zlib
from collections.abc import Callable

import keras
import numpy as np

BATCH = 3


@dataclasses.dataclass(frozen=True)
class Model:
    """A model as people write it.

    Attributes:
        name: of its own, and speaking.
        family: tabular, vision, text, sequences, attention, recurrence, outputs, styles or kerashub.
        build: makes the keras.Model, of random weights; one that is subclassed has been called.
        inputs: a batch of 3 samples from a NumPy generator, in the model's structure.
        output: the name of the output to explain.
        tokens: names or positions of the inputs that hold token numbers.
    """

    name: str
    family: str
    build: Callable
    inputs: Callable
    output: str | None = None
    tokens: tuple = ()


MODELS: dict[str, Model] = {}


def model(name, family, inputs, output=None, tokens=()):
    """A decorator that takes a function that makes a model into the collection; the arguments are those of `Model`."""

    def register(function):
        if name in MODELS:
            raise ValueError(f"Two models are called {name}.")

        def build():
            seed = zlib.crc32(name.encode())
            keras.utils.set_random_seed(seed)
            made = function()
            functional = isinstance(made, (keras.Sequential, keras.src.models.functional.Functional))
            if not functional or not made.built:
                made(inputs(np.random.default_rng(1)))
            randomize(made, seed)
            return made

        MODELS[name] = Model(name, family, build, inputs, output, tokens)
        return function

    return register


def randomize(made, seed=0):
    """Gives a built model random weights of sensible size.

    Kernels are normal, scaled by their fan-in, small where they start as zeros; biases have both signs;
    BatchNormalization has statistics that are not 0 and 1. What else is not trained (constants, adapted statistics) is
    left alone, and so are integers.
    """
    generator = np.random.default_rng(seed)
    for variable in made.weights:
        if not keras.backend.is_float_dtype(variable.dtype):
            continue
        value = _random(variable, generator)
        if value is not None:
            variable.assign(np.asarray(value, "float64" if variable.dtype == "float64" else "float32"))


def _random(variable, generator):
    name, path, shape = variable.path.rsplit("/", 1)[-1], variable.path, tuple(variable.shape)
    normal = generator.normal(size=shape)
    if name == "moving_mean":
        return 0.3 * normal
    if name == "moving_variance":
        return generator.uniform(0.5, 1.8, shape)
    if not variable.trainable:
        return None
    value = np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(variable, "float32")))
    if name == "bias" or name == "beta":
        return value + 0.3 * normal
    if name == "gamma" or name == "scale":
        return generator.uniform(0.6, 1.4, shape)
    if name == "embeddings":
        return 0.5 * normal
    if "kernel" in name and len(shape) > 1:
        return normal * np.sqrt((1.5 if value.any() else 0.02) / _fan_in(path, shape))
    return value + 0.2 * normal


def _fan_in(path, shape):
    if "depthwise" in path:
        return max(np.prod(shape[:-2]), 1)
    if len(shape) == 3 and any(word in path for word in ("query", "key", "value")):
        return shape[0]
    return max(np.prod(shape[:-1]), 1)


@contextlib.contextmanager
def policy(name):
    """What is made inside has this dtype policy."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def normal(*shape, dtype="float32"):
    """Inputs of normal numbers; those of several axes have a size and a mean of their own for each sample and channel."""

    def inputs(generator):
        values = generator.normal(size=(BATCH, *shape))
        if len(shape) > 1:
            each = (BATCH, *(1,) * (len(shape) - 1), shape[-1])
            values = values * generator.uniform(0.5, 1.5, each) + generator.normal(size=each) * 0.7
        return values.astype(dtype)

    return inputs


def unit(*shape, dtype="float32"):
    """Inputs between 0 and 1, such as images divided by 255."""
    return lambda generator: generator.uniform(size=(BATCH, *shape)).astype(dtype)


def pixels(*shape, dtype="float32"):
    """Inputs from 0 to 255."""
    return lambda generator: generator.integers(0, 256, (BATCH, *shape)).astype(dtype)


def numbers(length, vocabulary, padded=0, dtype="int32"):
    """Token numbers from 1; the last ones of the second sample are 0."""

    def inputs(generator):
        values = generator.integers(1, vocabulary, (BATCH, length)).astype(dtype)
        if padded:
            values[1, -padded:] = 0
        return values

    return inputs


def named(**parts):
    """Inputs in a dictionary."""
    return lambda generator: {name: part(generator) for name, part in parts.items()}


def listed(*parts):
    """Inputs in a list."""
    return lambda generator: [part(generator) for part in parts]


def choice(*values, shape=(1,)):
    """Inputs drawn from these values, such as words."""
    return lambda generator: generator.choice(np.array(values), size=(BATCH, *shape))
