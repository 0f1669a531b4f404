"""Which rule each node gets: an ordered list of (matcher, rule), the first match wins, no match is an error.

`bind` turns a graph and such a list into a `Plan`, which prints as a table and is what the sweep runs.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

from innvest_lite.errors import InvalidInputError, UnsupportedLayerError, UnsupportedNode
from innvest_lite.forms import Form, LinearForm, forms_of
from innvest_lite.forms.signs import nonnegative_values
from innvest_lite.graph import Graph, Node
from innvest_lite.rules.base import ByStep, Evaluated, Rule
from innvest_lite.rules.matchers import MAKERS
from innvest_lite.rules.sites import Site, sites_of
from innvest_lite.tables import Brief, Tabled


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Step(Brief):
    """One node of a plan: its form and its rule.

    Attributes:
        form: what the node is.
        rule: how it propagates relevance.
        nonnegative: whether no input can be negative, whatever the model's input.
        inner: of a recurrent layer that has no rule of its own, the plan of one step; else None.
    """

    form: Form
    rule: Rule
    nonnegative: bool = False
    inner: Plan | None = None

    @property
    def node(self) -> Node:
        """The graph node."""
        return self.form.node


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Plan(Tabled):
    """A graph with a rule bound to every node; prints one row a node.

    Attributes:
        graph: the rewritten graph.
        steps: a `Step` per node, in evaluation order.
    """

    graph: Graph
    steps: tuple[Step, ...]

    @functools.cached_property
    def every_step(self) -> tuple[Step, ...]:
        """All steps, behind each recurrent layer those of what it does in one step."""
        return tuple(one for step in self.steps for one in (step, *(step.inner.every_step if step.inner else ())))

    @functools.cached_property
    def forms(self) -> dict[str, Form]:
        """Node name -> form."""
        return {step.node.name: step.form for step in self.steps}

    @property
    def kernel_forms(self) -> tuple[LinearForm, ...]:
        """The linear forms that back-project with a kernel of the analyzer's, in order."""
        return tuple(cast(LinearForm, step.form) for step in self.every_step if step.rule.needs_kernel)

    def ends(self) -> tuple[list[Step], list[Step]]:
        """The linear nodes that the output comes from on a way through no other one, and what lies behind them."""
        steps, seen = {step.node.name: step for step in self.steps}, set()
        last: list[Step] = []
        between: list[Step] = []
        waiting = [self.graph.outputs[0]]
        while waiting:
            step = steps.get(waiting.pop().node)
            if step is None or step.node.name in seen:
                continue
            seen.add(step.node.name)
            (last if step.form.kind == "linear" else between).append(step)
            waiting.extend(() if step.form.kind == "linear" else step.node.inputs)
        return last, between

    def before(self, node: Node) -> Graph | None:
        """What stands between the model's inputs and a node; None where it does more than scale and move values."""
        needed: list[Node] = []
        wanted = set(node.inputs)
        for earlier in reversed(self.graph.nodes):
            if wanted.intersection(earlier.values):
                needed.insert(0, earlier)
                wanted.update(earlier.inputs)
        if any(self.forms[earlier.name].kind not in ("scale", "route") for earlier in needed):
            return None
        return self.graph.replace(nodes=tuple(needed), outputs=node.inputs)

    def __repr__(self) -> str:
        rules = collections.Counter(type(step.rule).__name__ for step in self.every_step)
        told = ", ".join(f"{name} {count}" for name, count in rules.most_common(6))
        return f"<Plan of {len(self.every_step)} nodes: {told}>"

    def _parts(self) -> Iterator[tuple]:
        rows = [(step.node.name, step.node.kind, step.form.kind, step.rule) for step in self.every_step]
        yield ("node", "layer", "form", "rule"), rows


def bind(graph: Graph, composite: Sequence[tuple[Callable[[Site], bool], Rule]], method: str) -> Plan:
    """Gives every node of a graph its rule.

    Args:
        graph: a `Graph`.
        composite: a sequence of `(matcher, rule)`; a matcher takes a `Site` and says yes or no. A node gets the first rule
            that matches and is for its kind.
        method: the name of the method, for the message.

    Returns:
        Node name -> `Rule`, a dict.

    Raises:
        UnsupportedLayerError: some nodes match nothing; the message lists them all.
        InvalidInputError: the composite is not a sequence of such pairs, or a rule is for none of the nodes it matches.
    """
    composite = checked_pairs(composite)
    forms = forms_of(graph)
    sites = sites_of(graph, forms)
    # Before coverage is judged: a pair that can serve none of its nodes is a mistake even if later pairs serve them.
    _refuse_misplaced(composite, sites, method)
    plan, missing = _bound(graph, forms, sites, composite)
    if missing:
        raise _no_rule_for(missing, method)
    return plan


