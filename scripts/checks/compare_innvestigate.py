"""Compares `create_analyzer` with the real iNNvestigate, name by name, on small nets with the same weights.

Usage: `python scripts/checks/compare_innvestigate.py --theirs-python PATH [NET ...]`. PATH is the Python 3.11 of an
environment made with `pip install "tensorflow-cpu==2.14.1" "innvestigate==2.1.2" "numpy<2"`; all nets take ten minutes. A
cell is the largest deviation as a share of the sample's maximum; behind "~" what is left after scaling each sample best.
"there" and "here": that side raised, see below the table. "nan": theirs is not finite. "0": all is zero on both sides. ".":
not tried.
With `--dtype float64`, what is only rounding shrinks to 1e-7 or less. `--save FILE` writes nets and values of iNNvestigate
for tests.
"""

import argparse
import functools
import importlib.metadata
import json
import os
import subprocess
import tempfile

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

PLAIN, SAME = ({"filters": 4, "kernel_size": 3, "padding": padding} for padding in ("valid", "same"))
CONV, STRIDED = (["Conv2D", {**options, "activation": "relu"}] for options in (PLAIN, {**SAME, "strides": 2}))
POOL, AVERAGE = (["MaxPooling2D", {"pool_size": 2}], ["AveragePooling2D", {"pool_size": 2}])
RELU, ACTIVATION, NORM = ["ReLU", {}], ["Activation", {"activation": "relu"}], ["BatchNormalization", {}]
FLATTEN, HIDDEN, LAST = ["Flatten", {}], ["Dense", {"units": 6, "activation": "relu"}], ["Dense", {"units": 3}]
HEAD = [FLATTEN, HIDDEN, LAST]
BLOCK = [CONV, POOL, CONV, *HEAD]
# Layers and options. A layer is [class, options, numbers of the tensors it takes]; without those, the last. 0 is the input.
NETS = {
    "max": (BLOCK, {}),
    "signed": (BLOCK, {"signed": True}),
    "sequential": (BLOCK, {"sequential": True}),
    "negative": (BLOCK, {"shift": -5.0}),
    "no_bias": (BLOCK, {"signed": True, "bias": 0.0, "shift": 0.0}),
    "average": ([CONV, AVERAGE, CONV, *HEAD], {}),
    "global": ([CONV, CONV, ["GlobalAveragePooling2D", {}], LAST], {}),
    "dense": ([HIDDEN, HIDDEN, ["Dense", {"units": 2}]], {"shape": [12]}),
    "same_2": ([STRIDED, STRIDED, *HEAD], {"signed": True}),
    "add": ([CONV, ["Conv2D", SAME], ["Add", {}, [1, 2]], ACTIVATION, *HEAD], {}),
    "add_input": ([["Conv2D", {**SAME, "filters": 2}], ["Add", {}, [0, 1]], ACTIVATION, *HEAD], {"signed": True}),
    "relu_layer": ([["Conv2D", PLAIN], RELU, POOL, FLATTEN, LAST], {}),
    "activation": ([["Conv2D", PLAIN], ACTIVATION, POOL, ["Conv2D", PLAIN], ACTIVATION, FLATTEN, LAST], {}),
    "norm": ([["Conv2D", PLAIN], NORM, ACTIVATION, POOL, *HEAD], {}),
    "norm_last": ([CONV, NORM, POOL, *HEAD], {}),
    "padded": ([["ZeroPadding2D", {}], CONV, POOL, *HEAD], {}),
    "depthwise": ([CONV, ["DepthwiseConv2D", {"kernel_size": 3, "activation": "relu"}], POOL, *HEAD], {}),
    "separable": ([CONV, ["SeparableConv2D", CONV[1]], POOL, *HEAD], {}),
    "concat": ([CONV, ["Conv2D", {**SAME, "activation": "relu"}], ["Concatenate", {}, [1, 2]], *HEAD], {}),
}
_LRP = "z z_IB epsilon epsilon_IB w_square flat alpha_2_beta_1 alpha_2_beta_1_IB alpha_1_beta_0 alpha_1_beta_0_IB z_plus"
_LRP += " z_plus_fast sequential_preset_a sequential_preset_b sequential_preset_a_flat sequential_preset_b_flat"
_NAMES = "input gradient gradient.baseline input_t_gradient deconvnet guided_backprop integrated_gradients deep_taylor"
_RULES = "Z Epsilon WSquare Flat ZPlus ZPlusFast Bounded Alpha2Beta1 Alpha1Beta0 Alpha2Beta1IgnoreBias"
# (name, options), tried on all nets, and on some.
CASES = [
    *((name, {}) for name in [*_NAMES.split(), *(f"lrp.{name}" for name in _LRP.split())]),
    *(("deep_taylor.bounded", {"low": -1, "high": 1}), ("lrp.sequential_preset_b_flat_until_idx", {"until_layer_idx": 1})),
    *((name, {"neuron_selection_mode": "index"}) for name in ("gradient", "deconvnet", "lrp.epsilon", "deep_taylor")),
]
_ALPHA_BETAS = ({"alpha": 2, "beta": 1}, {"alpha": 3}, {"beta": 0}, {"alpha": 2, "beta": 1, "bias": False})
OPTION_CASES = [
    *(("lrp.alpha_beta", options) for options in _ALPHA_BETAS),
    *(("lrp.sequential_preset_b_flat_until_idx", {"until_layer_idx": index}) for index in (None, 0, 2, 3, 4)),
    *(("lrp", {"rule": rule}) for rule in _RULES.split()),
    *(("lrp.z", {"input_layer_rule": rule}) for rule in ("Flat", "WSquare", "Bounded", "ZPlus", "Epsilon", (-1, 1))),
    *((name, {"epsilon": 0.01}) for name in ("lrp.epsilon", "lrp.sequential_preset_a")),
    *(("integrated_gradients", options) for options in ({"steps": 8, "reference_inputs": 0.5}, {"postprocess": "abs"})),
    *((name, {"neuron_selection_mode": "index"}) for name in ("integrated_gradients", "lrp.sequential_preset_b")),
    *((name, {"neuron_selection_mode": "all"}) for name in ("gradient", "deconvnet", "lrp.z", "deep_taylor")),
    *(("gradient", {"postprocess": "square"}), ("smoothgrad", {"noise_scale": 0}), ("random", {"stddev": 0})),
]


