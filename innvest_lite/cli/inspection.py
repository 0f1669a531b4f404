"""`innvest-lite inspect`: what a method does with a model, node by node, or why it cannot."""

import innvest_lite
from innvest_lite.cli import models
from innvest_lite.errors import UnsupportedLayerError


def run(arguments):
    """Prints shapes and plans; returns 1 if a method does not support the model, else 0."""
    model = models.load(arguments.model)
    print(f"{model.name}: {type(model).__name__}, {model.count_params():,} parameters")
    inputs = getattr(model, "inputs", None) or []
    print(f"inputs: {_described(inputs, [tensor.name for tensor in inputs])}")
    print(f"outputs: {_described(getattr(model, 'outputs', None) or [], getattr(model, 'output_names', []))}")
    names = list(innvest_lite.ANALYZERS) if arguments.all else [arguments.method]
    supported = [_print_plan(name, model, arguments.output_name) for name in names]
    return int(not all(supported))


def _described(tensors, names):
    """Name, shape and dtype of each."""
    texts = [f"{name} {tuple(tensor.shape)} {tensor.dtype}" for name, tensor in zip(names, tensors, strict=True)]
    return ", ".join(texts) or "unknown, the model has no graph"


def _print_plan(name, model, output):
    """Prints the plan of one method, or the list of what it does not support; returns whether it does."""
    print(f"\n{name}")
    try:
        print(innvest_lite.create_analyzer(name, model, output=output).plan())
    except UnsupportedLayerError as error:
        print(error)
        return False
    return True