def _bound(graph, forms, sites, composite):
    """`(plan, forms of the nodes that no pair serves)`."""
    inner = {}
    chosen = {site.name: _first_match(site, composite) for site in sites}
    for site in sites:
        if chosen[site.name] is None and site.kind == "recurrent":
            inner[site.name] = _bound_steps(site, composite)
            chosen[site.name] = ByStep()
    chosen = _reached(chosen, graph, forms)
    missing = [forms[name] for name, rule in chosen.items() if rule is None]
    for name, (_, without) in inner.items():
        missing += without if isinstance(chosen[name], ByStep) else []
    # Rules that treat positive and negative inputs apart need one pass instead of two where no input can be negative.
    known = nonnegative_values(graph, forms)
    steps = tuple(
        Step(
            forms[node.name],
            chosen[node.name],
            known.issuperset(node.inputs),
            inner[node.name][0] if isinstance(chosen[node.name], ByStep) else None,
        )
        for node in graph.nodes
    )
    return Plan(graph, steps), missing


def _bound_steps(site, composite):
    """As `_bound`, of one step of a recurrent layer."""
    steps = site.form.node.steps
    forms = forms_of(steps)
    # What a state holds has gone through the layer's weights; what comes, where the layer is not the first.
    behind = steps.inputs[1:] if site.before_first else steps.inputs
    return _bound(steps, forms, sites_of(steps, forms, behind, steps.outputs), composite)


def checked_pairs(composite: Any) -> list[tuple[Callable[[Site], bool], Rule]]:
    """A composite as a list of pairs.

    Raises:
        InvalidInputError: it is not a sequence of pairs of a matcher and a rule.
    """
    pairs = list(composite) if isinstance(composite, list | tuple) else None
    if pairs is None or not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs):
        raise InvalidInputError(f"A composite is a list of pairs (matcher, rule), but this is {composite!r}.")
    for matcher, rule in pairs:
        # Without its parentheses `first` is callable, too, and would only fail later, with a site as its argument.
        if matcher in MAKERS:
            raise InvalidInputError(f"{matcher.__name__} makes a matcher when it is called: write {matcher.__name__}(...).")
        if not callable(matcher) or not isinstance(rule, Rule):
            hint = f" Write {rule.__name__}()." if isinstance(rule, type) else ""
            hint += f" Write named({matcher!r})." if isinstance(matcher, str) else ""
            raise InvalidInputError(f"({matcher!r}, {rule!r}) is not a pair of a matcher and a rule.{hint}")
    return pairs


def _refuse_misplaced(composite, sites, method):
    """Refuses pairs whose rule is for none of the nodes matched; some may be of another kind, such as an activation."""
    for matches, rule in composite:
        matched = [site for site in sites if matches(site)]
        if matched and not any(rule.is_for(site.form) for site in matched):
            places = ", ".join(f"{site.name} ({site.kind})" for site in matched)
            raise InvalidInputError(
                f"The composite of {method} has the rule {rule}, which is for nodes of the kinds {rule.kinds}, but matches "
                f"only others: {places}."
            )


def _reached(chosen, graph, forms):
    """The rules, none for nodes to which no relevance comes: what is before the weights of attention, and before gates."""
    reached, found = set(graph.outputs), dict(chosen)
    for node in reversed(graph.nodes):
        rule = chosen[node.name]
        if not reached.intersection(node.values):
            found[node.name] = Evaluated()
        elif rule is not None:
            reached.update(node.inputs[place] for place in rule.hands_to(forms[node.name]))
        else:
            reached.update(node.inputs)
    return found


def _first_match(site, composite):
    # A rule that is not for the node is passed over, so that `layer("Dense")` need not exclude the layer's activation.
    return next((rule for matches, rule in composite if matches(site) and rule.is_for(site.form)), None)


def _no_rule_for(forms, method):
    """The error for nodes that no pair of the composite serves."""
    open_size = any(None in spec.shape[1:] for form in forms for spec in form.node.input_specs)
    hint = (
        "Some of these take inputs whose size is not fixed; with a fixed input size, input_shape=, they may be supported.\n"
    )
    advice = (
        "Add a pair for them to the composite, or, where the package does not know the layer, register a form for it "
        "(innvest_lite.register_form). Or, where a node is linear in what it takes, let its gradient stand in with "
        "fallback='gradient'; or choose a method that works with any layer: gradient, integrated_gradients, smoothgrad, "
        "occlusion."
    )
    return UnsupportedLayerError(
        f"{method} has no rule for {len(forms)} of the model's nodes:",
        [UnsupportedNode(form.name, form.node.kind, _reason(form)) for form in forms],
        _of_closed(forms) + (hint + advice if open_size else advice),
    )


def _reason(form):
    return form.node.closed or f"no rule is for a node of kind {form.kind!r}"


def _of_closed(forms):
    """Why tracing did not look into layers that are made of others: a line for each reason."""
    reasons: dict[str, list[str]] = {}
    for form in forms:
        if form.node.closed:
            reasons.setdefault(form.node.closed, []).append(form.name)
    lines = [f"Tracing could not look into {', '.join(names)}: {reason}.\n" for reason, names in reasons.items()]
    return "".join(lines) + (
        "A call that is written with keras.ops and Keras layers can be looked into.\n" if lines else ""
    )
