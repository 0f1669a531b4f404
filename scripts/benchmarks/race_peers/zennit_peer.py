"""Zennit as a contestant of `scripts/benchmarks/race.py`, with its canonizers for VGG and ResNet."""

import contextlib
import functools

import torch
from torch_models import built, channels_first
from worker import EPSILON, SAMPLES, STEPS, WINDOW, serve, versions
from zennit.attribution import Gradient, IntegratedGradients, Occlusion, SmoothGrad, occlude_independent
from zennit.composites import DeconvNet, EpsilonPlusFlat, GuidedBackprop, LayerMapComposite, layer_map_base
from zennit.rules import AlphaBeta, Epsilon
from zennit.torchvision import ResNetCanonizer, VGGCanonizer
from zennit.types import Linear

CANONIZERS = {"VGG16": VGGCanonizer, "ResNet50": ResNetCanonizer}


def _everywhere(rule):
    return lambda canonizers: LayerMapComposite([*layer_map_base(), (Linear, rule)], canonizers=canonizers)


COMPOSITES = {
    "deconvnet": lambda canonizers: DeconvNet(),
    "guided_backprop": lambda canonizers: GuidedBackprop(),
    "lrp.alpha_1_beta_0": _everywhere(AlphaBeta(alpha=1.0, beta=0.0)),
    "lrp.alpha_2_beta_1": _everywhere(AlphaBeta(alpha=2.0, beta=1.0)),
    "lrp.epsilon": _everywhere(Epsilon(epsilon=EPSILON)),
    "lrp.epsilon_plus_flat": lambda canonizers: EpsilonPlusFlat(epsilon=EPSILON, canonizers=canonizers),
}
WINDOWS = {
    "window": (WINDOW, WINDOW),
    "stride": (WINDOW, WINDOW),
    "occlusion_fn": functools.partial(occlude_independent, invert=True),
}
ATTRIBUTORS = {
    "gradient": Gradient,
    "integrated_gradients": functools.partial(IntegratedGradients, n_iter=STEPS),
    "occlusion": functools.partial(Occlusion, **WINDOWS),
    "smoothgrad": functools.partial(SmoothGrad, n_iter=SAMPLES),
}
NOTES = {
    "integrated_gradients": "right Riemann sum, one step at a time",
    "occlusion": "one window at a time",
    "smoothgrad": "one sample at a time, the last without noise, which is a tenth of the range",
}


def largest(output):
    """One at the largest logit of each sample."""
    return torch.nn.functional.one_hot(output.argmax(1), output.shape[1]).to(output.dtype)


def _largest_logit(output):
    return output * largest(output)


@contextlib.contextmanager
def explaining(model, method, x):
    """The call to time; hooks stay in the model over all calls."""
    composite = COMPOSITES[method]([CANONIZERS[model]()]) if method in COMPOSITES else None
    start = _largest_logit if method == "occlusion" or method.startswith("lrp.") else largest
    values = channels_first(x)
    with ATTRIBUTORS.get(method, Gradient)(built(model), composite, start) as attributor:
        yield lambda: attributor(torch.from_numpy(values))[1].detach().numpy()


if __name__ == "__main__":
    methods = {**dict.fromkeys([*ATTRIBUTORS, *COMPOSITES], ""), **NOTES}
    serve(explaining, methods, versions("zennit", "torch", "torchvision"))
