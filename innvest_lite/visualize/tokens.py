"""Explanations of texts: each token on the colour of its relevance, as HTML. Called by users and the report."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

from innvest_lite.errors import InvalidInputError
from innvest_lite.visualize.checks import as_array, as_batch
from innvest_lite.visualize.colormaps import DEFAULT, colorize
from innvest_lite.visualize.pictures import LUMA, strength_of

_DARK = 140  # below this lightness of 255 the text is white


def tokens(
    texts: Sequence[str],
    relevance: Any,
    colormap: str = DEFAULT,
    limit: float | None = None,
    *,
    percentile: float = 100.0,
    absolute: bool = False,
) -> str:
    """Tokens as HTML, each on the colour of its relevance; the number is shown while the pointer is over it.

    Args:
        texts: the tokens, a list of str; whatever they hold is shown as text.
        relevance: a number for each, shape `(tokens,)`, or `(tokens, features)`, which are summed.
        colormap: as in `heatmap`.
        limit: as in `heatmap`.
        percentile: as in `heatmap`.
        absolute: as in `heatmap`.

    Returns:
        A str: one `<p>` with a `<span>` for each token, with inline styles, so that it can be put in any page
        (`IPython.display.HTML` shows it in a notebook).

    Raises:
        InvalidInputError: numbers that differ in count, or what `heatmap` refuses.

    Example:
        >>> page = tokens(["not", "bad"], np.array([-1.0, 2.0]))
        >>> page.count("<span"), "+2" in page
        (2, True)
    """
    texts, relevance = list(texts), as_array(relevance, "relevance")
    if relevance.ndim not in (1, 2) or not texts or len(relevance) != len(texts):
        raise InvalidInputError(
            f"relevance has the shape {relevance.shape} for {len(texts)} tokens; expected (tokens,) or (tokens, features), "
            "of one token at least."
        )
    # As an image of one row.
    batch, _ = as_batch(relevance.reshape(1, len(texts), -1), "relevance")
    colors = colorize(strength_of(batch, limit, percentile, absolute)[0, 0], colormap)
    spans = map(_span, texts, batch[0, 0].sum(axis=-1), colors)
    return f'<p style="line-height:1.9">{" ".join(spans)}</p>'


def _span(text, value, color):
    ink = "#fff" if color @ LUMA < _DARK else "#111"
    style = f"background:rgb({','.join(map(str, color))});color:{ink};padding:2px 4px;border-radius:3px"
    return f'<span style="{style}" title="{value:+.3g}">{html.escape(str(text))}</span>'
