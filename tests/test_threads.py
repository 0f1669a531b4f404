"""Work on several threads: order, errors, and that no more is made ahead than is being worked on."""

import threading
import time

import pytest

from innvest_lite import threads
from innvest_lite.threads import in_threads


@pytest.fixture(params=[1, 3])
def cores(request, monkeypatch):
    monkeypatch.setattr(threads, "_cores", lambda: request.param)
    return request.param


@pytest.mark.parametrize("count", [0, 1, 2, 50])
def test_results_are_in_the_order_of_the_items(cores, count):
    """However long each takes."""

    def slowly(number):
        time.sleep(0.001 * (number % 3))
        return number * number

    assert in_threads(slowly, range(count)) == [number * number for number in range(count)]


def test_what_an_item_raises_is_raised(cores):
    def failing(number):
        if number == 7:
            raise KeyError(number)
        return number

    with pytest.raises(KeyError):
        in_threads(failing, range(20))


def test_items_are_made_when_there_is_a_thread_for_them(monkeypatch):
    """Each may be a large array."""
    monkeypatch.setattr(threads, "_cores", lambda: 2)
    made, done, most, lock = 0, 0, 0, threading.Lock()

    def items():
        nonlocal made, most
        for number in range(40):
            with lock:
                made += 1
                most = max(most, made - done)
            yield number

    def work(number):
        nonlocal done
        time.sleep(0.001)
        with lock:
            done += 1

    in_threads(work, items())
    assert most <= 7
