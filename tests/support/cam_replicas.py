"""Class activation maps by the papers' formulas in NumPy, from features and gradients on a tape."""

import keras
import loop_replicas
import numpy as np
import tensorflow as tf

from innvest_lite import GradCAM, LayerCAM


def features_and_gradient(logits, layer, x, target=None):
    """The layer's output and the gradient of the explained logit in it, both float64."""
    twin = keras.Model(logits.inputs, [logits.get_layer(layer).output, logits.outputs[0]])
    with tf.GradientTape() as tape:
        features, values = twin([tf.constant(one) for one in keras.tree.flatten(x)])
        weights = loop_replicas.weights_for(values.numpy(), target)
        total = tf.reduce_sum(values * tf.constant(weights, tf.float32))
    score = (values.numpy().astype("float64") * weights).sum(1)
    return features.numpy().astype("float64"), tape.gradient(total, features).numpy().astype("float64"), score


def channel_weights(method, features, gradient, score):
    """One number per sample and channel: Selvaraju et al., equation 1; Chattopadhay et al., equations 10 and 19."""
    rows = [array.reshape(len(features), -1, features.shape[-1]) for array in (features, gradient)]
    found = np.zeros((len(features), features.shape[-1]))
    for sample in range(len(features)):
        for channel in range(features.shape[-1]):
            a, g = (each[sample, :, channel] for each in rows)
            if method is GradCAM:
                found[sample, channel] = g.mean()
                continue
            # The score is exp(S), of which the network is piecewise linear: its derivatives are exp(S) times powers of g.
            y = np.exp(score[sample])
            first, second, third = y * g, y * g**2, y * g**3
            for k in range(len(g)):
                if g[k] != 0:
                    alpha = second[k] / (2 * second[k] + a.sum() * third[k])
                    found[sample, channel] += alpha * max(first[k], 0) / y
    return found


def slow_map(method, logits, layer, x, target=None):
    """The map at the layer's own size."""
    features, gradient, score = features_and_gradient(logits, layer, x, target)
    if method is LayerCAM:
        # Jiang et al., equations 6 and 7.
        return np.maximum((np.maximum(gradient, 0) * features).sum(-1), 0)
    weights = channel_weights(method, features, gradient, score)
    weights = weights.reshape(len(features), *[1] * (features.ndim - 2), -1)
    return np.maximum((weights * features).sum(-1), 0)


def enlarged(heat, sizes):
    """Linear interpolation between the middles of positions, one axis after the other."""
    for axis, size in enumerate(sizes, start=1):
        count = heat.shape[axis]
        places = (np.arange(size) + 0.5) * count / size - 0.5
        along = np.moveaxis(heat, axis, -1)
        rows = [np.interp(places, np.arange(count), row) for row in along.reshape(-1, count)]
        heat = np.moveaxis(np.reshape(rows, (*along.shape[:-1], size)), -1, axis)
    return heat


def expected_heat(method, logits, layer, x, target=None):
    heat = enlarged(slow_map(method, logits, layer, x, target), x.shape[1:-1])
    return np.repeat(heat[..., None] / x.shape[-1], x.shape[-1], axis=-1)