def cases(net_name):
    """Label -> (name, options), for one net."""
    chosen = CASES + (OPTION_CASES if net_name in ("signed", "sequential", "norm") else [])
    return {" ".join([name, *(f"{key}={value}" for key, value in given.items())]): (name, given) for name, given in chosen}


def built(keras, layers, options):
    """The net in either Keras."""
    tensors = [keras.Input(tuple(options.get("shape", (10, 10, 2))))]
    for kind, arguments, *sources in layers:
        taken = [tensors[source] for source in sources[0]] if sources else tensors[-1]
        tensors.append(getattr(keras.layers, kind)(**arguments)(taken))
    model = keras.Model(tensors[0], tensors[-1])
    return keras.Sequential(model.layers) if options.get("sequential") else model


def drawn(model, options, generator):
    """Random weights with biases of both signs, but scales and variances positive."""
    found = []
    for path, shape in ((variable.path, tuple(variable.shape)) for variable in model.variables):
        scale = 1 / np.sqrt(np.prod(shape[:-1])) if path.endswith("kernel") else 0.2 * options.get("bias", 1)
        array = generator.normal(size=shape) * scale
        found.append(0.5 + 3 * np.abs(array) if path.endswith(("gamma", "variance")) else array)
    return [*found[:-1], found[-1] + options.get("shift", 0.5)]


def explained(create, model, x, name, options):
    """One side's values, or what it raised, as text."""
    chosen = {"neuron_selection": [1] * len(x)} if options.get("neuron_selection_mode") == "index" else {}
    try:
        return np.asarray(create(name, model, **options).analyze(x, **chosen), "float64")
    except Exception as error:
        return np.asarray(f"{type(error).__name__}: {error}".split("\n")[0][:150])


def theirs(folder, dtype):
    """Runs in the other environment: reads the nets, writes what iNNvestigate makes of them."""
    import innvestigate
    import tensorflow as tf
    from innvestigate.analyzer.relevance_based.relevance_rule import ZRule

    class WithoutBias(ZRule):
        __init__ = functools.partialmethod(ZRule.__init__, bias=False)

    tf.compat.v1.disable_eager_execution()
    tf.keras.backend.set_floatx(dtype)
    aliases = {"lrp.z_IB": ("lrp", {"rule": WithoutBias, "bn_layer_rule": WithoutBias})}
    aliases["lrp.epsilon_IB"] = "lrp.epsilon", {"bias": False}
    given, values = np.load(f"{folder}/nets.npz"), {}
    for net_name, (layers, options) in json.loads(str(given["nets"])).items():
        for label, (name, chosen) in cases(net_name).items():
            tf.keras.backend.clear_session()
            model = built(tf.keras, layers, options)
            model.set_weights([given[f"{net_name}|{number}"] for number in range(len(model.weights))])
            known, more = aliases.get(name, (name, {}))
            # Their check of layers raises where it means to warn.
            case = known, {**chosen, **more, "disable_model_checks": True}
            values[f"{net_name}|{label}"] = explained(innvestigate.create_analyzer, model, given[f"{net_name}|x"], *case)
    np.savez(f"{folder}/theirs.npz", **values)
    print(f"there: iNNvestigate {importlib.metadata.version('innvestigate')}, TensorFlow {tf.__version__}, {dtype}")


