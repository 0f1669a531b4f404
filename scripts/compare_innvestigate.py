"""Compares `create_analyzer` with the real iNNvestigate, name by name, on small nets with the same weights.

Usage: `python scripts/compare_innvestigate.py --theirs-python PATH [NET ...]`. PATH is the Python 3.11 of an environment
made with `pip install "tensorflow-cpu==2.14.1" "innvestigate==2.1.2" "numpy<2"`; nets go there and values come back as .npz
(half an hour for all). A cell is the largest deviation as a share of the sample's maximum; behind "~" what is left of it
after scaling each sample best. "there" and "here": that side raised, see below the table. "nan": theirs is not finite. "0":
all zero on both sides. ".": not tried. With `--dtype float64`, what is only rounding shrinks to 1e-7, our results' own.
"""

import argparse
import importlib.metadata
import json
import os
import pathlib
import subprocess
import tempfile

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

EQUAL = 1e-5
PLAIN, SAME = ({"filters": 4, "kernel_size": 3, "padding": padding} for padding in ("valid", "same"))
CONV, STRIDED = (["Conv2D", {**options, "activation": "relu"}] for options in (PLAIN, {**SAME, "strides": 2}))
POOL, AVERAGE = (["MaxPooling2D", {"pool_size": 2}], ["AveragePooling2D", {"pool_size": 2}])
RELU, ACTIVATION, NORM = ["ReLU", {}], ["Activation", {"activation": "relu"}], ["BatchNormalization", {}]
FLATTEN, HIDDEN, LAST = ["Flatten", {}], ["Dense", {"units": 6, "activation": "relu"}], ["Dense", {"units": 3}]
HEAD = [FLATTEN, HIDDEN, LAST]
BLOCK = [CONV, POOL, CONV, *HEAD]
# A layer is [class, options, numbers of the tensors that it takes]; without the last, the tensor before. 0 is the input.
NETS = {
    "max": {"layers": BLOCK},
    "signed": {"layers": BLOCK, "signed": True},
    "sequential": {"layers": BLOCK, "sequential": True},
    "negative": {"layers": BLOCK, "shift": -5.0},
    "no_bias": {"layers": BLOCK, "signed": True, "bias": 0.0},
    "average": {"layers": [CONV, AVERAGE, CONV, *HEAD]},
    "global": {"layers": [CONV, CONV, ["GlobalAveragePooling2D", {}], LAST]},
    "dense": {"layers": [HIDDEN, HIDDEN, ["Dense", {"units": 2}]], "shape": [12]},
    "same_2": {"layers": [STRIDED, STRIDED, *HEAD], "signed": True},
    "add": {"layers": [CONV, ["Conv2D", SAME], ["Add", {}, [1, 2]], ACTIVATION, *HEAD]},
    "add_input": {"layers": [["Conv2D", {**SAME, "filters": 2}], ["Add", {}, [0, 1]], ACTIVATION, *HEAD], "signed": True},
    "relu_layer": {"layers": [["Conv2D", PLAIN], RELU, POOL, FLATTEN, LAST]},
    "relu_add": {"layers": [CONV, ["Conv2D", SAME], ["Add", {}, [1, 2]], RELU, *HEAD]},
    "activation": {"layers": [["Conv2D", PLAIN], ACTIVATION, POOL, ["Conv2D", PLAIN], ACTIVATION, FLATTEN, LAST]},
    "norm": {"layers": [["Conv2D", PLAIN], NORM, ACTIVATION, POOL, *HEAD]},
    "norm_last": {"layers": [CONV, NORM, POOL, *HEAD]},
    "padded": {"layers": [["ZeroPadding2D", {}], CONV, POOL, *HEAD]},
    "depthwise": {"layers": [CONV, ["DepthwiseConv2D", {"kernel_size": 3, "activation": "relu"}], POOL, *HEAD]},
    "separable": {"layers": [CONV, ["SeparableConv2D", CONV[1]], POOL, *HEAD]},
    "concat": {"layers": [CONV, ["Conv2D", {**SAME, "activation": "relu"}], ["Concatenate", {}, [1, 2]], *HEAD]},
}
_LRP = "z z_IB epsilon epsilon_IB w_square flat alpha_2_beta_1 alpha_2_beta_1_IB alpha_1_beta_0 alpha_1_beta_0_IB z_plus"
_LRP += " z_plus_fast sequential_preset_a sequential_preset_b sequential_preset_a_flat sequential_preset_b_flat"
UNTIL = "lrp.sequential_preset_b_flat_until_idx"
# (name, options), tried on all nets, and on those of OPTION_NETS alone.
CASES = [
    *((name, {}) for name in ("input", "gradient", "gradient.baseline", "input_t_gradient", "deconvnet")),
    *((name, {}) for name in ("guided_backprop", "integrated_gradients", "deep_taylor")),
    *((f"lrp.{name}", {}) for name in _LRP.split()),
    ("deep_taylor.bounded", {"low": -1, "high": 1}),
    ("lrp.alpha_beta", {"alpha": 2, "beta": 1}),
    (UNTIL, {"until_layer_idx": 1}),
    *((name, {"neuron_selection_mode": "index"}) for name in ("gradient", "deconvnet", "lrp.epsilon", "deep_taylor")),
]
OPTION_NETS = ("signed", "sequential", "norm")
_RULES = (
    "Z Epsilon WSquare Flat ZPlus ZPlusFast Bounded Alpha2Beta1 Alpha1Beta0 Alpha2Beta1IgnoreBias Alpha1Beta0IgnoreBias"
)
OPTION_CASES = [
    *(("lrp.alpha_beta", options) for options in ({"alpha": 3}, {"beta": 0}, {"alpha": 2, "beta": 1, "bias": False})),
    *((UNTIL, {"until_layer_idx": index}) for index in (None, 0, 2, 3, 4)),
    *(("lrp", {"rule": rule}) for rule in _RULES.split()),
    *(("lrp.z", {"input_layer_rule": rule}) for rule in ("Flat", "WSquare", "Bounded", "ZPlus", "Epsilon", (-1, 1))),
    *((name, {"epsilon": 0.01}) for name in ("lrp.epsilon", "lrp.sequential_preset_a")),
    *(("gradient", {"postprocess": postprocess}) for postprocess in ("abs", "square")),
    ("integrated_gradients", {"steps": 8, "reference_inputs": 0.5}),
    ("integrated_gradients", {"neuron_selection_mode": "index"}),
    *((name, {"neuron_selection_mode": "all"}) for name in ("gradient", "deconvnet", "lrp.z", "deep_taylor")),
    ("smoothgrad", {"noise_scale": 0}),
    ("random", {"stddev": 0}),
]


