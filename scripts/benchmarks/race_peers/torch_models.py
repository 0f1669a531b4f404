"""The models as the PyTorch packages see them, and their images: random weights, channels first."""

import functools
import os

import numpy as np
import torch
import torchvision

# As TensorFlow does; torch counts the cores that share no hardware.
torch.set_num_threads(os.cpu_count())


@functools.lru_cache(maxsize=1)
def built(name):
    """VGG16 or ResNet50 of torchvision; no ReLU writes over its input, which hooks could not stand."""
    torch.manual_seed(0)
    model = getattr(torchvision.models, name.lower())(weights=None).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.ReLU):
            module.inplace = False
    return model


def channels_first(x):
    """A batch of NumPy images as torch keeps them; making a tensor of it costs nothing then."""
    return np.ascontiguousarray(np.moveaxis(x, -1, 1))
