"""Which nodes a rule is for: matchers, the first halves of a composite's pairs.

A matcher takes a `Site` and returns whether its rule applies; `&`, `|` and `~` combine those of this module. Any function
of a site is a matcher too, but only those of this module are plain values, so that an analyzer with them can be saved.
"""

from __future__ import annotations

import dataclasses
import difflib
import fnmatch
import math
from typing import TYPE_CHECKING

from innvest_lite.errors import InvalidInputError, did_you_mean
from innvest_lite.forms import KINDS, LinearForm
from innvest_lite.forms.structure import activation_name
from innvest_lite.graph.recognized import is_affine

if TYPE_CHECKING:
    # Not at run time: every class in this module counts as a matcher that a file may name.
    from collections.abc import Callable

    from innvest_lite.rules.sites import Site


@dataclasses.dataclass(frozen=True)
class Matcher:
    """Whether a rule applies to a site."""

    def __call__(self, site: Site) -> bool:
        """Whether the rule is for this site."""
        raise NotImplementedError

    def __and__(self, other: Callable[[Site], bool]) -> Matcher:
        return _Both(self, other)

    def __or__(self, other: Callable[[Site], bool]) -> Matcher:
        return _Either(self, other)

    def __invert__(self) -> Matcher:
        return _Not(self)


def kind(*names: str) -> Matcher:
    """Matches forms of one of these kinds; InvalidInputError where there is no such kind."""
    for name in names:
        if name not in KINDS:
            raise InvalidInputError(f"There is no kind {name!r}.{did_you_mean(name, KINDS)} There are: {', '.join(KINDS)}.")
    return _Kind(names)


def anything() -> Matcher:
    """Matches every node."""
    return _Anything()


def affine() -> Matcher:
    """Matches nodes that are linear in what they take, but for a constant, as far as trying them shows."""
    return _Affine()


def kernel_bearing() -> Matcher:
    """Matches linear nodes with a kernel of their own or a virtual one (sums and averages)."""
    return _KernelBearing()


def monotone() -> Matcher:
    """Matches linear maps without weights and without negative coefficients, such as sums over positions."""
    return _Monotone()


def gated() -> Matcher:
    """Matches products in which one input is known to carry the signal."""
    return _Gated()


def squashed() -> Matcher:
    """Matches products of a signal and of a gate that comes out of a squashing activation, as in recurrent layers."""
    return _Squashed()


def weighted() -> Matcher:
    """Matches products in which one side is known to weigh the other, as in attention."""
    return _Weighted()


def both_sides() -> Matcher:
    """Matches products in which no side is broadcast or squashed, as in layers with a SiLU or GELU gate: both carry."""
    return _BothSides()


def layer(*classes: str | type) -> Matcher:
    """Matches nodes of these layer or operation classes (or their names) and of classes derived from them.

    Raises:
        InvalidInputError: it is neither a class nor a name.
    """
    if not all(isinstance(cls, str | type) for cls in classes):
        raise InvalidInputError(f"layer() takes classes of layers or their names, but got {classes!r}.")
    return _LayerClass(tuple(cls if isinstance(cls, str) else cls.__name__ for cls in classes))


def named(*patterns: str) -> Matcher:
    """Matches nodes by name, with `*` and `?`: `named("block1_*", "head")`; InvalidInputError where a name is not a str."""
    if not all(isinstance(pattern, str) for pattern in patterns):
        raise InvalidInputError(f"named() takes names of nodes, with * and ?, but got {patterns!r}.")
    return _Named(patterns)


def first() -> Matcher:
    """Matches the linear nodes that see the input: no other linear node lies before them."""
    return _First()


def before_first() -> Matcher:
    """Matches what stands before the linear nodes that see the input, such as preprocessing inside the model."""
    return _BeforeFirst()


def offset() -> Matcher:
    """Matches what adds to words or to vectors of numbers before the linear nodes that see them, such as their places."""
    return _Offset()


def one_position() -> Matcher:
    """Matches linear nodes whose input has channels at a single position, such as a 1 x 1 convolution behind a pooling.

    They are dense layers, whatever they are called.
    """
    return _OnePosition()


def unshared() -> Matcher:
    """Matches linear nodes whose kernel is used at one position alone, such as dense layers behind a Flatten.

    Their weights have a place of their own; those of a convolution, or of a dense layer along a sequence, are used at
    every position. It depends on the size of what they take: a convolution whose output is a single position matches.
    """
    return _Unshared()


def rectified() -> Matcher:
    """Matches linear nodes whose values go to nothing but ReLUs, so that no relevance comes back to negative units."""
    return _Rectified()


def last() -> Matcher:
    """Matches the linear nodes that make the output: no other linear node lies behind them."""
    return _Last()


def until(end: int | str) -> Matcher:
    """Matches the nodes of the first layers of `model.layers`, up to and including one by its name or its index.

    Args:
        end: a layer's name, or its index in `model.layers` (0 is the Input layer, which a Sequential model does not list).
            Inside a nested model a name tells layers apart ("nested/conv"), an index takes all of them.

    Raises:
        InvalidInputError: it is neither a name nor an index.
    """
    if not isinstance(end, str) and (not isinstance(end, int) or isinstance(end, bool) or end < 0):
        raise InvalidInputError(f"until() takes a layer's name or its index in model.layers, but got {end!r}.")
    return _Until(end)


