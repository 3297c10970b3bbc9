"""kill -9 at many moments, damaged files, a full disk: nothing finished is lost, nothing wrong is served."""

from __future__ import annotations

import json
import random
import socket

import numpy as np
import pytest

from automm.cache import place
from automm.cache.entries import Entries
from fit.conftest import events, summary, write_table
from fit.forks import Forks

FROZEN = '''
from automm.api import Encoder, Features, hookimpl, nn, torch
from automm_tabular.vector import Vector

class Frozen(Encoder):
    """A fixed map, as if it were a checkpoint: what it gives is kept in the cache."""

    modality = "tabular"
    preference = 9.0

    @classmethod
    def processor(cls, config, info):
        return Vector(Vector.Config(columns=list(info.columns), types=dict(info.types)))

    def __init__(self, config, processor):
        from automm.train import standing

        super().__init__(config, processor)
        standing.EVERY = 0.0  # trials are written after every epoch: there are more moments at which a kill can come
        size = processor.specs()["vector"].shape[0]
        self.map, self.head, self.width = nn.Linear(size, 8), nn.Linear(8, 8), 8
        nn.init.zeros_(self.map.bias)
        with torch.no_grad():
            self.map.weight.copy_(torch.linspace(0, 20, 8 * size).sin().reshape(8, size))

    @classmethod
    def extracts(cls, config):
        return True

    @classmethod
    def pretrained(cls, config):
        return True

    def fresh(self):
        return [self.head]

    def extract(self, arrays):
        return Features.vector(torch.tanh(self.map(torch.nan_to_num(arrays["vector"]))))

    def complete(self, features):
        return Features(self.head(features.tokens), features.mask)


@hookimpl
def automm_register(register):
    register(Frozen)
'''
RECIPE = """
data: {train: train.csv, test: test.csv}
target: verdict
plugins: [frozen.py]
ignore: [review]
model: {learner: [linear, network], encoders: {tabular: {name: frozen, adapt: none}}}
train: {epochs: 3, batch_size: 32}
search: {trials: 4, baselines: false}
"""
LEFTOVERS = ("**/*.part", "**/*.trash", "**/*.partial", "**/.package.*", "**/.*.json.*")
KILLED = -9
pytestmark = pytest.mark.timeout(1200)


@pytest.fixture(scope="module")
def forks():
    with Forks() as found:
        yield found


def project(folder):
    folder.mkdir()
    write_table(folder / "train.csv", 160)
    write_table(folder / "test.csv", 40, seed=1)
    (folder / "frozen.py").write_text(FROZEN, "utf-8")
    (folder / "reviews.yaml").write_text(RECIPE, "utf-8")
    return folder


def job(folder, moment=None, log="log", full=False, **environment):
    return {
        "arguments": ["fit", "reviews.yaml", "--out", "run"], "cwd": str(folder), "log": str(folder / log),
        "environment": {"AUTOMM_CACHE": str(folder / "cache"), **environment}, "moment": moment, "full": full,
    }  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(forks, tmp_path_factory):
    folder = project(tmp_path_factory.mktemp("undisturbed") / "project")
    assert forks.run(job(folder)) == [0], (folder / "log").read_text()
    return folder


def finished(folder):
    """Name → report of the trials that ended."""
    found = {path.parent.name: path.read_bytes() for path in (folder / "run" / "trials").glob("*/report.json")}
    return {name: report for name, report in found.items() if json.loads(report)["state"] != "failed"}


def features(folder):
    """Key → arrays of everything in the cache."""
    found = {}
    for segment in place.segments(folder / "cache"):
        entries = Entries(segment.folder)
        for at, key in enumerate(np.load(segment.folder / "keys.npy")):
            found[segment.folder.parent.name, bytes(key)] = entries.entry(at)
    return found


