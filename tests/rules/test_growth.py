"""Rules whose relevance grows from layer to layer say so, since only then is it rescaled and kept out of infinity."""

import keras
import numpy as np
import pytest
from keras import layers

from innvest_lite import LRP
from innvest_lite.rules import AlphaBeta, Box, Epsilon, Flat, Gamma, Pattern, WSquare, Zero, ZPlus, kind


def test_which_rules_grow():
    """Those that hand on contributions of both signs by more than arrives; worked out from their formulas."""
    grow = [Zero(bias=False), Epsilon(0.1, bias=False), Gamma(), AlphaBeta(2.0, 1.0), AlphaBeta(1.1, 0.1), Pattern()]
    stay = [Zero(), Epsilon(0.1), AlphaBeta(1.0, 0.0), ZPlus(), WSquare(), Flat(), Box()]
    assert [str(rule) for rule in grow if not rule.grows] == []
    assert [str(rule) for rule in stay if rule.grows] == []


@pytest.mark.parametrize("rule", [Zero(bias=False), Epsilon(1e-9, bias=False)], ids=str)
def test_relevance_beyond_float32(rule):
    """Contributions s and 1 - s to a sum of 1, the other way round in the second unit: (r, -r) becomes (2 s - 1)(r, -r)."""
    size, depth = 2.0**20, 8
    model = keras.Sequential([keras.Input((2,)), *(layers.Dense(2, use_bias=False) for _ in range(depth))])
    model.set_weights([np.float32([[size, 1 - size], [1 - size, size]])] * depth)
    analyzer = LRP(model, [(kind("linear"), rule)])
    values, exponent = analyzer.analyze(np.ones((1, 2)), target=np.float32([[1, -1]]), return_exponent=True)
    found = np.log2(np.abs(values.astype("float64"))) + exponent[:, None]
    np.testing.assert_allclose(found, np.full((1, 2), depth * np.log2(2 * size - 1)), rtol=1e-6)
    assert np.sign(values).tolist() == [[1, -1]]
