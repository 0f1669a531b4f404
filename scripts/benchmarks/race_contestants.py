"""The contestants of the race: the environment of each, and the process that answers for it. Called by `race`."""

import contextlib
import dataclasses
import json
import os
import pathlib
import select
import shutil
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
INNVESTIGATE = ("innvestigate==2.1.2", "tensorflow-cpu==2.14.1", "numpy<2")
TORCH = ("torch==2.14.1", "torchvision==0.29.1")
XPLIQUE = ("tensorflow-cpu==2.21.0", "tensorflow-probability==0.25.0", "einops", "deprecated", "matplotlib")
XPLIQUE_MORE = ("opencv-python-headless", "scikit-image<=0.25.2", "scikit-learn<=1.7.2", "scipy<=1.15.3")
OURS, PLAIN = "innvest_lite", "tape"
GIVEN, PLAIN_AGAIN = "innvest_lite_class_0", "tape_again"
# Some are handed the class, and need not look for the largest logit: they are compared with this package handed it too.


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
        of: the name of the contestant in whose process it runs, with the same model and analyzer; "" for one of its own.
        variant: of the calls that this process has, the one that it is timed by.
        against: the name of what it is compared with, in the same terms.
    """

    name: str
    requirements: tuple = ()
    alone: tuple = ()
    leaks: bool = False
    environment: str = ""
    worker: str = ""
    of: str = ""
    variant: str = ""
    against: str = OURS


CONTESTANTS = (
    Contestant(PLAIN),
    # How far the same call, timed twice, comes out.
    Contestant(PLAIN_AGAIN, of=PLAIN),
    Contestant(OURS),
    Contestant("innvest_lite_again", of=OURS),
    Contestant(GIVEN, of=OURS, variant="class 0"),
    Contestant("limit", against=GIVEN),
    Contestant("tape_2_14", INNVESTIGATE, environment="innvestigate", worker=PLAIN),
    Contestant("innvestigate", INNVESTIGATE, leaks=True),
    Contestant("zennit", ("zennit==0.5.1", *TORCH)),
    Contestant("captum", ("captum==0.9.0", *TORCH), against=GIVEN),
    # Its own requirements bring several gigabytes of CUDA.
    Contestant("xplique", (*XPLIQUE, *XPLIQUE_MORE), ("xplique==2.0.2", "tf-keras==2.21.0"), leaks=True, against=GIVEN),
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
        paths = os.pathsep.join(filter(None, [str(HERE.parent), *given]))
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


class Twin:
    """A contestant in the process of another."""

    leaks = False

    def __init__(self, contestant, worker):
        self.name, self._variant, self._worker = contestant.name, contestant.variant, worker

    def ask(self, do, **case):
        """See `Worker.ask`."""
        return self._worker.ask(do, **({"variant": self._variant} if do == "time" else case))

    def drop(self):
        """The other does."""

    def stop(self):
        """The other does."""

    @property
    def hello(self):
        """What the other said of itself, whose notes stand there."""
        return {**self._worker.hello, "methods": dict.fromkeys(self._worker.hello["methods"], "")}

    @property
    def version(self):
        """See `Worker.version`."""
        return self._worker.version


def first_line(text):
    """The first line of an error, cut to what a table's note can hold."""
    return text.strip().split("\n")[0][:200]


def say(text):
    """Tells whoever waits."""
    print(time.strftime("%H:%M:%S"), text, file=sys.stderr, flush=True)


def started(chosen, folder, version, limit):
    """(name -> worker, name -> why it has none)."""
    workers, failed = {}, {}
    for contestant in chosen:
        try:
            if not contestant.of:
                workers[contestant.name] = Worker(contestant, python_of(contestant, folder, version), folder, limit)
            elif contestant.of in workers:
                workers[contestant.name] = Twin(contestant, workers[contestant.of])
        except RaceError as error:
            failed[contestant.name] = str(error)
            say(f"{contestant.name}: {error}")
    return workers, failed
