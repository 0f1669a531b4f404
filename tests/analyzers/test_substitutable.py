"""Analyzers can be put in each other's place: one way to call them, and misspelt keywords are errors everywhere."""

import inspect

import keras
import models
import numpy as np
import pytest

import innvest_lite
from innvest_lite import ANALYZERS, Analyzer, InvalidInputError, create_analyzer
from innvest_lite.rules import Deconvnet, Gradient, anything, kind

CLASSES = sorted({method.analyzer for method in ANALYZERS.values()}, key=lambda cls: cls.__name__)
METHODS = (
    "analyze",
    "as_explain_func",
    "call",
    "check",
    "export",
    "fit",
    "for_model",
    "plan",
    "predict",
    "save",
    "stablehlo",
)
POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def shape_of(parameters):
    """Names and defaults, in order where the order counts."""
    positional = [(p.name, p.default) for p in parameters if p.kind in POSITIONAL]
    return positional, {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}


def departures(cls):
    """What keeps a class from standing for the base."""
    for name in METHODS:
        base, own = (inspect.signature(getattr(one, name)).parameters.values() for one in (Analyzer, cls))
        (wanted, keywords), (given, more) = shape_of(base), shape_of(own)
        if given[: len(wanted)] != wanted or any(more.get(key, wanted) != value for key, value in keywords.items()):
            yield f"{cls.__name__}.{name}{inspect.signature(getattr(cls, name))}"
        if any(p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL) for p in own):
            yield f"{cls.__name__}.{name} swallows what it does not know"


def test_the_signatures_of_the_base_begin_those_of_all_others():
    assert [row for cls in CLASSES for row in departures(cls)] == []


def test_a_signature_that_departs_would_be_found():
    class Turned(innvest_lite.Gradient):
        def analyze(self, x, batch_size=32, target=None, **options):
            return None

    assert len(list(departures(Turned))) == 2