def cases(net_name):
    """Label -> (name, options), for one net."""
    chosen = CASES + (OPTION_CASES if net_name in OPTION_NETS else [])
    return {
        " ".join([name, *(f"{key}={value}" for key, value in options.items())]): (name, options) for name, options in chosen
    }


def versions(*packages):
    """The versions of packages in this environment, as text."""
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)


def built(keras, net):
    """The net in either Keras."""
    tensors = [keras.Input(tuple(net["shape"]))]
    for kind, options, *sources in net["layers"]:
        taken = [tensors[source] for source in sources[0]] if sources else tensors[-1]
        tensors.append(getattr(keras.layers, kind)(**options)(taken))
    model = keras.Model(tensors[0], tensors[-1])
    return keras.Sequential(model.layers) if net.get("sequential") else model


def drawn_weights(model, net, generator):
    """Random weights with biases of both signs; scales and variances are positive."""
    found = []
    for variable in model.variables:
        shape, name = tuple(variable.shape), variable.path
        if name.endswith("kernel"):
            found.append(generator.normal(size=shape) / np.sqrt(np.prod(shape[:-1])))
        elif name.endswith(("gamma", "variance")):
            found.append(generator.uniform(0.5, 2, shape))
        else:
            found.append(generator.normal(size=shape) * 0.2 * net.get("bias", 1))
    return [*found[:-1], found[-1] + net.get("shift", 0.5) * net.get("bias", 1)]


def explained(create, make_model, x, name, options):
    """One side's values, or what it raised, as text."""
    chosen = {"neuron_selection": [1] * len(x)} if options.get("neuron_selection_mode") == "index" else {}
    try:
        return np.asarray(create(name, make_model(), **options).analyze(x, **chosen), "float64")
    except Exception as error:
        return np.asarray(f"{type(error).__name__}: {error}".split("\n")[0][:150])


