"""What is computed from cells is found again: by content, in other runs, and only whole."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from automm.api import ArraySpec, InputInfo, Processor
from automm.cache import place
from automm.cache.contents import Contents
from automm.cache.space import Piece, Space
from automm.core.processor import BadCell
from automm.data.arrays import ArrayStore, cache_share
from automm.data.sources import open_table


class Bytes(Processor):
    """The bytes of a file."""

    op, media = "fake.bytes", True
    loads: ClassVar[list[str]] = []

    def specs(self):
        return {"values": ArraySpec("uint8", ("time",))}

    def load(self, cell):
        self.loads.append(cell.name)
        if not cell.exists():
            raise BadCell("no such file")
        return {"values": np.frombuffer(cell.read_bytes(), np.uint8)}


@pytest.fixture
def data(tmp_path):
    """Writes named files and a table of them."""

    def write(**files):
        (tmp_path / "media").mkdir(exist_ok=True)
        for name, content in files.items():
            path = tmp_path / "media" / f"{name}.bin"
            if content is not None and (not path.exists() or path.read_bytes() != content):
                path.write_bytes(content)
                os.utime(path, (1e9, 1e9))  # long ago: what is read now is settled
        table = tmp_path / "table.csv"
        table.write_text("k,m\n" + "".join(f"{at},media/{name}.bin\n" for at, name in enumerate(files)))
        return open_table(["table.csv"], tmp_path, tmp_path / "tables")

    Bytes.loads.clear()
    return write


def build(run, table, cache, bad=None):
    on_bad = (lambda *found: bad.append(found)) if bad is not None else (lambda *found: None)
    rows = np.arange(table.rows)
    return ArrayStore.build(run, Bytes(None), InputInfo("m", "any", ("m",)), table, rows, on_bad, cache=cache)


def contents(store):
    return ["".join(map(chr, store.batch(np.array([at]))["values"][0])) for at in range(len(store))]


def test_another_run_computes_nothing_again(data, tmp_path):
    table = data(a=b"one", b=b"three", c=b"one")
    first = build(tmp_path / "run1", table, tmp_path / "cache")
    assert Bytes.loads == ["a.bin", "b.bin"]  # c holds what a holds
    second = build(tmp_path / "run2", table, tmp_path / "cache")
    assert len(Bytes.loads) == 2
    assert contents(first) == contents(second) == ["one", "three", "one"]
    assert second.firsts.tolist() == [0, 1]
    assert second.lengths.tolist() == [3, 5, 3]


def test_one_changed_file_is_one_computation(data, tmp_path):
    files = {f"f{at}": f"content {at}".encode() for at in range(200)}
    build(tmp_path / "run1", data(**files), tmp_path / "cache")
    Bytes.loads.clear()
    files["f7"] = b"other"
    store = build(tmp_path / "run2", data(**files), tmp_path / "cache")
    assert Bytes.loads == ["f7.bin"]
    assert contents(store) == [content.decode() for content in files.values()]
    Bytes.loads.clear()
    moved = {f"g{at}": content for at, content in enumerate(reversed(files.values()))}
    assert contents(build(tmp_path / "run3", data(**moved), tmp_path / "cache"))[0] == "content 199"
    assert not Bytes.loads  # other names and another order, the same contents


def test_what_was_refused_is_tried_again(data, tmp_path):
    bad = []
    table = data(a=b"one", gone=None)
    store = build(tmp_path / "run1", table, tmp_path / "cache", bad)
    assert bad == [(1, "m", "no such file")]
    assert store.bad.tolist() == [False, True]
    data(a=b"one", gone=b"here")
    Bytes.loads.clear()
    store = build(tmp_path / "run2", table, tmp_path / "cache")
    assert Bytes.loads == ["gone.bin"]
    assert contents(store) == ["one", "here"]
    assert store.present.all()


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "meta", "keys"])
def test_a_damaged_entry_is_never_served(data, tmp_path, damage, monkeypatch):
    table = data(a=b"one", b=b"two")
    build(tmp_path / "run1", table, tmp_path / "cache")
    (segment,) = place.segments(tmp_path / "cache")
    file = segment.folder / {"meta": "meta.json", "keys": "keys.npy"}.get(damage, "array_values.npy")
    content = bytearray(file.read_bytes())
    content[-1] ^= 255
    if damage == "remove":
        file.unlink()
    else:
        file.write_bytes(content[: len(content) // 2] if damage in ("truncate", "meta") else content)
    monkeypatch.setattr("automm.cache.entries._INTACT", {})  # as in a new process
    store = build(tmp_path / "run2", table, tmp_path / "cache")
    assert contents(store) == ["one", "two"]


def test_no_flipped_bit_is_ever_served(data, tmp_path, monkeypatch):
    """Neither to another run, nor to the same one when it goes on: its stores only refer to the cache."""
    table = data(a=b"one", b=b"three", gone=None)
    first = build(tmp_path / "run", table, tmp_path / "cache")
    expected, segment = contents(first), Path(json.loads((first.folder / "index.json").read_text())["entries"])
    kept = {file: file.read_bytes() for file in segment.iterdir()}
    random = np.random.default_rng(0)
    flips = [(file, at) for file, content in kept.items() for at in random.permutation(len(content))[:25].tolist()]
    for number, (file, at) in enumerate(flips):
        for other in segment.parent.iterdir():
            place.remove(other)
        segment.mkdir()
        for other, content in kept.items():
            other.write_bytes(content)
        content = bytearray(kept[file])
        content[at] ^= 1 << random.integers(8)
        file.write_bytes(content)
        monkeypatch.setattr("automm.cache.entries._INTACT", {})  # as in a new process
        bad = []
        store = build(tmp_path / ("run" if number % 2 else f"run{number}"), table, tmp_path / "cache", bad)
        assert contents(store) == expected, (file.name, at)
        assert bad == [(2, "m", "no such file")], (file.name, at)


def test_a_run_goes_on_after_the_cache_was_cleared(data, tmp_path):
    table = data(a=b"one", b=b"two")
    store = build(tmp_path / "run1", table, tmp_path / "cache")
    for segment in list(place.segments(tmp_path / "cache")):
        assert place.remove(segment.folder)
    assert contents(store) == ["one", "two"]  # open files stay readable
    assert contents(build(tmp_path / "run1", table, tmp_path / "cache")) == ["one", "two"]


def test_the_least_recently_used_goes_first(tmp_path):
    root = tmp_path / "cache"
    spaces = [Space(root, number, {"x": ArraySpec("float32", (250,))}, "x") for number in range(3)]

    def compute(missing):
        yield Piece({"x": np.ones((len(missing), 250), np.float32)}, np.ones(len(missing), bool))

    for age, space in zip((3000, 9000, 6000), spaces, strict=True):
        (folder,) = space.gather([bytes([1] * 16)], compute).sources
        os.utime(folder / "meta.json", (time.time() - age,) * 2)
    size = place.size_of(root) // 3
    assert place.evict(root, 2 * size + 10) == pytest.approx(size, abs=50)
    assert [bool(list(space.folder.iterdir())) for space in spaces] == [True, False, True]
    place.evict(root, 0)
    assert place.size_of(root) == 0
    spaces[0].gather([bytes([1] * 16)], compute)
    assert place.evict(root, 0) == 0  # in use now


def test_equal_keys_are_computed_once(tmp_path):
    asked = []

    def compute(missing):
        asked.extend(missing.tolist())
        yield Piece({"x": missing[:, None].astype(np.float32)}, missing != 3, {1: "refused"})

    space = Space(tmp_path, "how", {"x": ArraySpec("float32", (1,))}, "x")
    found = space.gather([bytes([key] * 16) for key in (7, 8, 7, 9, 8)], compute)
    assert (asked, found.computed) == ([0, 1, 3], 3)
    assert found.at.tolist() == [0, 1, 0, 2, 1]
    assert found.present.tolist() == [True, True, True, False, True]
    assert found.refused == {1: "refused", 4: "refused"}


def test_writers_at_the_same_time(data, tmp_path):
    table = data(**{f"f{at}": f"content {at % 40}".encode() for at in range(120)})
    with ThreadPoolExecutor(4) as pool:
        stores = list(pool.map(lambda run: build(tmp_path / f"run{run}", table, tmp_path / "cache"), range(4)))
    for store in stores:
        assert contents(store) == [f"content {at % 40}" for at in range(120)]


KILLED = """
import sys, numpy as np, time
from pathlib import Path
from automm.api import ArraySpec
from automm.cache.space import Piece, Space
def compute(missing):
    yield Piece({"x": np.ones((len(missing), 4), np.float32)}, np.ones(len(missing), bool))
    print("half", flush=True)
    time.sleep(60)