@pytest.mark.parametrize("name", ["gradient", "pattern.attribution", "integrated_gradients"])
def test_arguments_mean_the_same_in_the_same_places(name):
    case = models.case("dense")
    analyzer = create_analyzer(name, case.model).fit(models.normal(40, 6), 8, None, None, 0)
    expected = analyzer.analyze(case.x, target=1)
    np.testing.assert_allclose(analyzer.analyze(case.x, 1, 4, 0, (), False), expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(analyzer.call(case.x, 1), expected, rtol=1e-4, atol=1e-6)


def test_misspelt_keywords_are_errors_everywhere():
    case, taken = models.case("dense"), []
    for cls in CLASSES:
        if issubclass(cls, innvest_lite.GradCAM | innvest_lite.AttentionRollout):
            # They want feature maps, or attention.
            continue
        analyzer = cls(case.model)
        calls = {
            "fit": lambda a=analyzer: a.fit(case.x, estimater="relu", verbose=0),
            "analyze": lambda a=analyzer: a.analyze(case.x, tarjet=1),
            "check": lambda a=analyzer: a.check(case.x, tarjet=1),
            "export": lambda a=analyzer: a.export("nowhere", rendr="heatmap"),
            "save": lambda a=analyzer: a.save("nowhere.keras", overwite=True),
            "the class": lambda cls=cls: cls(case.model, outptu="out"),
        }
        for what, call in calls.items():
            try:
                call()
                taken.append(f"{cls.__name__}: {what}")
            except (TypeError, InvalidInputError):
                pass
    assert taken == []


def test_misspelt_options_of_a_name_are_told_with_the_nearest():
    model = models.case("dense").model
    for name in ANALYZERS:
        with pytest.raises(
            InvalidInputError, match="has no option 'neuron_selection_mod'. Did you mean 'neuron_selection_mode'"
        ):
            create_analyzer(name, model, neuron_selection_mod="all")


def test_the_estimator_of_a_fit_counts_from_then_on():
    model, data = models.case("dense").model, models.normal(60, 6)
    analyzer = innvest_lite.PatternNet(model).fit(data, estimator="linear", verbose=0)
    assert analyzer.patterns.estimator == analyzer.get_config()["estimator"] == "linear"
    expected = innvest_lite.fit_patterns(model, data, "linear", verbose=0)
    for name, pattern in analyzer.patterns.items():
        np.testing.assert_allclose(pattern, expected[name], rtol=1e-5, atol=1e-6)


# Bound when it is made, whatever the order ------------------------------------------------------------------------------


class Late(innvest_lite.ReverseAnalyzer):
    """A user's analyzer that sets its option behind `super().__init__()`."""

    def __init__(self, model, rectified=True, **options):
        super().__init__(model, **options)
        self.rectified = rectified

    def composite(self):
        rule = Deconvnet() if self.rectified else Gradient()
        return [(kind("rectifier"), rule), (anything(), Gradient())]


class LatePatterns(innvest_lite.PatternNet):
    """The same with patterns, which are taken when the plan is known."""

    def __init__(self, model, gain=1.0, **options):
        super().__init__(model, **options)
        self.gain = gain

    def start(self, weights, logits):
        return self.gain * super().start(weights, logits)


def test_options_may_be_set_behind_the_constructor_of_the_base(eager, eager_fits):
    case = models.case("dense")
    for rectified, method in ((True, innvest_lite.Deconvnet), (False, innvest_lite.Gradient)):
        np.testing.assert_array_equal(Late(case.model, rectified).analyze(case.x), method(case.model).analyze(case.x))
    patterns = innvest_lite.fit_patterns(case.model, models.normal(60, 6), verbose=0)
    plain = innvest_lite.PatternNet(case.model, patterns=patterns).analyze(case.x)
    np.testing.assert_allclose(LatePatterns(case.model, 2.0, patterns=patterns).analyze(case.x), 2 * plain, rtol=1e-5)


def test_what_cannot_be_explained_is_refused_when_it_is_made():
    x = keras.Input((5, 4))
    model = keras.Model(x, keras.layers.Dense(2)(models.Closed(name="closed")(x)))
    with pytest.raises(innvest_lite.UnsupportedLayerError, match="closed") as error:
        innvest_lite.PatternNet(model)
    assert [node.name for node in error.value.nodes] == ["closed"]


# The engine ------------------------------------------------------------------------------------------------------------


def test_the_engine_is_frozen_and_gives_what_the_analyzer_gives():
    case = models.case("conv_bn")
    analyzer = innvest_lite.Gradient(case.model)
    explainer = analyzer.explainer
    assert explainer is analyzer.explainer and explainer.plan is analyzer.plan()
    with pytest.raises(AttributeError):
        explainer.plan = None
    arrays, weights = explainer.checked(case.x, 1)
    relevance, kept, exponents, explained = explainer.run(arrays, weights)
    np.testing.assert_array_equal(relevance[0], analyzer.analyze(case.x, 1))
    assert kept == [] and not exponents.any()
    np.testing.assert_allclose(explained, case.logits.predict(case.x, verbose=0)[:, 1], rtol=1e-4, atol=1e-5)
    # Keras's own logits and predictions.
    np.testing.assert_allclose(explainer.logits_of(arrays), case.logits.predict(case.x, verbose=0), rtol=1e-4, atol=1e-5)
    predictions = explainer.predictions(explainer.logits(arrays))
    np.testing.assert_allclose(predictions, case.model.predict(case.x, verbose=0), rtol=1e-4, atol=1e-6)


def test_an_analyzer_of_ones_own_has_a_name(monkeypatch, tmp_path):
    monkeypatch.setattr("innvest_lite.analyzers.registry.ANALYZERS", dict(ANALYZERS))

    @innvest_lite.register_analyzer("mine", package="tests")
    class Mine(innvest_lite.Gradient):
        """The gradient by another name."""

    case = models.case("dense")
    analyzer = create_analyzer("mine", case.model)
    np.testing.assert_array_equal(analyzer.analyze(case.x), innvest_lite.Gradient(case.model).analyze(case.x))
    analyzer.save(tmp_path / "mine.keras")
    assert type(keras.saving.load_model(tmp_path / "mine.keras")) is Mine
    for taken in ("gradient", "mine"):
        with pytest.raises(InvalidInputError, match="already"):
            innvest_lite.register_analyzer(taken)(innvest_lite.Deconvnet)


def test_what_is_no_analyzer_and_what_takes_no_options(monkeypatch):
    monkeypatch.setattr("innvest_lite.analyzers.registry.ANALYZERS", dict(ANALYZERS))
    for name in ("gradient", "new"):
        for thing in (3, dict, abs):
            with pytest.raises(InvalidInputError, match="class derived from innvest_lite.Analyzer"):
                innvest_lite.register_analyzer(name)(thing)

    @innvest_lite.register_analyzer("plain", package="tests")
    class Plain(innvest_lite.SmoothGrad):
        """Hands no options on."""

        def __init__(self, model, *, strength=1.0):
            super().__init__(model, augment_by_n=2)

    assert create_analyzer("plain", models.case("dense").model, strength=2.0).augment_by_n == 2
    with pytest.raises(InvalidInputError, match="no option 'augment_by_n'.* It takes strength"):
        create_analyzer("plain", models.case("dense").model, augment_by_n=3)


def test_help_says_what_making_one_takes():
    """The class that completes analyzers must not hide their arguments."""
    named = list(inspect.signature(innvest_lite.PatternNet).parameters)
    assert named[0] == "model" and "patterns" in named and "self" not in named
    assert inspect.signature(innvest_lite.SmoothGrad).parameters["augment_by_n"].default == 64
