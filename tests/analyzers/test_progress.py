"""Progress bars count what takes the time: batches, or the many evaluations of a sample, while a compiled program runs."""

import logging

import keras
import models
import numpy as np
import pytest

import innvest_lite
from innvest_lite import backend


class Bar:
    """Stands for Keras's bar, and keeps what it is told."""

    made = ()

    def __init__(self, target, unit_name="step", **_):
        self.target, self.unit, self.added = target, unit_name, []
        Bar.made = (*Bar.made, self)

    def add(self, number):
        self.added.append(number)


@pytest.fixture
def bars(monkeypatch):
    Bar.made = ()
    monkeypatch.setattr(keras.utils, "Progbar", Bar)
    return lambda: Bar.made


@pytest.fixture(scope="module")
def model():
    return models.build("dense")


def analyzer(name, model, **options):
    return innvest_lite.create_analyzer(name, model, jit_compile=False, **options)


@pytest.mark.parametrize(
    ("name", "options", "evaluations", "unit"),
    [
        ("rise", {"masks": 50}, 50, "mask"),
        ("smoothgrad", {"augment_by_n": 20}, 20, "evaluation"),
        ("integrated_gradients", {"steps": 17}, 17, "evaluation"),
    ],
)
@pytest.mark.parametrize("samples, batch_size, calls", [(1, 8, 1), (3, 8, 1), (5, 2, 3)])
def test_evaluations_are_counted_while_they_run(model, bars, name, options, evaluations, unit, samples, batch_size, calls):
    x = models.data_for(model, samples)
    expected = analyzer(name, model, **options).analyze(x, batch_size=batch_size)
    watched = analyzer(name, model, **options)
    for _ in range(2):
        np.testing.assert_array_equal(watched.analyze(x, batch_size=batch_size, verbose=1), expected)
    for bar in bars():
        assert bar.target == sum(bar.added) == calls * evaluations and bar.unit == unit
        assert len(bar.added) > calls and min(bar.added) > 0, "not only when a call is over"
    assert len(bars()) == 2


def test_nobody_watches_where_nobody_asked(model, monkeypatch):
    """The program that is compiled without a bar calls nothing in Python."""
    ticks = []
    real = backend.loop
    monkeypatch.setattr(backend, "loop", lambda *given: ticks.append(given[3]) or real(*given))
    method = analyzer("rise", model, masks=20)
    method.analyze(models.data_for(model, 2))
    assert ticks == [None]
    method.analyze(models.data_for(model, 2), verbose=1)
    assert len(ticks) == 2 and callable(ticks[1])


def test_one_evaluation_of_each_sample_counts_batches(model, bars):
    analyzer("gradient", model).analyze(models.data_for(model, 5), batch_size=2, verbose=1)
    (bar,) = bars()
    assert (bar.target, bar.unit, bar.added) == (3, "step", [1, 1, 1])


@pytest.mark.slow
def test_under_xla_batches_are_counted(model, bars):
    method = innvest_lite.RISE(model, masks=20, jit_compile=True)
    method.analyze(models.data_for(model, 4), batch_size=2, verbose=1)
    (bar,) = bars()
    assert bar.target == sum(bar.added) == 2


def test_what_is_compiled_first_is_said_once(model, caplog, capsys):
    method, x = analyzer("gradient", model), models.data_for(model, 2)
    with caplog.at_level(logging.INFO, "innvest_lite"):
        method.analyze(x, verbose=1)
        method.analyze(x, verbose=1)
        analyzer("gradient", model).analyze(x)
    said = [record.getMessage() for record in caplog.records]
    assert said == ["Gradient is compiled first, once for this model and these options."] * 2
    assert capsys.readouterr().out.count("Gradient is compiled first") == 1


def test_a_loop_tells_of_each_round_when_it_is_done():
    told = []

    def function(x):
        return backend.loop(3, lambda index, values: (values[0] + 1,), (x,), told.append)[0]

    run = backend.compiled(function, [backend.tensor_spec((), "float32")], False)
    assert float(run(np.float32(4))) == 7 and told == [0, 1, 2]
    run(np.float32(4))
    assert told == [0, 1, 2, 0, 1, 2]