Space(Path(sys.argv[1]), "how", {"x": ArraySpec("float32", (4,))}, "x").gather([bytes([1] * 16)], compute)
"""


def test_a_killed_writer_leaves_nothing_that_counts(tmp_path):
    with subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE) as job:
        assert job.stdout.readline() == b"half\n"
        space = Space(tmp_path, "how", {"x": ArraySpec("float32", (4,))}, "x")
        place.sweep(space.folder)
        assert list(space.folder.glob("*.part"))  # its writer lives
        job.send_signal(signal.SIGKILL)
    assert not list(place.segments(tmp_path))

    def compute(missing):
        yield Piece({"x": np.full((len(missing), 4), 2, np.float32)}, np.ones(len(missing), bool))

    found = space.gather([bytes([1] * 16)], compute)
    assert found.computed == 1
    assert not list(space.folder.glob("*.part")) + list(space.folder.glob("*.lock"))


FULL = """
import resource, signal, sys, numpy as np
from pathlib import Path
from automm.api import ArraySpec
from automm.cache.space import Piece, Space
from automm.errors import StorageError
def compute(missing):
    for _ in range(100):
        yield Piece({"x": np.ones((1, 1000), np.float32)}, np.ones(1, bool))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
keys = [bytes([number + 1] * 16) for number in range(100)]
try:
    Space(Path(sys.argv[1]), "how", {"x": ArraySpec("float32", (1000,))}, "x").gather(keys, compute)
