"""The list of planted faults fits the present source: each text stands where it should, and what it becomes compiles.

No test is run here; `scripts/checks/mutants.py` does that. It would stop at the first fault that does not fit.
"""

import importlib.util
import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def script():
    specification = importlib.util.spec_from_file_location("mutants", ROOT / "scripts" / "checks" / "mutants.py")
    module = sys.modules["mutants"] = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    yield module
    del sys.modules["mutants"]


def test_every_fault_applies_and_compiles(script):
    offenders, found = [], script.mutations()
    for mutation in found:
        try:
            path, text = script.mutated(mutation, ROOT)
            compile(text, str(path), "exec")
        except (script.Misplaced, SyntaxError) as error:
            offenders.append(f"{mutation.id}: {error}")
        else:
            if text == path.read_text(encoding="utf-8"):
                offenders.append(f"{mutation.id} changes nothing")
    assert offenders == []
    assert len(found) >= 70 and len({mutation.id for mutation in found}) == len(found)


def test_every_fault_has_tests_that_should_notice(script):
    lost = [one.id for one in script.mutations() if not any(script.files_of(entry, ROOT)[0] for entry in one.room)]
    assert lost == []


def test_a_fault_that_stands_nowhere_or_twice_is_told(script, tmp_path):
    (tmp_path / "a.py").write_text("class A:\n    def f(self):\n        return 1\n\n\ndef f():\n    return 1\n")
    fault = {"id": "one", "file": "*.py", "old": "return 1", "new": "return 2", "means": "", "tests": (), "room": ()}
    for changes, count in [({}, 2), ({"old": "return 3"}, 0), ({"within": "A.g"}, 0), ({"file": "b.py"}, 0)]:
        with pytest.raises(script.Misplaced, match=f"stands {count} times"):
            script.mutated(script.Mutation(**{**fault, **changes}), tmp_path)
    _, text = script.mutated(script.Mutation(**fault, within="A.f"), tmp_path)
    assert text == "class A:\n    def f(self):\n        return 2\n\n\ndef f():\n    return 1\n"


def test_a_lost_kill_is_seen(script):
    earlier = [{"id": name, "verdict": verdict} for name, verdict in [("a", "killed"), ("b", "killed"), ("c", "SURVIVED")]]
    now = [script.Result("a", "", "killed", "test", 1.0), script.Result("b", "", "SURVIVED", "", 1.0)]
    assert script._lost(now, earlier) == ["b"]
    assert script._lost(now[:1], earlier) == ["b"], "one that is not tried any more is lost too"
