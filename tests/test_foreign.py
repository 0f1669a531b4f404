"""Words of other toolkits are refused with ours beside them; every word of ours that is named is one."""

import keras
import numpy as np
import pytest

import innvest_lite
from innvest_lite import foreign
from innvest_lite.analyzers.binding import options_of
from innvest_lite.errors import InvalidInputError, UnknownOptionError

MODEL = keras.Sequential([keras.Input((6, 6, 1)), keras.layers.Conv2D(2, 3, name="conv"), keras.layers.Flatten()])
CASES = {
    "IntegratedGradients": {"baseline": "'reference_inputs'", "n_steps": "'steps'"},
    "SmoothGrad": {"n_samples": "'augment_by_n'", "stdev": "'noise_scale'"},
    "GradCAM": {"layer_name": "'layer'"},
    "LRP": {"alpha": "composite_options={'alpha': ...}", "composit": "Did you mean 'composite'"},
    "Occlusion": {"window_size": "'window'"},
}


@pytest.mark.parametrize(("name", "word"), [(name, word) for name, words in CASES.items() for word in words])
def test_words_of_other_toolkits(name, word):
    with pytest.raises(UnknownOptionError, match=f"{name} has no option '{word}'") as raised:
        getattr(innvest_lite, name)(MODEL, **{word: 1})
    assert CASES[name][word] in str(raised.value)
    assert isinstance(raised.value, InvalidInputError) and isinstance(raised.value, TypeError)


def test_analyze_and_pictures_too():
    analyzer, x = innvest_lite.Gradient(MODEL), np.ones((1, 6, 6, 1), "float32")
    with pytest.raises(UnknownOptionError, match="analyze has no option 'class_index'. Here it is called 'target'"):
        analyzer.analyze(x, class_index=1)
    heat = np.ones((6, 6))
    for function in (innvest_lite.visualize.heatmap, innvest_lite.visualize.overlay):
        given = (heat,) if function is innvest_lite.visualize.heatmap else (heat, heat)
        with pytest.raises(UnknownOptionError, match="Here it is called 'colormap'"):
            function(*given, cmap="seismic")
    with pytest.raises(UnknownOptionError, match="overlay has no option 'alpha'. Here it is called 'opacity'"):
        innvest_lite.visualize.overlay(heat, heat, alpha=0.5)


def test_every_word_that_is_named_is_an_option():
    """Of some method, of `analyze`, or of a maker of pictures: none that was renamed since."""
    known = {option for method in innvest_lite.ANALYZERS.values() for option in options_of(method.analyzer)}
    known |= {"batch_size", "target", "colormap", "limit", "opacity", "patch"}
    # Of methods that are being built.
    assert {ours for words in foreign._WORDS.values() for ours in words} <= known | {"references", "background", "samples"}


def test_a_class_of_ones_own_takes_what_its_init_takes():
    class Own(innvest_lite.Gradient):
        def __init__(self, model, strength=1.0):
            super().__init__(model)
            self.strength = strength

    assert Own(MODEL, strength=2.0).strength == 2.0
    with pytest.raises(UnknownOptionError, match="It takes strength"):
        Own(MODEL, postprocess="abs")

    class Free(innvest_lite.Gradient):
        def __init__(self, model, **options):
            self.extra = options.pop("extra", None)
            super().__init__(model, **options)

    assert Free(MODEL, extra=3).extra == 3, "what a signature does not name may be taken all the same"
    with pytest.raises(UnknownOptionError, match="no option 'baseline'"):
        Free(MODEL, baseline=0)