except StorageError as problem:
    print(problem)
"""


def test_a_disk_that_fills_up_while_writing_leaves_nothing(tmp_path):
    """A limit of a file's size stands in: the write fails in the midst of an array."""
    job = subprocess.run([sys.executable, "-c", FULL, tmp_path], capture_output=True, text=True, check=True)
    assert job.stdout.startswith(f"cannot write into the cache {tmp_path} (AUTOMM_CACHE): [Errno 27]")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_ranks_compute_a_share_each(data, tmp_path):
    table = data(**{f"f{at}": f"content {at}".encode() for at in range(9)})
    rows, info = np.arange(9), InputInfo("m", "any", ("m",))
    for rank in range(2):
        cache_share(tmp_path / "run", Bytes(None), info, table, rows, tmp_path / "cache", (rank, 2))
        assert len(Bytes.loads) == (5 if rank == 0 else 9)
    store = build(tmp_path / "run", table, tmp_path / "cache")
    assert len(Bytes.loads) == 9
    assert contents(store) == [f"content {at}" for at in range(9)]


def test_a_file_that_changed_just_now_is_read_again(tmp_path):
    file = tmp_path / "a"
    file.write_bytes(b"one")
    contents = Contents(tmp_path / "cache")
    before = contents([file])
    stamp = file.stat().st_mtime_ns
    file.write_bytes(b"two")
    os.utime(file, ns=(stamp, stamp))  # the clock's ticks are coarse: same size, same time
    assert contents([file]) != before


def automm(*arguments, cache):
    environment = {**os.environ, "AUTOMM_CACHE": str(cache)}
    command = [sys.executable, "-m", "automm", "cache", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_info_and_clear(data, tmp_path):
    cache = tmp_path / "cache"
    assert "0.0 MB" in automm("info", cache=cache).stdout
    build(tmp_path / "run1", data(a=b"one", b=b"two"), cache)
    told = json.loads(automm("info", "--json", cache=cache).stdout)
    assert told["kinds"]["fake.bytes"]["entries"] == 2
    assert told["folder"] == str(cache)
    assert "fake.bytes" in automm("info", cache=cache).stdout
    assert "removed 0.0 MB" in automm("clear", "--unused-for", "30d", cache=cache).stdout
    assert list(place.segments(cache))
    problem = automm("clear", "--unused-for", "soon", cache=cache)
    assert problem.returncode == 2
    assert "write 90m, 12h or 30d" in problem.stderr
    assert automm("clear", cache=cache).returncode == 0
    assert not list(place.segments(cache))


def test_no_folder_to_write_is_no_obstacle(tmp_path, monkeypatch):
    monkeypatch.setenv("AUTOMM_CACHE", "/proc/nowhere")
    assert place.cache_folder() == Path("/proc/nowhere")
    assert not place.writable(place.cache_folder())


def test_a_store_of_an_older_version_is_replaced(data, tmp_path):
    table = data(a=b"one")
    home = build(tmp_path / "run", table, tmp_path / "cache").folder
    (home / "index.json").rename(home / "meta.json")
    assert contents(build(tmp_path / "run", table, tmp_path / "cache")) == ["one"]
