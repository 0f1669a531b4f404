"""Plants small faults in the package, one at a time, and says which of them the tests notice.

Usage: `python scripts/checks/mutants.py [--only ID ...] [--likely] [--list] [--json FILE] [--against FILE]`, where what
`pip install '.[test]'` brings is installed. The faults stand in `mutations/*.toml`, a file for each room of the package:

    tests = ["tests/forms/test_*.py"]           # the room's: where each fault must be noticed, one entry after the other

    [[mutation]]
    id = "one-word"
    file = "innvest_lite/forms/signs.py"        # or a pattern such as innvest_lite/backend/*.py
    within = "nonnegative_values"               # optional: the function (Class.method) in which the text stands
    old = "the exact text"                      # must stand there exactly once
    new = "what it becomes"
    means = "what that would do to a user"
    tests = ["tests/forms/test_signs.py"]       # optional: who is likely to notice, asked first; or "FILES -k WORDS"

Each fault goes into a copy of the checkout; nothing here is changed. The tests run without the slow ones and end at the
first failure, which kills the fault. In the end the tests that killed run once more without any fault: one that fails there
too has killed nothing, and the exit code is 2. Else it is 1 where a fault survived or, with --against, where an earlier
kill was lost.
"""

import argparse
import ast
import dataclasses
import json
import multiprocessing
import os
import pathlib
import shutil
import signal
import sys
import tempfile

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10, where pytest brings it along
    import tomli as tomllib

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDER = pathlib.Path(__file__).resolve().parent / "mutations"
KILLED, SURVIVED, TIMEOUT = "killed", "SURVIVED", "TIMEOUT"
_LEFT_OUT = shutil.ignore_patterns(".git", "__pycache__", ".venv*", "build", "dist", "*.egg-info", ".*_cache")


class Misplaced(Exception):
    """The text of a mutation does not stand exactly once where it should."""


@dataclasses.dataclass(frozen=True)
class Mutation:
    """A fault; see above."""

    id: str
    file: str
    old: str
    new: str
    means: str
    tests: tuple
    room: tuple
    within: str = ""


@dataclasses.dataclass(frozen=True)
class Result:
    """What became of a fault: the verdict, the first test that failed, and the CPU seconds that all of it took."""

    id: str
    means: str
    verdict: str
    killer: str
    seconds: float


def mutations(folder=FOLDER):
    """All mutations, room after room."""
    found = []
    for path in sorted(folder.glob("*.toml")):
        room = tomllib.loads(path.read_text(encoding="utf-8"))
        for entry in room["mutation"]:
            found.append(Mutation(**{"tests": (), **entry}, room=tuple(room["tests"])))
    return found


def mutated(mutation, root):
    """The file that a mutation changes, and its changed text.

    Raises:
        Misplaced: the text stands there never, or several times.
    """
    places = [(path, start) for path in sorted(root.glob(mutation.file)) for start in _starts(mutation, path)]
    if len(places) != 1:
        where = mutation.file + (f", within {mutation.within}" if mutation.within else "")
        raise Misplaced(f"{mutation.id}: {mutation.old!r} stands {len(places)} times in {where}; once is wanted.")
    ((path, start),) = places
    text = path.read_text(encoding="utf-8")
    return path, text[:start] + mutation.new + text[start + len(mutation.old) :]


def _starts(mutation, path):
    """Where in a file the text of a mutation begins: character offsets."""
    text = path.read_text(encoding="utf-8")
    spans = _spans(text, mutation.within) if mutation.within else [(0, len(text))]
    hits = []
    for begin, end in spans:
        start = text.find(mutation.old, begin, end)
        while start >= 0:
            hits.append(start)
            start = text.find(mutation.old, start + 1, end)
    return hits


def _spans(text, name):
    """The character offsets of the functions or classes of that qualified name."""
    lines = [0]
    for line in text.splitlines(keepends=True):
        lines.append(lines[-1] + len(line))
    return [(lines[node.lineno - 1], lines[node.end_lineno]) for known, node in _named(ast.parse(text)) if known == name]


