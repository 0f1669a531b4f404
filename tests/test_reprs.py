"""What values say of themselves: a line as `repr`, all of it where they are printed, and valid HTML in a notebook."""

import dataclasses
import html.parser
import logging
import re

import keras
import numpy as np
import pytest
from keras import layers
from pages import PAGES

import innvest_lite
from innvest_lite import answers, data, datasets, metrics, tables, texts
from innvest_lite.analyzers.registry import OF_ATTENTION

MOST = 400
STRANGE = "<script>alert('x')</script>&\x1b[2J"


@pytest.fixture(scope="module")
def values():
    """Name -> value: analyzers by all names, and everything that the package computes and hands out."""
    model, images = data.load_model(), data.load_digits()[0]
    patterns = innvest_lite.fit_patterns(model, images[:64], verbose=0)
    logging.getLogger("innvest_lite").setLevel(logging.ERROR)
    found = {}
    for name in innvest_lite.ANALYZERS:
        if name not in OF_ATTENTION:
            given = {"patterns": patterns} if name.startswith("pattern") else {}
            found[name] = innvest_lite.create_analyzer(name, model, **given)
    logging.getLogger("innvest_lite").setLevel(logging.NOTSET)
    gradient, net = found["input_t_gradient"], innvest_lite.PatternNet(model)
    known = datasets.tetrominoes(samples=8)
    parts = images[:40], images[40:80], images[80:110]
    found |= {
        "not fitted": net,
        "patterns": patterns,
        "patterns.report": patterns.report(),
        "layer report": next(iter(patterns.report().values())),
        "statistics": innvest_lite.fit_statistics(model, images[:32], verbose=0),
        "plan": gradient.plan(),
        "graph": gradient.plan().graph,
        "explainer": gradient.explainer,
        "strategies": found["rise"].explainer.strategy,
        "sweep": found["pattern.attribution"].explainer.strategy,
        "inputs": gradient.explainer.inputs,
        "check": found["lrp.epsilon"].check(images[:3]),
        "check of totals": found["integrated_gradients"].check(images[:1]),
        "check of nothing": found["lrp.epsilon"].check(images[:0]),
        "degradation": (curve := metrics.degradation(model, gradient, images[:4], patch=7, steps=4)),
        "degradation_table": metrics.degradation_table({"one": curve, "other": curve}, "one"),
        "single_deletion": (deletion := metrics.single_deletion(model, gradient, images[:4])),
        "single_deletion_table": metrics.single_deletion_table({"one": deletion, "other": deletion}, "one"),
        "signal_quality": (quality := metrics.signal_quality(model, *parts, verbose=0)),
        "layer quality": next(iter(quality.layers.values())),
        "completeness": metrics.completeness(gradient, images[:3]),
        "random_logit": metrics.random_logit(gradient, images[:3]),
        "max_sensitivity": metrics.max_sensitivity(gradient, images[:2], samples=2),
        "ground_truth": (truth := metrics.ground_truth(known.x, known.masks)),
        "ground_truth_table": (compared := metrics.ground_truth_table({"one": truth, "other": truth}, "one")),
        "ground_truth_seeds": metrics.ground_truth_seeds([compared, compared]),
        "tetrominoes": known,
        "suppressor": datasets.suppressor(16),
        "suppressor_blobs": datasets.suppressor_blobs(4),
        "coloured_squares": datasets.coloured_squares(4),
        "scores": answers.scores(gradient, images[:40]),
        "answer": answers.answers(gradient, images[:1])[0],
        "text": texts.TextExplanation(("a",) * 200, np.zeros(200)),
    }
    for name, (_, node) in enumerate(zip(range(4), gradient.plan().graph.nodes, strict=False)):
        found |= {f"node {name}": node, f"form {name}": gradient.plan().forms[node.name]}
    found["step"] = gradient.plan().steps[0]
    return found


class Strict(html.parser.HTMLParser):
    """Tags in order, all closed, none that loads or runs anything."""

    def __init__(self):
        super().__init__()
        self.open, self.text = [], []

    def handle_starttag(self, tag, attributes):
        assert tag in {"div", "table", "thead", "tbody", "tr", "th", "td", "p", "span"}, tag
        assert {name for name, _ in attributes} <= {"style", "title", "colspan"}, attributes
        assert "url(" not in str(attributes)
        parents = {"tr": ("thead", "tbody"), "td": ("tr",), "th": ("tr",), "thead": ("table",), "tbody": ("table",)}
        assert tag not in parents or self.open[-1] in parents[tag], (self.open, tag)
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        self.text.append(text)
        assert text.isprintable(), text


def checked(page):
    """The text of a piece of HTML that is well formed."""
    reader = Strict()
    reader.feed(page)
    reader.close()
    assert not reader.open, reader.open
    return " ".join(reader.text)


TABLED = (
    *("plan", "graph", "check", "check of totals", "check of nothing", "patterns", "patterns.report", "degradation"),
    *("degradation_table", "single_deletion", "single_deletion_table", "signal_quality", "completeness", "random_logit"),
    *("max_sensitivity", "ground_truth", "ground_truth_table", "ground_truth_seeds"),
)


def test_every_repr_is_a_line(values):
    long = {name: repr(value) for name, value in values.items() if len(repr(value)) >= MOST or "\n" in repr(value)}
    assert not long
    assert not [name for name, value in values.items() if "object at 0x" in repr(value)]


@pytest.mark.parametrize("name", TABLED)
def test_tables_in_notebooks_say_what_is_printed(values, name):
    shown, value = checked(values[name]._repr_html_()), values[name]
    printed = str(value.report() if name == "patterns" else value)
    words = [word for word in printed.split() if set(word) != {"-"}]
    assert words and not [word for word in words if word not in shown.replace("&#x27;", "'").split()]