def damage_journal(folder):
    """Makes a line in the middle of the journal unreadable."""
    journal = folder / "run" / "study.journal"
    lines = journal.read_bytes().splitlines(keepends=True)
    lines[len(lines) // 2] = b'{"op_code": 8, \xff}\n'
    journal.write_bytes(b"".join(lines))


def damage_cache(folder):
    """Flips a bit of a value in every segment."""
    for segment in place.segments(folder / "cache"):
        file = max(segment.folder.glob("array_*.npy"), key=lambda path: path.stat().st_size)
        content = bytearray(file.read_bytes())
        content[-1] ^= 64
        file.write_bytes(content)


def test_eleven_kills_a_full_disk_and_damaged_files_change_nothing(forks, undisturbed, tmp_path):
    folder, draw = project(tmp_path / "project"), random.Random(5)
    log, counts = folder / "log", json.loads((undisturbed / "log.counts").read_text())
    assert min(counts.values()) >= 15, counts
    assert forks.run(job(folder, ["cache", 6], full=True)) == [10]
    assert f"cannot write into the cache {folder / 'cache'} (AUTOMM_CACHE): [Errno 28]" in log.read_text()
    assert not list(place.segments(folder / "cache"))
    # After a kill the run goes on where it was: what is left of a stage gets shorter.
    moments = [["cache", draw.randint(1, counts["cache"] // 3)] for _ in range(4)]
    moments += [["search", draw.randint(2, counts["search"] // 3)] for _ in range(4)]
    moments += [["export", draw.randint(1, counts["export"])] for _ in range(3)]
    known = {}
    for number, moment in enumerate(moments):
        assert forks.run(job(folder, moment)) == [KILLED], log.read_text()
        now = finished(folder)
        assert {name: now.get(name) for name in known} == known, moment
        known = now
        if number == 6:
            damage_journal(folder)
            damage_cache(folder)
    assert forks.run(job(folder)) == [0], log.read_text()
    found, expected = summary(folder / "run"), summary(undisturbed / "run")
    for what in ("trials", "best", "valid", "test"):
        assert found[what] == expected[what], what
    names = [event["name"] for event in events(folder / "run", "trial")]
    assert names == [event["name"] for event in events(undisturbed / "run", "trial")]  # none lost, none doubled
    warnings = [event["text"] for event in events(folder / "run", "warning")]
    assert [text for text in warnings if "study.journal: line" in text and "takes over" in text]
    here, there = features(folder), features(undisturbed)
    assert here.keys() == there.keys()
    for key, arrays in here.items():
        for name, array in arrays.items():
            np.testing.assert_array_equal(array, there[key][name])
    assert not [path for pattern in LEFTOVERS for path in folder.glob(pattern)]
    assert "Traceback" not in log.read_text()


def ranks(folder, moments):
    """The jobs of two processes of one group."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    group = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [
        job(folder, moment, f"log{rank}", RANK=str(rank), LOCAL_RANK=str(rank), **group)
        for rank, moment in enumerate(moments)
    ]


def test_a_killed_rank_ends_the_other_at_once_and_the_next_start_goes_on(forks, tmp_path):
    folder = project(tmp_path / "project")
    recipe = folder / "reviews.yaml"
    recipe.write_text(RECIPE.replace("trials: 4", "trials: 2"), "utf-8")
    for moments in ([["cache", 5], None], [None, ["cache", 5]], [["search", 60], None]):
        first, second = forks.run(*ranks(folder, moments))
        killed, other = (first, second) if moments[0] else (second, first)
        assert killed == KILLED
        assert 0 < other != 70, other
        said = (folder / ("log1" if moments[0] else "log0")).read_text()
        assert "another process of the job is gone" in said
        assert "Traceback" not in said
    assert forks.run(*ranks(folder, [None, None])) == [0, 0]
    found = summary(folder / "run")
    assert (found["status"], found["processes"], found["trials"]) == ("ok", 2, {"complete": 2})
    assert [event["name"] for event in events(folder / "run", "trial")] == ["0", "1"]
    assert [event["resumed"] for event in events(folder / "run", "started")][-1] is True