def _named(tree, prefix=""):
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield prefix + node.name, node
            yield from _named(node, f"{prefix}{node.name}.")


def files_of(entry, root):
    """`(files, options)` of an entry of `tests`: "tests/rules/test_*.py -k words"."""
    pattern, _, words = entry.partition(" -k ")
    return [str(path.relative_to(root)) for path in sorted(root.glob(pattern))], ["-k", words] if words else []


class Copy:
    """A copy of the checkout, in which tests are run, each time in a process of its own."""

    def __init__(self, folder, limit, likely):
        self.root, self._log, self._limit, self._likely = folder / "checkout", folder / "log", limit, likely
        self._found, self._scratch = folder / "found.json", folder / "scratch"
        shutil.copytree(ROOT, self.root, ignore=_LEFT_OUT)
        # One process imports what takes long, and is copied for every run; that wants a process of a single thread.
        os.environ.update(OPENBLAS_NUM_THREADS="1", TF_CPP_MIN_LOG_LEVEL="2")
        method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
        self._processes = multiprocessing.get_context(method)
        if method == "forkserver":
            self._processes.set_forkserver_preload(["tensorflow", "keras", "h5py", "PIL.Image", "pytest"])

    def try_out(self, mutation):
        """The `Result` of one mutation."""
        path, text = mutated(mutation, self.root)
        sound = path.read_text(encoding="utf-8")
        path.write_text(text, encoding="utf-8")
        try:
            verdict, killer, seconds = self._judged(mutation)
        finally:
            path.write_text(sound, encoding="utf-8")
        return Result(mutation.id, mutation.means, verdict, killer, round(seconds, 1))

    def _judged(self, mutation):
        done, seconds, asked = set(), 0.0, False
        for entry in (*mutation.tests, *mutation.room):
            if self._likely and asked and entry not in mutation.tests:
                break
            files, options = files_of(entry, self.root)
            files = [file for file in files if options or file not in done]
            if not files:
                continue
            failed, code, more = self.run(["-x", *options, *files])
            seconds += more
            if code is None:
                return TIMEOUT, "", seconds
            if failed:
                return KILLED, failed[0], seconds
            if code not in (0, 5):  # 5: no test of that name, or all of them are slow ones
                raise SystemExit(f"{mutation.id}: pytest ended with {code} on {files}:\n{self.tail()}")
            asked = asked or code == 0
            done.update([] if options else files)
        if not asked:
            raise SystemExit(f"{mutation.id}: no test runs for {[*mutation.tests, *mutation.room]}.")
        return SURVIVED, "", seconds

    def run(self, arguments):
        """Runs tests.

        Returns:
            `(failed, code, seconds)`: the names of failed tests, pytest's exit code (None: the time was up), CPU seconds.
        """
        self._found.unlink(missing_ok=True)
        places = str(self.root), str(self._log), str(self._found), str(self._scratch)
        process = self._processes.Process(target=_run, args=(arguments, *places))
        process.start()
        process.join(self._limit)
        if process.is_alive():
            os.killpg(process.pid, signal.SIGKILL)
            process.join()
            return [], None, float(self._limit)
        if not self._found.exists():
            # The fault has ended the process, as a crash in a kernel does.
            return [f"the process ended with {process.exitcode}"], 1, 0.0
        return json.loads(self._found.read_text(encoding="utf-8"))

    def tail(self):
        """The end of what the last run printed."""
        return self._log.read_text(encoding="utf-8", errors="replace")[-3000:]


class _Watch:
    """A plugin of pytest that notes which tests, or files while they are imported, fail."""

    def __init__(self):
        self.failed = []

    def pytest_runtest_logreport(self, report):
        if report.failed:
            self.failed.append(report.nodeid)

    def pytest_collectreport(self, report):
        if report.failed:
            self.failed.append(report.nodeid)