def ours(folder, dtype, chosen):
    """Draws the nets, writes them for the other side, and gives what `create_analyzer` makes of them."""
    import keras

    import innvest_lite

    keras.config.set_floatx(dtype)
    written, values = {"nets": json.dumps({name: NETS[name] for name in chosen})}, {}
    for net_name, (layers, options) in ((name, NETS[name]) for name in chosen):
        model, generator = built(keras, layers, options), np.random.default_rng([*NETS].index(net_name))
        x = generator.normal(size=(4, *model.input_shape[1:])).astype(dtype)
        x = x if options.get("signed") else np.abs(x) / 2
        weights = [array.astype(dtype) for array in drawn(model, options, generator)]
        model.set_weights(weights)
        written |= {f"{net_name}|{number}": array for number, array in enumerate(weights)} | {f"{net_name}|x": x}
        for label, case in cases(net_name).items():
            values[f"{net_name}|{label}"] = explained(innvest_lite.create_analyzer, model, x, *case)
    np.savez(f"{folder}/nets.npz", **written)
    print(f"here: Keras {keras.__version__}, {keras.backend.backend()}, {dtype}", flush=True)
    return values


def cell(a, b):
    """What the table says of ours and theirs."""
    if a is None:
        return "."
    failed = "+".join(side for side, array in (("here", a), ("there", b)) if array.dtype.kind == "U")
    if failed or not np.isfinite(b).all():
        return failed or "nan"
    if not a.any() and not b.any():
        return "0"
    a, b = a.reshape(len(a), -1), b.reshape(len(b), -1)
    largest = np.maximum(np.abs(b).max(1), 1e-30)
    scale = (a * b).sum(1) / np.maximum((a * a).sum(1), 1e-30)
    plain, scaled = ((np.abs(x - b).max(1) / largest).max() for x in (a, a * scale[:, None]))
    return f"{plain:.0e}" + (f"~{scaled:.0e}" if plain > 1e-5 else "")


def as_float32(arrays):
    """The values in half the space."""
    return {name: value.astype("float32") for name, value in arrays.items()}


def main():
    """Runs both sides, prints the table, then what failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("nets", nargs="*", default=[*NETS])
    parser.add_argument("--theirs-python", help="the Python of the environment that has iNNvestigate")
    parser.add_argument("--dtype", default="float32", choices=("float32", "float64"))
    parser.add_argument("--save", help="an .npz file for iNNvestigate's values, as tests/analyzers/innvestigate.npz")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        raise SystemExit(theirs(arguments.inside, arguments.dtype))
    with tempfile.TemporaryDirectory() as folder:
        here = ours(folder, arguments.dtype, arguments.nets)
        command = [arguments.theirs_python, __file__, "--inside", folder, "--dtype", arguments.dtype]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
        there = dict(np.load(f"{folder}/theirs.npz"))
        if arguments.save:
            kept = {name: value for name, value in there.items() if value.dtype.kind != "U" and np.isfinite(value).all()}
            np.savez_compressed(arguments.save, **np.load(f"{folder}/nets.npz"), **as_float32(kept))
    print("".ljust(50), *(net.ljust(11) for net in arguments.nets))
    for label in dict.fromkeys(label for net in arguments.nets for label in cases(net)):
        cells = (cell(here.get(f"{net}|{label}"), there.get(f"{net}|{label}")) for net in arguments.nets)
        print(label[-50:].ljust(50), *(text.ljust(11) for text in cells))
    for side, values in (("there", there), ("here", here)):
        failed = {key: str(value) for key, value in values.items() if value.dtype.kind == "U"}
        print(*(f"failed {side}: {key}: {message}" for key, message in failed.items()), sep="\n")


if __name__ == "__main__":
    main()
