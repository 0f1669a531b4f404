"""Which rule each node gets: an ordered list of (matcher, rule), the first match wins, no match is an error.

`bind` turns a graph and such a list into a `Plan`, which prints as a table and is what the sweep runs.
"""

import collections
import dataclasses

from innvest_lite.errors import UnsupportedLayerError
from innvest_lite.forms import Form, LinearForm, forms_of
from innvest_lite.graph import Graph
from innvest_lite.graph.graph import table
from innvest_lite.rules.base import Rule


def kind(*names):
    """Matches forms of one of these kinds."""
    return lambda form: form.kind in names


def anything():
    """Matches every form."""
    return lambda form: True


def kernel_bearing():
    """Matches the linear forms, with a kernel of their own or a virtual one."""
    return lambda form: isinstance(form, LinearForm)


def gated():
    """Matches products in which one input is known to carry the signal."""
    return lambda form: form.kind == "product" and form.signal is not None


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    """One node of a plan with what it is and what happens there."""

    form: Form
    rule: Rule

    @property
    def node(self):
        """The graph node."""
        return self.form.node


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """A graph with a rule bound to every node; prints one row a node.

    Attributes:
        graph: the rewritten graph.
        steps: a `Step` per node, in evaluation order.
    """

    graph: Graph
    steps: tuple

    @property
    def kernel_forms(self):
        """The linear forms that back-project with a kernel of the analyzer's, in order."""
        return tuple(step.form for step in self.steps if step.rule.needs_kernel)

    def __str__(self):
        rows = [(step.node.name, step.node.kind, step.form.kind, step.rule) for step in self.steps]
        return table(("node", "layer", "form", "rule"), rows)


def bind(graph, composite, method):
    """Gives every node of a graph its rule.

    Args:
        graph: a `Graph`.
        composite: a sequence of `(matcher, rule)`; a matcher takes a form and says yes or no.
        method: the name of the method, for the message.

    Raises:
        UnsupportedLayerError: some nodes match nothing; the message lists them all.
    """
    forms = forms_of(graph)
    rules = {name: _first_match(form, composite) for name, form in forms.items()}
    missing = [forms[name] for name, rule in rules.items() if rule is None]
    if missing:
        raise UnsupportedLayerError(_coverage(missing, method))
    return Plan(graph, tuple(Step(forms[node.name], rules[node.name]) for node in graph.nodes))


def _first_match(form, composite):
    return next((rule for matches, rule in composite if matches(form)), None)


def _coverage(forms, method):
    groups = collections.defaultdict(list)
    for form in forms:
        groups[form.node.kind].append(form.name)
    lines = [f"  {layer}: {', '.join(names)}" for layer, names in groups.items()]
    if any(None in spec.shape[1:] for form in forms for spec in form.node.input_specs):
        lines.append("Some of these take inputs of no fixed size, where a model of a fixed input size may be understood.")
    return (
        f"{method} has no rule for {len(forms)} of the model's nodes:\n" + "\n".join(lines) + "\n"
        "Register a form for the layer (innvest_lite.register_form), or accept the plain gradient there with "
        "fallback='gradient'."
    )