MAKERS = (
    kind,
    anything,
    affine,
    kernel_bearing,
    monotone,
    gated,
    squashed,
    weighted,
    both_sides,
    layer,
    named,
    first,
    before_first,
    offset,
    one_position,
    unshared,
    rectified,
    last,
    until,
)


@dataclasses.dataclass(frozen=True)
class _Kind(Matcher):
    names: tuple

    def __call__(self, site):
        return site.kind in self.names


@dataclasses.dataclass(frozen=True)
class _Anything(Matcher):
    def __call__(self, site):
        return True


@dataclasses.dataclass(frozen=True)
class _Affine(Matcher):
    def __call__(self, site):
        return is_affine(site.form.node)


@dataclasses.dataclass(frozen=True)
class _KernelBearing(Matcher):
    def __call__(self, site):
        return isinstance(site.form, LinearForm)


@dataclasses.dataclass(frozen=True)
class _Monotone(Matcher):
    def __call__(self, site):
        return getattr(site.form, "monotone", False)


@dataclasses.dataclass(frozen=True)
class _Gated(Matcher):
    def __call__(self, site):
        return site.kind == "product" and getattr(site.form, "signal", None) is not None


@dataclasses.dataclass(frozen=True)
class _Squashed(Matcher):
    def __call__(self, site):
        return site.kind == "product" and getattr(site.form, "squashed", False)


@dataclasses.dataclass(frozen=True)
class _Weighted(Matcher):
    def __call__(self, site):
        return getattr(site.form, "values", None) is not None


@dataclasses.dataclass(frozen=True)
class _BothSides(Matcher):
    def __call__(self, site):
        if site.kind != "product" or any(getattr(site.form, name, False) for name in ("divides", "squashed")):
            return False
        node = site.form.node
        return all(spec.shape[1:] == node.output_specs[0].shape[1:] for spec in node.input_specs)


@dataclasses.dataclass(frozen=True)
class _LayerClass(Matcher):
    # Names rather than classes, so that a saved composite can be loaded without importing what it names.
    names: tuple

    def __call__(self, site):
        # What computes as a layer does is matched as one.
        like = getattr(site.operation, "like", object)
        return any(cls.__name__ in self.names for cls in (*type(site.operation).__mro__, *like.__mro__))


@dataclasses.dataclass(frozen=True)
class _Named(Matcher):
    patterns: tuple

    def __call__(self, site):
        # Unlike `fnmatch`, `fnmatchcase` tells capitals apart on every system.
        return any(fnmatch.fnmatchcase(site.name, pattern) for pattern in self.patterns)


@dataclasses.dataclass(frozen=True)
class _First(Matcher):
    def __call__(self, site):
        return site.first


@dataclasses.dataclass(frozen=True)
class _BeforeFirst(Matcher):
    def __call__(self, site):
        return site.before_first


@dataclasses.dataclass(frozen=True)
class _Offset(Matcher):
    def __call__(self, site):
        return site.offset


@dataclasses.dataclass(frozen=True)
class _OnePosition(Matcher):
    def __call__(self, site):
        shape, channels = site.form.node.input_specs[0].shape, getattr(site.form, "input_channel_axis", None)
        if site.kind != "linear" or len(shape) < 3 or channels is None:
            return False
        return all(size == 1 for axis, size in enumerate(shape) if axis not in (0, channels))


@dataclasses.dataclass(frozen=True)
class _Unshared(Matcher):
    def __call__(self, site):
        shape = site.form.node.output_specs[0].shape[1:]
        # An open size is more than one.
        return site.kind == "linear" and None not in shape and math.prod(shape) == math.prod(site.form.unit_shape)


@dataclasses.dataclass(frozen=True)
class _Rectified(Matcher):
    def __call__(self, site):
        return site.kind == "linear" and bool(site.users) and all(map(_closes, site.users))


@dataclasses.dataclass(frozen=True)
class _Last(Matcher):
    def __call__(self, site):
        return site.last


@dataclasses.dataclass(frozen=True)
class _Until(Matcher):
    end: int | str

    def __call__(self, site):
        end = self._place(site.places) if isinstance(self.end, str) else (self.end,)
        last = max(place[0] for place in site.places.values() if place)
        if end[0] > last:
            raise InvalidInputError(f"until({self.end}) is beyond the model's last layer, model.layers[{last}].")
        # Tuples are compared place by place: an index of the outer model includes all of a nested one.
        return site.place[: len(end)] <= end

    def _place(self, places):
        if self.end in places:
            return places[self.end]
        near = difflib.get_close_matches(self.end, places, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise InvalidInputError(f"until({self.end!r}) names no layer of the model.{hint}")


@dataclasses.dataclass(frozen=True)
class _Both(Matcher):
    one: object
    other: object

    def __call__(self, site):
        return self.one(site) and self.other(site)


@dataclasses.dataclass(frozen=True)
class _Either(Matcher):
    one: object
    other: object

    def __call__(self, site):
        return self.one(site) or self.other(site)


@dataclasses.dataclass(frozen=True)
class _Not(Matcher):
    matcher: object

    def __call__(self, site):
        return not self.matcher(site)


def _closes(node):
    return activation_name(node) in ("relu", "relu6")
