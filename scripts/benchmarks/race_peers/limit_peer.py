"""What a method cannot do without, as a contestant of `scripts/benchmarks/race.py`: one `tf.function`, class 0, no package.

- gradcam: a forward pass, and the gradient in the last feature maps, of what lies behind them.
- integrated_gradients, smoothgrad: the gradients of the altered copies of each sample, `TOGETHER` at a time.
- occlusion: a forward pass of the sample and of each altered copy; rise: of each altered copy.

Copies are the sample itself, and nothing is drawn, altered or added up.
"""

import contextlib

import keras
import tensorflow as tf
from common.measuring import plain_gradient
from keras_models import built
from worker import MASKS, SAMPLES, STEPS, TOGETHER, WINDOW, serve

WINDOWS = (224 // WINDOW) ** 2
# Method -> how many copies of a sample it evaluates.
GRADIENTS = {"integrated_gradients": STEPS, "smoothgrad": SAMPLES}
FORWARD = {"occlusion": WINDOWS, "rise": MASKS}
MAPS = {"VGG16": "block5_conv3", "ResNet50": "conv5_block3_out"}
PLAIN = ("gradient", "input_t_gradient", "guided_backprop", "deconvnet")


def maps(name):
    """The last feature maps, and the gradient of class 0 in them."""
    model = built(name)
    both = keras.Model(model.input, [model.get_layer(MAPS[name]).output, model.output])

    @tf.function
    def gradient(batch):
        with tf.GradientTape() as tape:
            features, logits = both(batch, training=False)
            score = tf.reduce_sum(logits[:, 0])
        return features, tape.gradient(score, features)

    return gradient


def gradients(model):
    """The gradient of class 0 at a batch."""

    @tf.function
    def gradient(batch):
        with tf.GradientTape() as tape:
            tape.watch(batch)
            score = tf.reduce_sum(model(batch, training=False)[:, 0])
        return tape.gradient(score, batch)

    return gradient


def copies(program, x, count):
    """The program on so many copies of each sample, as many at a time as the packages take; the last may be fewer."""
    at_a_time = max(TOGETHER // len(x), 1)

    def call():
        batch = tf.constant(x)
        rounds = [min(at_a_time, count - start) for start in range(0, count, at_a_time)]
        return [program(tf.repeat(batch, number, axis=0)) for number in rounds][-1].numpy()

    return call


@contextlib.contextmanager
def explaining(model, method, x):
    """The call to time."""
    if method == "gradcam":
        program = maps(model)
        yield lambda: [tensor.numpy() for tensor in program(tf.constant(x))][-1]
    elif method in GRADIENTS:
        yield copies(gradients(built(model)), x, GRADIENTS[method])
    elif method in FORWARD:
        forward, one = tf.function(lambda batch: built(model)(batch, training=False)), method == "occlusion"
        altered = copies(forward, x, FORWARD[method])
        yield lambda: (one and forward(tf.constant(x)).numpy(), altered())[1]
    else:
        yield plain_gradient(built(model), x)


if __name__ == "__main__":
    methods = dict.fromkeys([*PLAIN, *GRADIENTS, *FORWARD, "gradcam"], "")
    serve(explaining, methods, {"tensorflow": tf.__version__, "keras": keras.__version__})
