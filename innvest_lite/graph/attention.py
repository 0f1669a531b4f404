"""Keras's fused attention, written as the sums of products and the softmax that it is. Called by `recording`."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


def is_fused_attention(operation: Any) -> bool:
    """Whether an operation is `keras.ops.dot_product_attention`."""
    return type(operation).__name__ == "DotProductAttention" and type(operation).__module__ == "keras.src.ops.nn"


def attention(operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What Keras's operation computes (Vaswani et al. 2017, arXiv 1706.03762), step by step.

    Args:
        operation: Keras's operation, which has the options.
        args: of its call: the query (batch, queries, heads, size); the key (batch, keys, heads or groups of them, size);
            the value (batch, keys, heads or groups of them, another size); a bias that is added to the logits; a mask,
            which keys a query sees; the scale of the logits, by default one over the root of the size.
        kwargs: likewise, by name.

    Returns:
        A tensor (batch, queries, heads, the value's size).
    """
    given = {**dict(zip(("query", "key", "value", "bias", "mask", "scale"), args, strict=False)), **kwargs}
    query, key, value = (given[name] for name in ("query", "key", "value"))
    bias, mask, scale = (given.get(name) for name in ("bias", "mask", "scale"))
    dtype = keras.backend.result_type(query.dtype, key.dtype, value.dtype)
    query, key, value = (ops.cast(one, dtype) for one in (query, key, value))
    groups = query.shape[2] // key.shape[2] if key.shape[2] > 1 else 1
    if groups > 1:
        key, value = (ops.repeat(one, groups, axis=2) for one in (key, value))
    scale = 1 / key.shape[-1] ** 0.5 if scale is None else scale
    # Keras computes the softmax in float32 at least.
    wide = keras.backend.result_type(dtype, "float32")
    logits = ops.cast(ops.einsum("BTNH,BSNH->BNTS", query, key), wide) * scale
    if bias is not None:
        logits = logits + ops.cast(bias, wide)
    seen = _seen(mask, logits, operation.is_causal)
    if seen is not None:
        logits = ops.where(seen, logits, ops.cast(-0.7 * _LARGEST, wide))
    return ops.einsum("BNTS,BSNH->BTNH", ops.cast(ops.softmax(logits, axis=-1), dtype), value)


# Of float32 and float64, in which the logits are.
_LARGEST = 3.38953e38


def _seen(mask, logits, is_causal):
    if not is_causal:
        return mask
    queries, keys = logits.shape[2:]
    before = ops.arange(queries)[:, None] >= ops.arange(keys)[None]
    return before if mask is None else ops.logical_and(mask, before)
