"""Files that a stranger sealed anew: absurd numbers, shapes and parts are refused with one kind of error, at once."""

import json
import time

import h5py
import numpy as np
import pytest
from command_line import fails
from fits import fitted, statistics
from models import normal

from innvest_lite import Patterns, PatternStatistics
from innvest_lite.errors import CorruptFileError, InvalidInputError
from innvest_lite.patterns import files
from innvest_lite.patterns.statistics import part_of


@pytest.fixture
def pattern_file(tmp_path):
    fitted().save(tmp_path / "patterns.h5")
    return tmp_path / "patterns.h5"


@pytest.fixture(scope="module")
def gathered():
    return statistics(normal(16, 6, seed=1), shard=(0, 2))


@pytest.fixture
def statistics_file(gathered, tmp_path):
    gathered.save(tmp_path / "statistics.h5")
    return tmp_path / "statistics.h5"


def changed(path, change):
    """The file with a change to its content, and the right checksum."""
    with h5py.File(path, "r+") as file:
        change(file)
    files._seal(path, path.stem, 3)


NUMBERS = {
    "units": [-1, 10**18, 2.5, "many", np.nan, np.inf, True, 7, np.arange(3), None],
    "dead": [-1, 10**18, "few", 1.0, np.nan],
    "ill_conditioned": [-1, 10**18, None],
    "count": [-1.0, np.nan, np.inf, "many", np.ones(2)],
    "active": [-0.5, 2.0, np.inf, "most"],
    "estimator": [3, np.ones(2)],
    "activation": [3.5],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in NUMBERS.items() for value in values], ids=str
)
def test_absurd_numbers_in_a_pattern_file(pattern_file, capsys, name, value):
    def change(file):
        del file["0"].attrs[f"attribute {name}"]
        if value is not None:
            file["0"].attrs[f"attribute {name}"] = value

    changed(pattern_file, change)
    with pytest.raises(CorruptFileError, match=r"patterns\.h5 cannot be read"):
        Patterns.load(pattern_file)
    message = fails(capsys, "inspect", "--patterns", pattern_file)
    assert "patterns.h5 cannot be read" in message


def test_reports_of_honest_files_are_read(pattern_file):
    loaded = Patterns.load(pattern_file)
    assert loaded.reports == fitted().reports and len(loaded) == 3
    for word in ("linear", "filter"):
        fitted(word).save(pattern_file)
        assert [row.units for row in Patterns.load(pattern_file).reports.values()] == [
            row.units for row in fitted(word).reports.values()
        ]


def shape_of(name, shape):
    def change(file):
        del file["0"][name]
        file["0"][name] = np.ones(shape)

    return change


def attribute(name, value, group=None):
    return lambda file: (file if group is None else file[group]).attrs.__setitem__(name, value)


SUMS = {
    "samples below zero": attribute("samples", -1),
    "samples of words": attribute("samples", "many"),
    "many samples": attribute("samples", np.float64(1e300)),
    "samples in a row": attribute("samples", np.arange(3)),
    "half a batch": attribute("batches", 0.5),
    "batch size": attribute("batch_size", np.nan),
    "a part of very many": attribute("parts", "1/99999999999999"),
    "a part of none": attribute("parts", "1/0"),
    "a part beyond": attribute("parts", "3/2"),
    "a part of words": attribute("parts", "all"),
    "a long number": attribute("parts", f"1/{'9' * 5000}"),
    "axes of sums": attribute("attribute fan_in", np.array([7]), "0"),
    "the same axis": attribute("attribute fan_in", np.array([0, 0]), "0"),
    "an axis below zero": attribute("attribute fan_in", np.array([-1]), "0"),
    "what was gathered": attribute("attribute gathered", "nonsense", "0"),
    "deep fingerprints": attribute("other_fingerprints", "[" * 20_000),
    "name": attribute("name", np.arange(3), "0"),
    "pivot": shape_of("pivot", (3, 3)),
    "products": shape_of("sum_xy", (2,)),
    "count": shape_of("count", (5,)),
    "kernel": shape_of("kernel", (1, 1, 1)),
}


@pytest.mark.parametrize("name", SUMS)
def test_absurd_sums_in_a_statistics_file(statistics_file, capsys, name):
    changed(statistics_file, SUMS[name])
    begin = time.monotonic()
    with pytest.raises(CorruptFileError):
        PatternStatistics.load(statistics_file)
    assert "statistics.h5" in fails(capsys, "merge", statistics_file, "-o", statistics_file.parent / "p.h5")
    assert time.monotonic() - begin < 5


def test_arrays_are_no_more_than_the_file_together(pattern_file):
    """What was never written takes no place: a thousand such arrays would claim a thousand times the file."""
    size = pattern_file.stat().st_size

    def claim(file):
        group = file["0"]
        for number in range(50):
            plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            plist.set_alloc_time(h5py.h5d.ALLOC_TIME_LATE)
            space = h5py.h5s.create_simple((size // 4,))
            h5py.h5d.create(group.id, f"claimed {number}".encode(), h5py.h5t.IEEE_F32LE, space, plist)

    changed(pattern_file, claim)
    assert 50 * size > pattern_file.stat().st_size
    with pytest.raises(CorruptFileError, match="larger than the file"):
        Patterns.load(pattern_file)


def test_parts_that_could_not_be_listed(gathered):
    assert (part_of(0, 1_000_000), gathered.missing_parts) == ("1/1000000", ["2/2"])
    with pytest.raises(InvalidInputError, match="with N up to 1,000,000, but this is 1/1000001"):
        part_of(0, 1_000_001)


def test_many_missing_parts_are_counted(gathered, tmp_path, capsys):
    path = tmp_path / "statistics.h5"
    gathered.save(path)
    changed(path, attribute("parts", "1/500"))
    message = fails(capsys, "merge", path, "-o", tmp_path / "p.h5")
    assert "2/500, 3/500" in message and "21/500 and 479 more." in message


def test_a_report_of_words_is_no_report(pattern_file):
    changed(pattern_file, attribute("other_fingerprints", json.dumps({"a": 1})))
    with pytest.raises(CorruptFileError, match="mapping of texts"):
        Patterns.load(pattern_file)


@pytest.mark.parametrize("names", [("a",), ("é" * 300, "b", "c/d"), tuple(map(str, range(60)))], ids=len)
def test_room_for_a_file_is_asked_for_before_hdf5_writes_it(tmp_path, monkeypatch, names):
    """HDF5 ends the process where a write of its own fails: at no moment may the file reach beyond what was asked for."""
    asked, sizes, path = [], [], tmp_path / "a.h5"
    monkeypatch.setattr(files, "reserve", lambda stream, size: asked.append(size))

    def groups():
        for name in names:
            sizes.append(max(partial.stat().st_size for partial in tmp_path.iterdir()))
            assert sizes[-1] <= asked[-1]
            yield name, {"text": name, "number": 1.5}, {"x": np.ones((30, 7)), "y": np.ones(0), "z": np.ones(())}

    files.write(path, "test", 1, {"long": "a" * 5000}, groups())
    assert path.stat().st_size <= asked[-1] <= path.stat().st_size + 20_000 * (1 + len(names))
    assert len(asked) == 1 + len(names) and asked == sorted(asked)
