"""Races this package against other packages and a plain TensorFlow gradient: `python scripts/race.py --rounds 3`.

Every contestant is a process of its own (`race_peers`), the other packages each in a virtual environment that is made here
and kept in the folder `--environments`. VGG16 and ResNet50 have random weights and give logits; images are 224 x 224.

In a round each contestant explains the same batch once, one after the other while the others wait, and the round's order
is turned by one. A figure is the median over rounds of the ratio to the plain gradient of the same round. Building,
tracing and the first call are not timed. Slow cases have fewer rounds, 3 at least (`--patience`). Without `--methods`, most
methods run on single images only. What cannot be installed or run is told below the table.

`tape_2_14` is a control: the plain gradient under iNNvestigate's TensorFlow, which is older and has other kernels.
"""

import argparse
import contextlib
import csv
import dataclasses
import functools
import itertools
import json
import os
import pathlib
import platform
import select
import shutil
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
INNVESTIGATE = ("innvestigate==2.1.2", "tensorflow-cpu==2.14.1", "numpy<2")
TORCH = ("torch==2.14.1", "torchvision==0.29.1")
XPLIQUE = ("tensorflow-cpu==2.20.0", "tensorflow-probability==0.25.0", "einops", "deprecated", "matplotlib")
XPLIQUE_MORE = ("opencv-python-headless", "scikit-image<=0.25.2", "scikit-learn<=1.7.2", "scipy<=1.15.3")
SINGLE, BOTH = (1,), (1, 8)
# Method -> the batches that it runs on.
METHODS = {
    "gradient": BOTH,
    "input_t_gradient": SINGLE,
    "guided_backprop": BOTH,
    "deconvnet": SINGLE,
    "lrp.epsilon": BOTH,
    "lrp.epsilon_plus_flat": SINGLE,
    "lrp.alpha_1_beta_0": SINGLE,
    "lrp.alpha_2_beta_1": BOTH,
    "lrp.sequential_preset_a": SINGLE,
    "deep_taylor": SINGLE,
    "pattern.net": SINGLE,
    "pattern.attribution": BOTH,
    "gradcam": SINGLE,
    "integrated_gradients": SINGLE,
    "smoothgrad": SINGLE,
    "occlusion": SINGLE,
    "rise": SINGLE,
}
MODELS = ("VGG16", "ResNet50")
OURS, PLAIN = "innvest_lite", "tape"
# An idle pool of threads spins for a moment after its work.
SETTLE = 0.3
LEAST_ROUNDS = 3
LONG = 60  # seconds of building are told
COLUMNS = (
    *("model", "batch", "method", "contestant", "version", "seconds_median"),
    *("ratio_to_gradient", "ratio_to_ours", "rounds", "note"),
)


class RaceError(Exception):
    """A contestant cannot be installed, or does not answer; the message is one line."""


@dataclasses.dataclass(frozen=True)
class Contestant:
    """A package, and what its environment is made of.

    Attributes:
        name: of the package and of its worker.
        requirements: for pip; without any, the Python that runs the race has it.
        alone: what is installed without its own requirements.
        leaks: whether it never lets go of what it built or traced, so that each case needs a process of its own.
        environment: the name of the contestant whose environment it runs in; "" for its own.
        worker: the name of the contestant whose worker it runs; "" for its own.
    """

    name: str
    requirements: tuple = ()
    alone: tuple = ()
    leaks: bool = False
    environment: str = ""
    worker: str = ""


CONTESTANTS = (
    Contestant(PLAIN),
    Contestant(OURS),
    Contestant("tape_2_14", INNVESTIGATE, environment="innvestigate", worker=PLAIN),
    Contestant("innvestigate", INNVESTIGATE, leaks=True),
    Contestant("zennit", ("zennit==0.5.1", *TORCH)),
    Contestant("captum", ("captum==0.9.0", *TORCH)),
    # Its own requirements bring several gigabytes of CUDA.
    Contestant("xplique", (*XPLIQUE, *XPLIQUE_MORE), ("xplique==2.0.2", "tf-keras==2.20.1"), leaks=True),
)


