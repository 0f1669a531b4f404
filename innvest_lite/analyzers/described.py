"""What an analyzer says of itself: a line as `repr`, a table in a notebook. The base of `Analyzer`."""

from __future__ import annotations

import collections
import inspect
from collections.abc import Iterator
from typing import Any

from innvest_lite.tables import html_table


class Described:
    """An analyzer's `repr` and its table: the method, the model, the unit, the rules, and what it still needs."""

    #: What attributions are counted in, in words for pictures; "" for what has no unit.
    unit = ""
    #: Whether the engine is there: not yet, or never, where making the analyzer failed.
    _explainer: Any = None

    def _told_of_patterns(self) -> str:
        """Which patterns there are, or how to get them; "" of methods without."""
        return ""

    def __repr__(self) -> str:
        model = getattr(self, "model", None)
        named = f" of {str(model.name)[:60]!r}" if model is not None else ""
        patterns = self._told_of_patterns()
        return f"<{type(self).__name__}{named}{f', patterns: {patterns}' if patterns else ''}>"

    def _repr_html_(self) -> str:
        return html_table(("", ""), self._facts())

    def _facts(self) -> Iterator[tuple[str, str]]:
        yield type(self).__name__, (inspect.getdoc(type(self)) or "").partition("\n")[0]
        explainer = self._explainer
        if explainer is not None:
            taken = ", ".join(
                f"{name} {shape}" for name, shape in zip(explainer.inputs.names, explainer.inputs.shapes, strict=True)
            )
            yield "model", f"{self.model.name}: {taken} to {explainer.output.shape}"  # type: ignore[attr-defined]
        yield "unit", self.unit or "none"
        if self._told_of_patterns():
            yield "patterns", self._told_of_patterns()
        if explainer is not None and rules_of(explainer.plan):
            yield "rules", rules_of(explainer.plan)


def rules_of(plan: Any) -> str:
    """The rules of a `Plan` by their number, the most frequent first, as in "Epsilon (3), ZPlus (2)"."""
    counted = collections.Counter(type(step.rule).__name__ for step in plan.every_step if str(step.rule) != "-")
    return ", ".join(f"{name} ({count})" for name, count in counted.most_common())
