"""Words of other toolkits for our options, for messages: whoever types captum's `n_steps=` is told of `steps=`.

Called where analyzers are made (`analyzers.binding`, `analyzers.registry`) and by `visualize`, whose functions say with
`familiar` which words they are asked for.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from innvest_lite.errors import UnknownOptionError, did_you_mean

_Function = TypeVar("_Function", bound=Callable[..., Any])

# Their word -> ours, the first that the method or function has.
_WORDS = {
    "background": ("references", "background", "reference_inputs"),
    "baseline": ("reference_inputs", "references", "background", "fill"),
    "baselines": ("reference_inputs", "references", "background", "fill"),
    "cmap": ("colormap",),
    "category": ("target",),
    "class_index": ("target",),
    "conv_layer": ("layer",),
    "internal_batch_size": ("batch_size",),
    "layer_name": ("layer",),
    "m_steps": ("steps",),
    "n_samples": ("augment_by_n", "samples", "masks", "steps"),
    "n_steps": ("steps", "augment_by_n"),
    "nb_samples": ("augment_by_n", "samples", "masks"),
    "noise": ("noise_scale",),
    "noise_level": ("noise_scale",),
    "nt_samples": ("augment_by_n", "samples"),
    "num_samples": ("augment_by_n", "samples", "masks"),
    "labels": ("target",),
    "patch_size": ("window", "patch"),
    "penultimate_layer": ("layer",),
    "pred_index": ("target",),
    "preprocess": ("preprocessor",),
    "preprocess_input": ("preprocessor",),
    "preprocessing_fn": ("preprocessor",),
    "reference": ("reference_inputs",),
    "sliding_window_shapes": ("window",),
    "stdev": ("noise_scale",),
    "stdevs": ("noise_scale",),
    "strides": ("stride",),
    "target_layer": ("layer",),
    "target_layers": ("layer",),
    "targets": ("target",),
    "vmax": ("limit",),
    "window_size": ("window",),
    "y": ("target",),
    "alpha": ("opacity", "composite_options"),
    "beta": ("composite_options",),
    "epsilon": ("composite_options",),
    "gamma": ("composite_options",),
}
_EXAMPLES = {"composite_options": "composite_options={{{word!r}: ...}} beside the composite's name"}


def meant(word: str, known: Iterable[str]) -> str:
    """The part of a message that names our word for another toolkit's, or the nearest of ours.

    Args:
        word: the option that there is not.
        known: the options that there are.

    Returns:
        A str, which begins with a space unless it is empty.

    Example:
        >>> meant("baseline", ["steps", "reference_inputs"])
        " Here it is called 'reference_inputs'."
        >>> meant("stepps", ["steps", "reference_inputs"])
        " Did you mean 'steps'?"
    """
    known = list(known)
    ours = next((name for name in _WORDS.get(word, ()) if name in known), None)
    if ours is None:
        return did_you_mean(word, known)
    if ours in _EXAMPLES:
        return f" Say {_EXAMPLES[ours].format(word=word)}."
    return f" Here it is called {ours!r}."


def refuse_unknown(what: str, options: Iterable[str], known: Iterable[str]) -> None:
    """Raises UnknownOptionError for the first of the options that is not known.

    Args:
        what: what has these options, as the subject of the message.
        options: that were given.
        known: that there are.
    """
    known = [name for name in known if name not in ("self", "model")]
    for option in options:
        if option not in known and option not in ("self", "model"):
            raise UnknownOptionError(f"{what} has no option {option!r}.{meant(option, known)} It takes {', '.join(known)}.")


def familiar(function: _Function) -> _Function:
    """Function decorator: keyword arguments that there are not are refused with our word for them."""
    known = [one.name for one in inspect.signature(function).parameters.values() if one.kind is not one.VAR_KEYWORD]

    @functools.wraps(function)
    def checked(*given: Any, **options: Any) -> Any:
        refuse_unknown(function.__name__, options, known)
        return function(*given, **options)

    return checked  # type: ignore[return-value]
