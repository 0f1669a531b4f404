"""Compares DeepLIFT's Rescale rule with `shap.DeepExplainer` on PyTorch, on small nets with the same weights.

Usage: `python scripts/checks/compare_shap.py --theirs-python PATH`. PATH is the Python of an environment with torch and
shap (last run with 2.13 and 0.51). A row is a net: the largest deviation as a share of the largest value. `--save FILE`
writes weights, samples, references and shap's values for the tests.
"""

import argparse
import os
import pathlib
import subprocess
import tempfile

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# Layers in order: ("dense", units), ("conv", filters, kernel size), ("pool",), ("flatten",), or a function by its name.
NETS = {
    "dense": ((6,), [("dense", 8), ("relu",), ("dense", 7), ("tanh",), ("dense", 5), ("sigmoid",), ("dense", 3)]),
    "conv": (
        (8, 8, 2),
        [
            ("conv", 4, 3),
            ("relu",),
            ("pool",),
            ("conv", 3, 2),
            ("elu",),
            ("flatten",),
            ("dense", 6),
            ("relu",),
            ("dense", 3),
        ],
    ),
}

THEIRS = """
import sys
import numpy as np, shap, torch
from torch import nn

class Moved(nn.Module):
    def __init__(self, order):
        super().__init__()
        self.order = order

    def forward(self, x):
        return x.permute(*self.order)

given = dict(np.load(sys.argv[1]))
plan = eval(sys.argv[2])
functions = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "elu": nn.ELU}
modules, number, first = [], 0, True
for word, *sizes in plan:
    if word in ("dense", "conv"):
        kernel, bias = torch.tensor(given[f"{number}"]), torch.tensor(given[f"{number + 1}"])
        number += 2
        if word == "dense":
            modules.append(nn.Linear(*kernel.shape))
            kernel = kernel.T
        else:
            if first:
                modules.append(Moved((0, 3, 1, 2)))
            modules.append(nn.Conv2d(kernel.shape[2], kernel.shape[3], tuple(kernel.shape[:2])))
            kernel = kernel.permute(3, 2, 0, 1)
        first = False
        modules[-1].weight.data, modules[-1].bias.data = kernel.contiguous(), bias
    elif word == "pool":
        modules.append(nn.MaxPool2d(2))
    elif word == "flatten":
        modules += [Moved((0, 2, 3, 1)), nn.Flatten()]
    else:
        modules.append(functions[word]())
model = nn.Sequential(*modules).eval()
explainer = shap.DeepExplainer(model, torch.tensor(given["references"]))
values = explainer.shap_values(torch.tensor(given["x"]), check_additivity=True)
logits = model(torch.tensor(given["x"])).detach().numpy()
np.savez(sys.argv[3], values=np.asarray(values), logits=logits)
"""


def network(shape, plan, weights=None):
    """A Keras model of a plan, with random weights or with these."""
    import keras
    from keras import layers

    made = {"pool": lambda: layers.MaxPooling2D(2), "flatten": layers.Flatten}
    stack = [keras.Input(shape)]
    for word, *sizes in plan:
        if word in ("dense", "conv"):
            stack.append(layers.Dense(*sizes) if word == "dense" else layers.Conv2D(*sizes))
        else:
            stack.append(made[word]() if word in made else layers.Activation(word))
    model = keras.Sequential(stack)
    generator = np.random.default_rng(len(plan))
    for number, variable in enumerate(model.weights):
        spread = 1.5 / np.sqrt(max(np.prod(variable.shape[:-1]), 1)) if len(variable.shape) > 1 else 0.3
        variable.assign(generator.normal(0, spread, variable.shape) if weights is None else weights[number])
    return model


def compared(name, python):
    """`(deviation, arrays)` of a net: our values against theirs, and what a test needs."""
    from innvest_lite import DeepLIFT

    shape, plan = NETS[name]
    model, generator = network(shape, plan), np.random.default_rng(7)
    arrays = {str(number): variable.numpy() for number, variable in enumerate(model.weights)}
    arrays["x"] = generator.normal(size=(4, *shape)).astype("float32")
    arrays["references"] = generator.normal(0.5, 1, size=(3, *shape)).astype("float32")
    with tempfile.TemporaryDirectory() as folder:
        given, made = (pathlib.Path(folder) / one for one in ("given.npz", "made.npz"))
        np.savez(given, **arrays)
        subprocess.run([python, "-c", THEIRS, given, repr(plan), made], check=True)
        with np.load(made) as found:
            arrays["values"], logits = found["values"], found["logits"]
    assert np.abs(logits - model.predict(arrays["x"], verbose=0)).max() < 1e-5, "the nets differ"
    analyzer = DeepLIFT(model, reference_inputs=arrays["references"])
    ours = np.stack([analyzer.analyze(arrays["x"], target) for target in range(3)], axis=-1)
    return np.abs(ours - arrays["values"]).max() / np.abs(arrays["values"]).max(), arrays


def main():
    """Prints a row a net."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--theirs-python", required=True, help="of an environment with torch and shap")
    parser.add_argument("--save", help="an .npz file for the tests")
    arguments, kept = parser.parse_args(), {}
    for name in NETS:
        deviation, arrays = compared(name, arguments.theirs_python)
        print(f"{name}: {deviation:.2g}")
        kept.update({f"{name}|{key}": array for key, array in arrays.items()})
    if arguments.save:
        np.savez_compressed(arguments.save, **kept)


if __name__ == "__main__":
    main()
