"""What README, CONTRIBUTING and docs/ show is run, page by page.

Python blocks run in order in one namespace, in a folder that holds their model as model.keras; `innvest-lite` commands (in
fences that say "bash") in this process, in a folder that holds another model.keras, photos/ and patterns.h5. What a page
marks as "sh" is for other software: servers are started and asked, see `printed_servers`; what is not run is listed below.
"""

import glob
import pathlib
import re
import shlex
import shutil
from unittest import mock

import keras
import numpy as np
import pytest
from pages import PAGES, ROOT, blocks, prose
from PIL import Image
from printed_servers import Servers

import innvest_lite
from innvest_lite import cli, data, export, rules

WORDS = {"python", "bash", "sh", "text", "{eval-rst}", "{toctree}"}
# Shell commands that no test runs as they stand, by their first words.
NOT_RUN = {
    "README.md": ["pip install . && innvest-lite demo", "pip install '.[test]' && pytest"],
    "CONTRIBUTING.md": [
        *("python -m venv", "pip install -e", "pytest", "pytest -m slow", "bash scripts/check.sh"),
        "python -m sphinx -W",
    ],
    "docs/evidence.md": [
        *("python scripts/experiments/faces.py pictures", "python scripts/experiments/faces.py measure"),
        *("python scripts/experiments/photographs.py measure", "python scripts/experiments/photographs.py sheet"),
        *("python scripts/experiments/evidence.py", "python scripts/experiments/regression.py"),
        "python scripts/experiments/denominators.py",
    ],
    "docs/ground_truth.md": [
        f"python scripts/experiments/ground_truth.py {what}" for what in ("measure", "record", "report", "published")
    ],
    "docs/models.md": ["python scripts/checks/models_people_have.py"],
    "docs/sequences.md": [f"python scripts/experiments/sequences.py {what}" for what in ("choose", "measure", "report")],
    # The container; a stand-in answers in its place.
    "docs/serving.md": [
        *("docker run", "python scripts/checks/stablehlo_on_jax.py write", "python scripts/checks/stablehlo_on_jax.py run"),
    ],
}
# Of a page's "sh" lines, those of servers, and the folder that they are run in: they need what other blocks wrote there.
SERVERS = {
    "docs/serving.md": {
        "docker run": "python",
        "curl -d": "python",
        "python scripts/examples/service": "commands",
        "curl --data-binary": "commands",
    }
}
# What a page's code leaves behind.
WRITTEN = {
    "CONTRIBUTING.md": {"gradient.txt"},
    "README.md": {"explainer.keras", "patterns.h5", "why.png", "heat.png", "signal.png", "heat", "report.html"},
    "docs/command_line.md": {"patterns.h5", "heat", "bars"},
    "docs/fitting.md": {"run.h5", "report.csv", *(f"part-{number}.h5" for number in range(1, 5))},
    "docs/methods.md": {"gradient.keras"},
    "docs/pictures.md": {"sheet.png", "explained.png", "two.png"},
    "docs/preprocessing.md": {"prepared.keras"},
    "docs/report.md": {
        "report.html",
        "training/epoch-0002.png",
        "maps.npz",
        "compared.html",
        "table.html",
        "measured",
        "runs/1",
    },
    "docs/serving.md": {"served", "explainer/1", "explainer.tflite", "explainer.onnx", "for-images", "request.json"},
    "docs/trust.md": {"evaluation/degradation.csv", "evaluation/signal.csv"},
}
RUN = [page for page, text in PAGES.items() if {"python", "bash"} & {block.word for block in blocks(text)}]


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A folder with what the commands name: model.keras, photos/ and patterns.h5."""
    folder = tmp_path_factory.mktemp("desk")
    stack = [keras.layers.Conv2D(4, 3, activation="relu"), keras.layers.MaxPooling2D(), keras.layers.Flatten()]
    network = keras.Sequential([keras.Input((24, 24, 3)), *stack, keras.layers.Dense(5, activation="softmax")])
    network.save(folder / "model.keras")
    (folder / "photos").mkdir()
    for place, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (16, 30, 40, 3), np.uint8)):
        Image.fromarray(pixels).save(folder / "photos" / f"{place:02d}.png")
    table = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, activation="relu"), keras.layers.Dense(2)])
    table.save(folder / "table.keras")
    rows = np.random.default_rng(0).normal(size=(5, 4)).astype("float32").tolist()
    text = "\n".join(",".join(map(str, row)) for row in rows)
    (folder / "patients.csv").write_text(f"patient,age,weight,dose\n{text}\n")
    fit = ["fit", str(folder / "model.keras"), str(folder / "photos"), "--preprocess", "vgg16"]
    assert cli.main([*fit, "--out", str(folder / "patterns.h5")]) == 0
    return folder


# Quick: what a newcomer reads first, and what extends the package. The other pages show what tests of its rooms run too.
QUICK = ("README.md", "CONTRIBUTING.md", "docs/layers.md", "docs/lrp.md")


@pytest.mark.parametrize("page", [page if page in QUICK else pytest.param(page, marks=pytest.mark.slow) for page in RUN])
def test_what_a_page_shows_runs(page, desk, tmp_path, monkeypatch):
    shutil.copytree(desk, tmp_path / "commands")
    if "innvest-lite fit model.keras" in PAGES[page]:
        # The page makes its own.
        (tmp_path / "commands" / "patterns.h5").unlink()
    (tmp_path / "python").mkdir()
    names = _names(tmp_path / "python" / "model.keras")
    # What a page registers is forgotten with it.
    with mock.patch.dict(rules.RULES), mock.patch.dict(export.FORMATS):
        _run(page, tmp_path, names, monkeypatch)
    missing = [name for name in WRITTEN.get(page, ()) if not list(tmp_path.glob(f"*/{name}"))]
    assert not missing


def _run(page, tmp_path, names, monkeypatch):
    """Runs the blocks of a page in order."""
    with Servers(tmp_path / "servers.log") as servers:
        _run_blocks(page, tmp_path, names, monkeypatch, servers)


def _run_blocks(page, tmp_path, names, monkeypatch, servers):
    for block in blocks(PAGES[page]):
        if block.word == "python":
            monkeypatch.chdir(tmp_path / "python")
            # Empty lines in front make errors name the line of the page.
            exec(compile("\n" * (block.line - 1) + block.text, ROOT / page, "exec"), names)
        elif block.word == "bash":
            monkeypatch.chdir(tmp_path / "commands")
            _run_commands(block)
        else:
            _run_servers(page, block, tmp_path, servers)


def _run_servers(page, block, tmp_path, servers):
    """The lines of servers, in a folder with the repository's scripts/ and, for one of its photos, the name on the page."""
    for line in block.lines if block.word == "sh" else ():
        places = [place for begins, place in SERVERS.get(page, {}).items() if line.startswith(begins)]
        for folder in (tmp_path / place for place in places):
            if not (folder / "scripts").exists():
                (folder / "scripts").symlink_to(ROOT / "scripts")
                (folder / "photos").mkdir(exist_ok=True)
                Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)).save(
                    folder / "photos" / "some.png"
                )
            _check_answer(line, servers.run(line, folder))


