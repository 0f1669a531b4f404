"""Races this package against others and a plain TensorFlow gradient: `python scripts/benchmarks/race.py --rounds 3`.

Every contestant is a process of its own (`race_peers`), the other packages each in a virtual environment that is made here
and kept in the folder `--environments`. VGG16 and ResNet50 have random weights and give logits; images are 224 x 224.

In a round each contestant explains the same batch once, one after the other while the others wait, and the round's order
is turned by one. A figure is the median over rounds of the ratio to the plain gradient of the same round. Building,
tracing and the first call are not timed. Slow cases have fewer rounds, 3 at least (`--patience`). Without `--methods`, most
methods run on single images only. What cannot be installed or run is told below the table. Behind each median stands the
interval in which, whatever the distribution, the true one lies with a probability of 95 %: of 11 rounds, the second
smallest to the second largest. Below the table, each package is compared with this one in the same terms: those that
are handed the class with `innvest_lite_class_0`, which is handed it too.

Controls: `tape_again` and `innvest_lite_again` are calls that are timed a second time in each round. `tape_2_14` is the
plain gradient under iNNvestigate's TensorFlow, which is older and has other kernels. `limit` is what the method cannot do
without, as one TensorFlow program without any package: see `race_peers/limit_peer.py`.
"""

import argparse
import csv
import functools
import itertools
import pathlib
import platform
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from common.measuring import processor
from race_contestants import CONTESTANTS, PLAIN, PLAIN_AGAIN, RaceError, say, started
from race_tables import COLUMNS, listed, print_tables, rows_of, table, verdicts

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
    "pattern.attribution_average": BOTH,
    "gradcam": SINGLE,
    "integrated_gradients": SINGLE,
    "smoothgrad": SINGLE,
    "occlusion": SINGLE,
    "rise": SINGLE,
}
MODELS = ("VGG16", "ResNet50")
# An idle pool of threads spins for a moment after its work.
SETTLE = 0.3
LEAST_ROUNDS = 3
LONG = 60  # seconds of building are told


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
    for name in {*seconds, *notes} - {PLAIN, PLAIN_AGAIN}:
        workers[name].drop()
    return seconds, notes


def is_prepared(worker, case, notes):
    """Whether the contestant is ready to be timed; `notes` takes why not, or what was odd."""
    # The plain gradient knows no other method.
    own = {**case, "method": "gradient"} if worker.name in (PLAIN, PLAIN_AGAIN) else case
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


def parsed(arguments):
    """The command line."""
    names = [contestant.name for contestant in CONTESTANTS]
    parser = argparse.ArgumentParser(
        prog="race.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=MODELS, choices=MODELS)
    parser.add_argument("--batches", nargs="+", type=int, default=BOTH)
    parser.add_argument("--methods", nargs="+", choices=METHODS, help="on all batches; without, see METHODS")
    parser.add_argument("--contestants", nargs="+", default=names, choices=names, help=f"{PLAIN} always runs")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--patience", type=float, default=900, help="seconds after which a case has no further round")
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
    print(f"`python scripts/benchmarks/race.py {' '.join(given)}`, {processor()},")
    print(f"Python {platform.python_version()}, at most {options.rounds} rounds; medians of ratios to the plain gradient.")
    print(listed(versions))
    print(table(rows, [contestant.name for contestant in chosen]))
    print(verdicts(rows))
    print(*(f"- {name} did not start: {reason}" for name, reason in failed.items()), sep="\n")


if __name__ == "__main__":
    main()