def test_what_is_printed_is_as_long_as_it_was(values):
    """All nodes stand in the table of a plan, and in its repr none."""
    plan = values["plan"]
    assert all(step.node.name in str(plan) for step in plan.steps) and str(plan).count("\n") == len(plan.steps) + 1
    assert repr(plan).startswith(f"<Plan of {len(plan.steps)} nodes: ")
    assert "at the input" in str(values["check"]) and str(values["check of nothing"]) == "no samples, nothing to check"
    assert "\n\n" in str(values["ground_truth_table"]), "tables stand apart"


def test_analyzers_say_what_they_are(values):
    for name, value in values.items():
        if isinstance(value, innvest_lite.Analyzer):
            shown = checked(value._repr_html_())
            assert type(value).__name__ in shown and "digits" in shown and "(None, 10)" in shown, name
            assert repr(value).startswith(f"<{type(value).__name__} of 'digits'")
    assert "none yet, call fit(data)" in repr(values["not fitted"]) and "none yet" in values["not fitted"]._repr_html_()
    assert "6 layers" in repr(values["pattern.net"]) and "Pattern (6)" in values["pattern.net"]._repr_html_()
    assert "ZPlus (4)" in values["lrp.epsilon_plus"]._repr_html_() and "probability" in values["rise"]._repr_html_()


def units_of_the_page():
    """Name of a class -> its unit, from the table of docs/methods.md."""
    rows = re.findall(r"^\| `[^|]*\| ([^|]*) \|[^|]*\| ([^|]*) \|", PAGES["docs/methods.md"], re.MULTILINE)
    return {name: unit.strip() for names, unit in rows for name in re.findall(r"`(\w+)`", names)}


def test_units_are_those_of_the_table_of_methods(values):
    """In the words of the page."""
    words = {"none": "", "logits per input": "logits per unit of input"}
    gradient = "logits per unit of input"
    pages = {**units_of_the_page(), "SmoothGrad": gradient, "Input": "input", "Random": ""}
    pages |= dict.fromkeys(("SquareGrad", "VarGrad"), f"squares of {gradient}")
    assert len(pages) >= 20
    analyzers = [value for value in values.values() if isinstance(value, innvest_lite.Analyzer)]
    said = {type(one).__name__: one.unit for one in analyzers}
    assert said == {name: words.get(pages[name], pages[name]) for name in said}


def test_an_analyzer_that_could_not_be_made_has_a_repr():
    half = innvest_lite.Gradient.__new__(innvest_lite.Gradient)
    assert repr(half) == "<Gradient>" and checked(half._repr_html_())


def test_keras_models_are_as_they_were(values):
    """Of the user's model nothing is changed, and analyzers are still models of Keras's."""
    model = values["gradient"].model
    assert repr(model) == f"<{type(model).__name__} name=digits, built=True>" and not hasattr(keras.Model, "_repr_html_")
    assert "_repr_html_" not in vars(type(model)) and values["gradient"].name == "gradient"
    values["gradient"].summary(print_fn=lambda *_, **__: None)


def test_names_of_strangers_are_text():
    page = tables.html_table(("a", STRANGE), [(STRANGE, 1)])
    assert "<script" not in page and "\x1b" not in page and checked(page).count("<script>") == 2
    x = keras.Input((4,), name="<b>x<b>")
    model = keras.Model(x, layers.Dense(2, name="<i>dense<i>")(x), name="<u>model")
    analyzer = innvest_lite.Gradient(model)
    for value in (analyzer, analyzer.plan(), analyzer.plan().graph, analyzer.check(np.ones((1, 4)))):
        assert "<i>dense<i>" in checked(value._repr_html_()) or value is analyzer
        assert len(repr(value)) < MOST


def test_long_names_do_not_make_long_lines():
    x = keras.Input((4,), name="x" * 200)
    model = keras.Model(x, layers.Dense(2, name="y" * 300)(x), name="z" * 500)
    analyzer = innvest_lite.PatternNet(model)
    for value in (analyzer, analyzer.plan(), analyzer.explainer, *analyzer.plan().steps, analyzer.explainer.inputs):
        assert len(repr(value)) < MOST, repr(value)


def test_many_rows_are_counted():
    page = tables.html_table(("number",), ([number] for number in range(1234)), most=1000)
    assert "234 more: print it to see them" in checked(page) and page.count("<tr>") == 1002
    assert checked(tables.html_table(("a", "b"), [])).split() == ["a", "b"]
    assert "thead" not in tables.html_table(("", ""), [("a", "b")])


def test_numbers_stand_at_the_right():
    page = tables.html_table(("name", "value"), [("a", "1.5"), ("1", "nan")])
    assert page.count("text-align:right") == 3 and page.count("text-align:left") == 3


def test_lines_break_where_they_did():
    @dataclasses.dataclass(frozen=True, repr=False)
    class Two(tables.Tabled):
        x: np.ndarray
        deep: dict

        def _parts(self):
            yield from ("above", (("a", "b"), [(1, 2)]), "", "below\nit")

    value = Two(np.zeros((3, 4), "float32"), {"a": 1, "b": [1] * 99})
    assert str(value) == "above\na  b\n-  -\n1  2\n\nbelow\nit"
    assert repr(value) == "Two(x=float32 (3, 4), deep=dict of 2: a, b)"


def test_the_checker_sees_what_is_wrong():
    for page in ("<p>", "<p></div>", "<table><tr></tr></table>", '<img src="x">', "<p onclick='x'></p>", "<p>\x1b</p>"):
        with pytest.raises((AssertionError, IndexError)):
            checked(page)