def python_of(contestant, folder, version):
    """The contestant's Python, in an environment that is made unless it is there."""
    if not contestant.requirements:
        return sys.executable
    place = folder / (contestant.environment or contestant.name)
    python, done = place / "bin" / "python", place / "installed.json"
    wanted = json.dumps([contestant.requirements, contestant.alone])
    if done.exists() and done.read_text() == wanted:
        return str(python)
    say(f"installing into {place}")
    shutil.rmtree(place, ignore_errors=True)
    steps = [[version, "-m", "venv", str(place)], [str(python), "-m", "pip", "install", "-q", *contestant.requirements]]
    if contestant.alone:
        steps.append([str(python), "-m", "pip", "install", "-q", "--no-deps", *contestant.alone])
    for step in steps:
        run_step(step)
    done.write_text(wanted)
    return str(python)


def run_step(command):
    """Runs one step of an installation."""
    try:
        result = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        raise RaceError(f"{command[0]}: {error}") from error
    if result.returncode:
        told = [line for line in result.stderr.splitlines() if line.startswith("ERROR")] or [result.stderr or result.stdout]
        raise RaceError(first_line(told[0]))


class Worker:
    """A contestant's process; it is started again where it ended."""

    def __init__(self, contestant, python, folder, limit):
        self.name, self.limit, self.leaks = contestant.name, limit, contestant.leaks
        self._command = [python, str(HERE / "race_peers" / f"{contestant.worker or contestant.name}_peer.py")]
        self._log = folder / f"{contestant.name}.log"
        given = [os.environ.get("PYTHONPATH", "")] if not contestant.requirements else []
        paths = os.pathsep.join(filter(None, [str(HERE), *given]))
        self._environment = {**os.environ, "PYTHONPATH": paths, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
        self._process = None
        self.hello = self._started()

    def _started(self):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": self._environment}
        with self._log.open("w") as log:
            self._process = subprocess.Popen(self._command, stderr=log, **pipes)
        return self._answer()

    def ask(self, do, **case):
        """The answer to a request, a dict; raises RaceError where there is none."""
        if self._process.poll() is not None:
            self._started()
        try:
            self._process.stdin.write(json.dumps({"do": do, **case}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise RaceError(f"the process of {self.name} ended") from error
        answer = self._answer()
        if "error" in answer:
            raise RaceError(first_line(answer["error"]))
        return answer

    def drop(self):
        """Lets the memory of the case go."""
        if self.leaks:
            self.stop()
        elif self._process.poll() is None:
            # Who does not answer is stopped, too.
            with contextlib.suppress(RaceError):
                self.ask("drop")

    def _answer(self):
        ready, _, _ = select.select([self._process.stdout], [], [], self.limit)
        line = self._process.stdout.readline() if ready else ""
        if line:
            return json.loads(line)
        reason = self._end() if ready else f"no answer within {self.limit:.0f} s"
        self.stop()
        raise RaceError(reason)

    def _end(self):
        """Why a process that closed its stdout ended."""
        code = self._process.wait()
        if code < 0:
            return f"the process was ended by signal {-code}" + (", maybe for want of memory" if code == -9 else "")
        told = [line for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        return first_line(told[-1]) if told else f"the process ended with {code}"

    def stop(self):
        """Ends the process."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()

    @property
    def version(self):
        """What the contestant runs on, as text."""
        return ", ".join(f"{package} {version}" for package, version in self.hello["versions"].items())


def first_line(text):
    """The first line of an error, cut to what a table's note can hold."""
    return text.strip().split("\n")[0][:200]


def say(text):
    """Tells whoever waits."""
    print(time.strftime("%H:%M:%S"), text, file=sys.stderr, flush=True)


def raced(case, workers, rounds, patience):
    """Runs all that have the method, by turns.

    Args:
        case: model, batch and method.
        workers: name -> worker, of all contestants.
        rounds: how often each is timed.
        patience: seconds after which no round is begun, once there are `LEAST_ROUNDS`.

    Returns:
        (contestant -> seconds of each round, contestant -> what there is to say, such as why it has no times).
    """
    notes = {}
    seconds = {name: [] for name, worker in workers.items() if is_prepared(worker, case, notes)}
    start = time.perf_counter()
    for number in range(rounds):
        if number >= LEAST_ROUNDS and time.perf_counter() - start > patience:
            break
        names = [*seconds]
        turn = number % max(len(names), 1)
        for name in names[turn:] + names[:turn]:
            time.sleep(SETTLE)
            answer = attempted(workers[name], notes, "time")
            if answer is None:
                del seconds[name]
            else:
                seconds[name].append(answer["seconds"])
    # The plain gradient is the same in the next case.
    for name in {*seconds, *notes} - {PLAIN}:
        workers[name].drop()
    return seconds, notes


def is_prepared(worker, case, notes):
    """Whether the contestant is ready to be timed; `notes` takes why not, or what was odd."""
    # The plain gradient knows no other method.
    own = {**case, "method": "gradient"} if worker.name == PLAIN else case
    if own["method"] in worker.hello["missing"]:
        notes[worker.name] = worker.hello["missing"][own["method"]]
    if own["method"] not in worker.hello["methods"]:
        return False
    start = time.perf_counter()
    answer = attempted(worker, notes, "prepare", **own)
    if answer is None:
        return False
    taken = time.perf_counter() - start
    told = [worker.hello["methods"][own["method"]], answer.get("note"), taken > LONG and f"built in {taken:.0f} s"]
    notes[worker.name] = "; ".join(filter(None, told))
    return True


def attempted(worker, notes, do, **case):
    """The answer, or None with the reason in `notes`."""
    try:
        return worker.ask(do, **case)
    except RaceError as error:
        notes[worker.name] = str(error)
        say(f"  {worker.name}: {error}")
        return None


def rows_of(case, workers, seconds, notes):
    """The CSV's rows of a case, one for each contestant that has times or a reason for having none."""
    rows = []
    for name, note in notes.items():
        row = {**case, "contestant": name, "version": workers[name].version, "note": note}
        row["rounds"] = len(seconds.get(name, ()))
        if seconds.get(name):
            row["seconds_median"] = f"{statistics.median(seconds[name]):.4f}"
            row["ratio_to_gradient"] = ratio(seconds[name], seconds.get(PLAIN))
            row["ratio_to_ours"] = ratio(seconds[name], seconds.get(OURS))
        rows.append(row)
    return rows


def ratio(values, others):
    """The median of the ratios of the same rounds, as text."""
    if others is None:
        return ""
    return f"{statistics.median(ours / theirs for ours, theirs in zip(values, others, strict=True)):.3f}"


def table(rows, names):
    """The Markdown table, and below it the notes."""
    cells, notes = {}, {}
    for row in rows:
        key = row["model"], row["batch"], row["method"]
        cells.setdefault(key, {})[row["contestant"]] = cell(row, notes)
    others = [name for name in names if name != PLAIN]
    heads = ["model", "batch", "method", "plain gradient", *others]
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for key, found in cells.items():
        lines.append("| " + " | ".join([*map(str, key), *(found.get(name, "-") for name in [PLAIN, *others])]) + " |")
    return "\n".join([*lines, "", *(f"- [{number}] {note}" for note, number in notes.items())])


def cell(row, notes):
    """A table's cell: the ratio, for the plain gradient its seconds; and the number of the note, where there is one."""
    note = f"{row['contestant']}: {row['note']}"
    number = f" [{notes.setdefault(note, len(notes) + 1)}]" if row["note"] else ""
    if not row.get("seconds_median"):
        return f"none{number}"
    by_ratio = row["contestant"] != PLAIN and row["ratio_to_gradient"]
    return (f"x{float(by_ratio):.2f}" if by_ratio else f"{float(row['seconds_median']):.2f} s") + number


def started(chosen, folder, version, limit):
    """(name -> worker, name -> why it has none)."""
    workers, failed = {}, {}
    for contestant in chosen:
        try:
            workers[contestant.name] = Worker(contestant, python_of(contestant, folder, version), folder, limit)
        except RaceError as error:
            failed[contestant.name] = str(error)
            say(f"{contestant.name}: {error}")
    return workers, failed


def race(cases, start, rounds, patience, keep):
    """Runs all cases; each model and batch has processes of its own, so that little piles up in them.

    Args:
        cases: dicts of model, batch and method, in this order.
        start: a function that gives `started`.
        rounds: how often each contestant is timed.
        patience: as in `raced`.
        keep: called with the rows of each case, as soon as they are there.

    Returns:
        (contestant -> its versions, contestant -> why it did not start).
    """
    versions, failed = {}, {}
    for _, group in itertools.groupby(cases, key=lambda case: (case["model"], case["batch"])):
        workers, absent = start()
        failed.update(absent)
        versions.update((name, worker.version) for name, worker in workers.items())
        try:
            for case in group:
                say(" ".join(map(str, case.values())))
                keep(rows_of(case, workers, *raced(case, workers, rounds, patience)))
        finally:
            for worker in workers.values():
                worker.stop()
    return versions, failed


def print_tables(paths):
    """Prints the table of files that `--csv` wrote."""
    rows = {}
    for path in paths:
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                rows[row["model"], row["batch"], row["method"], row["contestant"]] = row
    print(*dict.fromkeys(f"- {row['contestant']}: {row['version']}" for row in rows.values()), sep="\n", end="\n\n")
    known = {row["contestant"] for row in rows.values()}
    print(table(rows.values(), [contestant.name for contestant in CONTESTANTS if contestant.name in known]))


def parsed(arguments):
    """The command line."""
    names = [contestant.name for contestant in CONTESTANTS]
    parser = argparse.ArgumentParser(prog="race.py", description=__doc__)
    parser.add_argument("--models", nargs="+", default=MODELS, choices=MODELS)
    parser.add_argument("--batches", nargs="+", type=int, default=BOTH)
    parser.add_argument("--methods", nargs="+", choices=METHODS, help="on all batches; without, see METHODS")
    parser.add_argument("--contestants", nargs="+", default=names, choices=names, help=f"{PLAIN} always runs")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--patience", type=float, default=60, help="seconds after which a case has no further round")
    parser.add_argument("--environments", type=pathlib.Path, default=pathlib.Path("race-environments"))
    parser.add_argument("--python", default="python3.11", help="what the environments are made with")
    parser.add_argument("--limit", type=float, default=400, help="seconds for one answer")
    parser.add_argument("--csv", type=pathlib.Path)
    parser.add_argument(
        "--tables",
        nargs="+",
        type=pathlib.Path,
        metavar="CSV",
        help="race nobody, but print the table of what earlier runs wrote; of a case that was raced again, the last counts",
    )
    return parser.parse_args(arguments)


def main(arguments=None):
    """Races, then prints the table."""
    given = sys.argv[1:] if arguments is None else arguments
    options = parsed(given)
    if options.tables:
        print_tables(options.tables)
        return
    chosen = [contestant for contestant in CONTESTANTS if contestant.name in (PLAIN, *options.contestants)]
    cases = [
        {"model": model, "batch": batch, "method": method}
        for model, batch, method in itertools.product(options.models, options.batches, options.methods or METHODS)
        if options.methods or batch in METHODS[method]
    ]
    folder = options.environments.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    rows = []

    def keep(more):
        rows.extend(more)
        if options.csv:
            with options.csv.open("w", newline="") as file:
                writer = csv.DictWriter(file, COLUMNS)
                writer.writeheader()
                writer.writerows(rows)

    start = functools.partial(started, chosen, folder, options.python, options.limit)
    versions, failed = race(cases, start, options.rounds, options.patience, keep)
    print(f"`python scripts/race.py {' '.join(given)}`, {platform.machine()}, {os.cpu_count()} cores,")
    print(f"Python {platform.python_version()}, at most {options.rounds} rounds; medians of ratios to the plain gradient.")
    print(*(f"- {name}: {version}" for name, version in versions.items()), sep="\n", end="\n\n")
    print(table(rows, [contestant.name for contestant in chosen]))
    print(*(f"- {name} did not start: {reason}" for name, reason in failed.items()), sep="\n")


if __name__ == "__main__":
    main()
