"""A trial that was killed goes on after the epoch that it had last written."""

from __future__ import annotations

import json
import time

import pytest

from automm.errors import StorageError

torch = pytest.importorskip("torch")

from automm.train import standing  # noqa: E402
from automm.train.run import run_trial  # noqa: E402
from automm.train.weights import load_weights  # noqa: E402

NETWORK = "model: {learner: network}\ntrain: {epochs: 8, patience: 8, batch_size: 32}\n"
KILLED = 5


@pytest.fixture
def killed(make_bench, tmp_path, monkeypatch):
    """A bench and a configuration of which a trial was interrupted in the epoch `KILLED`; its folder."""
    monkeypatch.setattr(standing, "EVERY", 0.0)
    bench, (resolved, *_) = make_bench(NETWORK)
    assert resolved["fusion"]["config"]["dropout"] > 0, "random numbers must matter"

    def interrupt(epoch, value, metrics):
        if epoch == KILLED:
            raise KeyboardInterrupt
        return False

    with pytest.raises(KeyboardInterrupt):
        run_trial("0", resolved, bench, tmp_path / "0", on_epoch=interrupt)
    assert not (tmp_path / "0" / "weights.safetensors").exists()
    return bench, resolved, tmp_path / "0"


def again(bench, resolved, folder):
    trained, past = [], []
    report, _ = run_trial(
        "0", resolved, bench, folder,
        on_epoch=lambda epoch, value, metrics: trained.append(epoch), on_past=lambda *one: past.append(one),
    )  # fmt: skip
    return report, trained, past


def test_it_ends_as_if_nothing_had_happened(killed, tmp_path):
    bench, resolved, folder = killed
    expected, _ = run_trial("1", resolved, bench, tmp_path / "1")
    report, trained, past = again(*killed)
    assert trained == [*range(KILLED, 8)]
    assert past == [(entry["epoch"], entry[bench.metric]) for entry in expected.history[:KILLED]]
    assert report.history == expected.history
    assert (report.value, report.best_epoch) == (expected.value, expected.best_epoch)
    for stem in ("weights", "answers"):
        found, wanted = (load_weights(place / f"{stem}.safetensors") for place in (folder, tmp_path / "1"))
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_its_seconds_are_those_of_all_attempts(killed):
    *_, folder = killed
    facts = json.loads(standing.load_facts(folder / standing.FILE)[standing.FACTS])
    assert facts["epoch"] == KILLED
    report, *_ = again(*killed)
    assert report.seconds > facts["seconds"] > 0


def test_what_was_written_is_removed_in_the_end(killed):
    *_, folder = killed
    assert (folder / standing.FILE).exists()
    again(*killed)
    assert not (folder / standing.FILE).exists()


@pytest.mark.parametrize("harm", ["another configuration", "cut off", "another number of processes"])
def test_what_does_not_fit_is_not_read(killed, harm):
    bench, resolved, folder = killed
    path = folder / standing.FILE
    match harm:
        case "another configuration":
            resolved = {**resolved, "train": {**resolved["train"], "weight_decay": 0.5}}
        case "cut off":
            path.write_bytes(path.read_bytes()[:-100])
        case "another number of processes":
            facts = json.loads(standing.load_facts(path)[standing.FACTS])
            facts["about"]["world"] = 2
            standing.save_weights(load_weights(path), path, {standing.FACTS: json.dumps(facts)})
    report, trained, past = again(bench, resolved, folder)
    assert report.state == "complete"
    assert trained == [*range(8)]
    assert not past


def test_what_another_batch_size_left_stays_for_it(killed):
    """After a lack of memory a trial is tried with half the batch: a restart asks for the whole one first."""
    bench, resolved, folder = killed
    other = {**resolved, "train": {**resolved["train"], "batch_size": 64, "epochs": 1}}
    report, trained, _ = again(bench, other, folder)
    assert (report.state, trained) == ("complete", [0])
    _, trained, past = again(bench, resolved, folder)
    assert trained == [*range(KILLED, 8)]
    assert len(past) == KILLED


def test_time_that_is_used_stays_used(killed, monkeypatch):
    from automm.train.callbacks import Watch

    bench, resolved, folder = killed
    seen, measure = [], Watch._time_used
    monkeypatch.setattr(Watch, "_time_used", lambda watch: seen.append(measure(watch)) or seen[-1])
    facts = json.loads(standing.load_facts(folder / standing.FILE)[standing.FACTS])
    run_trial("0", resolved, bench, folder, deadline=time.monotonic() + 1000 * facts["seconds"])
    assert seen[0] > 0.0009
    assert seen == sorted(seen)


def test_a_full_disk_only_keeps_it_from_being_written(make_bench, tmp_path, monkeypatch):
    monkeypatch.setattr(standing, "EVERY", 0.0)
    bench, (resolved, *_) = make_bench(NETWORK)
    tried = []

    def full(*_):
        tried.append(1)
        raise StorageError("no space left")

    monkeypatch.setattr(standing, "save_weights", full)
    report, _ = run_trial("0", resolved, bench, tmp_path / "0")
    assert (report.state, report.epochs, len(tried)) == ("complete", 8, 1)


def test_short_trials_write_nothing(make_bench, tmp_path):
    bench, (resolved, *_) = make_bench(NETWORK)
    seen = []
    run_trial("0", resolved, bench, tmp_path / "0",
              on_epoch=lambda *_: seen.append((tmp_path / "0" / standing.FILE).exists()))  # fmt: skip
    assert seen == [False] * 8
