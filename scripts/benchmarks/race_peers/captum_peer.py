"""Captum as a contestant of `scripts/benchmarks/race.py`."""

import contextlib
import functools

import torch
from captum import attr
from captum.attr._utils.lrp_rules import Alpha1_Beta0_Rule, EpsilonRule
from torch_models import built, channels_first
from worker import EPSILON, NOISE, SAMPLES, STEPS, TOGETHER, WINDOW, serve, versions

SIMPLE = {
    "deconvnet": attr.Deconvolution,
    "guided_backprop": attr.GuidedBackprop,
    "input_t_gradient": attr.InputXGradient,
}
RULES = {"lrp.alpha_1_beta_0": Alpha1_Beta0_Rule, "lrp.epsilon": functools.partial(EpsilonRule, epsilon=EPSILON)}


def _gradient(model):
    return functools.partial(attr.Saliency(model).attribute, abs=False)


def _integrated_gradients(model):
    method = attr.IntegratedGradients(model).attribute
    return functools.partial(method, n_steps=STEPS, internal_batch_size=TOGETHER, method="riemann_left")


def _smoothgrad(model):
    method = attr.NoiseTunnel(attr.Saliency(model)).attribute
    return functools.partial(method, nt_samples=SAMPLES, nt_samples_batch_size=TOGETHER, stdevs=NOISE, abs=False)


def _occlusion(model):
    windows = (3, WINDOW, WINDOW)
    method = attr.Occlusion(model).attribute
    return functools.partial(method, sliding_window_shapes=windows, strides=windows, perturbations_per_eval=TOGETHER)


def _gradcam(model):
    layer = model.features[-2] if hasattr(model, "features") else model.layer4[-1]
    method = attr.LayerGradCam(model, layer)
    return lambda x, target: attr.LayerAttribution.interpolate(
        method.attribute(x, target, relu_attributions=True), x.shape[2:], "bilinear"
    )


METHODS = {
    **{name: lambda model, method=method: method(model).attribute for name, method in SIMPLE.items()},
    **dict.fromkeys(RULES, lambda model: attr.LRP(model).attribute),
    "gradcam": _gradcam,
    "gradient": _gradient,
    "integrated_gradients": _integrated_gradients,
    "occlusion": _occlusion,
    "smoothgrad": _smoothgrad,
}


@contextlib.contextmanager
def explaining(model, method, x):
    """The call to time; class 0 is explained, as captum wants to be told."""
    network, values, target = built(model), channels_first(x), [0] * len(x)
    attribute, rule = METHODS[method](network), RULES.get(method)
    # Captum takes its own rules for other layers.
    weighted = [module for module in network.modules() if rule and isinstance(module, torch.nn.Conv2d | torch.nn.Linear)]

    def explain():
        # Captum forgets the rules after each call.
        for module in weighted:
            module.rule = rule()
        return attribute(torch.from_numpy(values), target=target).detach().numpy()

    yield explain


if __name__ == "__main__":
    notes = {**dict.fromkeys(METHODS, "class 0"), "integrated_gradients": "class 0, left Riemann sum"}
    notes.update(dict.fromkeys(RULES, "class 0; in ResNet50 sums have no rule, and layers called twice are seen once"))
    serve(explaining, notes, versions("captum", "torch", "torchvision"))