def _run(arguments, root, log, found, scratch):
    """In a process of its own: runs pytest in the copy, and writes what it found."""
    os.setsid()  # so that what tests start ends with it where the time is up
    os.chdir(root)
    sys.path.insert(0, root)
    # A file that is restored within a second, in its old size, would pass for the one that was compiled.
    sys.dont_write_bytecode = True
    os.environ.update(PYTHONPATH=root, PYTHONDONTWRITEBYTECODE="1")
    with open(log, "w", encoding="utf-8") as out:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
    import pytest

    watch = _Watch()
    # Without what the project's configuration adds, such as several processes.
    options = ["-q", "-o", "addopts=", "-m", "not slow", "-p", "no:cacheprovider", f"--basetemp={scratch}"]
    code = int(pytest.main([*options, *arguments], plugins=[watch]))
    package = sys.modules.get("innvest_lite")
    if package is not None and not package.__file__.startswith(root):
        watch.failed, code = [], 70
        print(f"the tests ran on {package.__file__}, not on the copy")
    pathlib.Path(found).write_text(json.dumps([watch.failed, code, sum(os.times()[:4])]), encoding="utf-8")


def _wrong_killers(copy, results):
    """The tests that fail without any fault too."""
    killers = sorted({result.killer for result in results if "::" in result.killer})
    return copy.run(killers)[0] if killers else []


def _lost(results, earlier):
    """The ids of faults that were killed earlier and are not any more."""
    now = {result.id: result.verdict for result in results}
    return [old["id"] for old in earlier if old["verdict"] == KILLED and now.get(old["id"]) != KILLED]


def _row(result):
    killer = f"killed by {result.killer}" if result.verdict == KILLED else result.verdict
    return f"{result.id:32} {result.seconds:7.1f}  {killer}\n{'':34}{result.means}"


def _written(results, path):
    if path:
        rows = [dataclasses.asdict(result) for result in results]
        pathlib.Path(path).write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def _tried(chosen, options):
    """The results of all mutations, printed and written one by one; exits where a killer is none."""
    results = []
    with tempfile.TemporaryDirectory() as folder:
        copy = Copy(pathlib.Path(folder), options.limit, options.likely)
        for mutation in chosen:
            results.append(copy.try_out(mutation))
            print(_row(results[-1]), flush=True)
            _written(results, options.json)
        wrong = _wrong_killers(copy, results)
    if wrong:
        print("These tests fail without any fault, so that they kill nothing:", *wrong, sep="\n  ")
        raise SystemExit(2)
    return results


def _options(arguments):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", metavar="ID", help="these faults alone")
    parser.add_argument("--list", action="store_true", help="print the faults and run nothing")
    parser.add_argument("--json", metavar="FILE", help="write the results to a file")
    parser.add_argument("--against", metavar="FILE", help="results of an earlier run, of which no kill may be lost")
    parser.add_argument(
        "--likely", action="store_true", help="ask only the tests that a fault names itself, not its room's"
    )
    parser.add_argument("--limit", type=int, default=900, help="seconds that one run of tests may take (900)")
    return parser.parse_args(arguments)


def main(arguments=None):
    """Runs the command; returns the exit code."""
    options = _options(arguments)
    chosen = mutations()
    unknown = set(options.only or ()) - {mutation.id for mutation in chosen}
    if unknown:
        raise SystemExit(f"There is no mutation {', '.join(sorted(unknown))}; --list prints them.")
    chosen = [mutation for mutation in chosen if not options.only or mutation.id in options.only]
    for mutation in chosen:
        mutated(mutation, ROOT)
    if options.list:
        print(*(f"{mutation.id:32} {mutation.file}\n{'':34}{mutation.means}" for mutation in chosen), sep="\n")
        return 0
    results = _tried(chosen, options)
    left = [result.id for result in results if result.verdict != KILLED]
    print(f"{len(results)} faults, {len(results) - len(left)} killed, {sum(r.seconds for r in results):.0f} CPU seconds.")
    if left:
        print("Not killed:", *left)
    if not options.against:
        return 1 if left else 0
    earlier = json.loads(pathlib.Path(options.against).read_text(encoding="utf-8"))
    lost = _lost(results, [old for old in earlier if not options.only or old["id"] in options.only])
    print("Kills lost:", *(lost or ["none"]))
    return 1 if lost else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Misplaced as error:
        sys.exit(str(error))
