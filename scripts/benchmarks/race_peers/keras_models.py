"""The models as both TensorFlow packages and the plain gradient see them: random weights, logits."""

import functools

import keras


@functools.lru_cache(maxsize=1)
def built(name):
    """VGG16 or ResNet50 of keras.applications."""
    keras.utils.set_random_seed(0)
    return getattr(keras.applications, name)(weights=None, classifier_activation=None)