def _check_answer(line, answer):
    """What a server must answer to a line of curl: an explanation of the class in it, or of the predicted one."""
    if not line.startswith("curl"):
        return
    assert "error" not in answer, (line, answer)
    if "v1/models" in line:
        found = answer["outputs"]
        assert set(found) == {"attributions", "predictions", "target", "picture"}
        assert found["target"] == [3] and np.shape(found["picture"]) == (1, 28, 28, 3)
        return
    asked = re.search(r"target=(\d+)", line)
    assert answer["target"] == (int(asked[1]) if asked else np.argmax(answer["predictions"])), line
    assert answer["score"] == answer["predictions"][answer["target"]] and answer["heatmap"]


def _small():
    """A stand-in for the digit model, with layers of the same names: what the pages show is traced and compiled sooner."""
    convolutions = [keras.layers.Conv2D(4, 3, strides=2, activation="relu", name=f"conv1_{n}") for n in (1, 2)]
    head = [keras.layers.Flatten(), keras.layers.Dense(10, activation="softmax", name="classes")]
    return keras.Sequential([keras.Input((28, 28, 1)), *convolutions, *head])


def _names(path):
    """What the code on the pages takes for granted."""
    model, (images, labels) = _small(), data.load_digits()
    model.save(path)
    return {"innvest_lite": innvest_lite, "model": model, "images": images[:48], "labels": labels[:48]}


def _run_commands(block):
    for line in block.lines:
        program, *arguments = shlex.split(line)
        assert program == "innvest-lite", f"Only innvest-lite is run from a bash block, not {line}"
        for expanded in _expanded(arguments):
            assert cli.main(expanded) == 0, expanded


def _expanded(arguments):
    """What the shell makes of a command; of a part of four all parts, in batches so small that each gets some images."""
    if "--shard" in arguments:
        place = arguments.index("--shard") + 1
        assert arguments[place] == "3/4"
        parts = ([word.replace("3/4", f"{n}/8").replace("part-3", f"part-{n}") for word in arguments] for n in range(1, 9))
        return [[*part, "--batch-size", "2"] for part in parts]
    return [[name for word in arguments for name in (sorted(glob.glob(word)) if "*" in word else [word])]]


def test_every_fence_says_what_it_is():
    wrong = {(page, block.line): block.word for page, text in PAGES.items() for block in blocks(text)}
    assert not {place: word for place, word in wrong.items() if word not in WORDS}
    assert all(text.count("\n```") % 2 == 0 for text in PAGES.values())


def test_what_is_not_run_is_listed():
    found = {page: [line for b in blocks(text) if b.word == "sh" for line in b.lines] for page, text in PAGES.items()}
    found = {page: lines for page, lines in found.items() if lines}
    assert found.keys() == NOT_RUN.keys()
    for page, every in found.items():
        run = [begins for begins in SERVERS.get(page, ()) if begins not in NOT_RUN[page]]
        lines = [line for line in every if not line.startswith(tuple(run))]
        assert len(lines) == len(NOT_RUN[page])
        for line, begins in zip(lines, NOT_RUN[page], strict=True):
            assert line.startswith(begins), (page, line)


def test_the_readme_is_short_and_begins_with_two_commands():
    text = PAGES["README.md"]
    assert len(text.split()) <= 1300
    assert blocks(text)[0].lines == ["pip install . && innvest-lite demo", "pip install '.[test]' && pytest"]


def test_links_and_files_that_pages_name_are_there():
    missing = []
    for page, text in PAGES.items():
        folder = (ROOT / page).parent
        for link in re.findall(r"\]\((?!\w+:|#)([^)#]+)(?:#[\w-]+)?\)", prose(text)):
            missing += [] if (folder / link).exists() else [(page, link)]
        for name in re.findall(r"(?:scripts|innvest_lite|tests)/[\w/]+\.(?:py|md|sh)", text):
            missing += [] if (ROOT / name).exists() else [(page, name)]
    assert not missing


def test_every_page_is_in_the_list_of_pages():
    pages = {pathlib.Path(page) for page in PAGES if pathlib.Path(page).parent == pathlib.Path("docs")}
    listed = {pathlib.Path("docs") / link for link in re.findall(r"\]\(([\w]+\.md)\)", PAGES["docs/README.md"])}
    assert pages - {pathlib.Path("docs/README.md")} == listed