def theirs(folder, dtype):
    """Runs in the other environment: reads the nets, writes what iNNvestigate makes of them."""
    import innvestigate
    import tensorflow as tf
    from innvestigate.analyzer.relevance_based.relevance_rule import ZRule

    class WithoutBias(ZRule):
        def __init__(self, layer, state):
            super().__init__(layer, state, bias=False)

    tf.compat.v1.disable_eager_execution()
    tf.get_logger().setLevel("ERROR")
    tf.keras.backend.set_floatx(dtype)
    aliases = {"lrp.z_IB": ("lrp", {"rule": WithoutBias, "bn_layer_rule": WithoutBias})}
    aliases["lrp.epsilon_IB"] = "lrp.epsilon", {"bias": False}
    given, values = np.load(folder / "nets.npz"), {}
    for net_name, net in json.loads(str(given["nets"])).items():

        def model(net=net, net_name=net_name):
            tf.keras.backend.clear_session()
            made = built(tf.keras, net)
            made.set_weights([given[f"{net_name}|{number}"] for number in range(len(made.weights))])
            return made

        for label, (name, options) in cases(net_name).items():
            known, more = aliases.get(name, (name, {}))
            x, create = given[f"{net_name}|x"], innvestigate.create_analyzer
            values[f"{net_name}|{label}"] = explained(
                create, model, x, known, {**options, **more, "disable_model_checks": True}
            )
    np.savez(folder / "theirs.npz", versions=versions("innvestigate", "tensorflow-cpu", "keras", "numpy"), **values)


def ours(folder, dtype, chosen):
    """Draws the nets, writes them for the other side, and gives what `create_analyzer` makes of them."""
    import keras

    import innvest_lite

    keras.config.set_floatx(dtype)
    nets, plain, values = {}, {}, {}
    for number, (net_name, net) in enumerate(NETS.items()):
        if net_name not in chosen:
            continue
        nets[net_name] = net = {"shape": [10, 10, 2], **net}
        generator, shape = np.random.default_rng(number), (4, *net["shape"])
        x = (generator.normal(size=shape) if net.get("signed") else generator.uniform(0, 1, shape)).astype(dtype)
        model = built(keras, net)
        weights = [array.astype(dtype) for array in drawn_weights(model, net, generator)]
        model.set_weights(weights)
        plain.update({f"{net_name}|{position}": array for position, array in enumerate(weights)} | {f"{net_name}|x": x})
        for label, (name, options) in cases(net_name).items():
            values[f"{net_name}|{label}"] = explained(innvest_lite.create_analyzer, lambda m=model: m, x, name, options)
    np.savez(folder / "nets.npz", nets=json.dumps(nets), **plain)
    return values


def cell(key, here, there):
    """What the table says of one name on one net."""
    if key not in here:
        return "."
    a, b = here[key], there[key]
    failed = "+".join(side for side, array in (("here", a), ("there", b)) if array.dtype.kind == "U")
    if failed or not np.isfinite(b).all():
        return failed or "nan"
    a, b = a.reshape(len(a), -1), b.reshape(len(b), -1)
    if not a.any() and not b.any():
        return "0"
    largest = np.maximum(np.abs(b).max(1), 1e-30)
    scale = (a * b).sum(1) / np.maximum((a * a).sum(1), 1e-30)
    plain, scaled = ((np.abs(x - b).max(1) / largest).max() for x in (a, a * scale[:, None]))
    return f"{plain:.0e}" + (f"~{scaled:.0e}" if plain > EQUAL else "")


def report(nets, here, there):
    """Prints the table, then what failed."""
    print("there:", there.pop("versions"), "-- here:", versions("tensorflow", "keras", "numpy"))
    print("".ljust(50), *(net.ljust(11) for net in nets))
    for label in dict.fromkeys(label for net in nets for label in cases(net)):
        print(label[-50:].ljust(50), *(cell(f"{net}|{label}", here, there).ljust(11) for net in nets))
    failures = {}
    for side, values in (("there", there), ("here", here)):
        for key, value in values.items():
            if value.dtype.kind == "U":
                net, label = key.split("|")
                failures.setdefault(f"failed {side}: {label}: {value}", []).append(net)
    print(*(f"{what} ({', '.join(nets)})" for what, nets in failures.items()), sep="\n")


def main():
    """Runs both sides."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("nets", nargs="*", default=[*NETS])
    parser.add_argument("--theirs-python", help="the Python of the environment that has iNNvestigate")
    parser.add_argument("--dtype", default="float32", choices=("float32", "float64"))
    parser.add_argument("--inside", type=pathlib.Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        theirs(arguments.inside, arguments.dtype)
        return
    with tempfile.TemporaryDirectory() as folder:
        here = ours(pathlib.Path(folder), arguments.dtype, arguments.nets)
        command = [arguments.theirs_python, __file__, "--inside", folder, "--dtype", arguments.dtype]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
        there = dict(np.load(pathlib.Path(folder, "theirs.npz")))
    report(arguments.nets, here, there)


if __name__ == "__main__":
    main()
