"""Frozen checkpoints: loaded once, shared by trials, left out of their files, held once by a package."""

from __future__ import annotations

import hashlib
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from tiny_checkpoints import tiny_bert

from automm.data.ledger import Ledger
from automm.errors import DataError
from automm.plan.build import build_plan
from automm.plan.prepare import prepare
from automm.recipe.parse import load_with_plugins
from automm.report.folder import trial_folder, write_json
from automm.run import Member
from automm.search.space import first_trials
from automm.train.bench import Bench
from automm.train.ranks import Ranks

torch = pytest.importorskip("torch")

from automm.model.assemble import AnswerModel  # noqa: E402
from automm.model.learned import restore  # noqa: E402
from automm.package import assembled  # noqa: E402
from automm.train.learn import run_learner  # noqa: E402
from automm.train.run import evaluation_batches, run_trial  # noqa: E402
from automm.train.weights import load_weights  # noqa: E402

WORDS = ["good", "bad", "room", "food", "and", "was"]


@pytest.fixture
def desk(tmp_path):
    """Makes benches over two texts that one frozen checkpoint reads, and a number."""
    tiny_bert(tmp_path / "tiny", WORDS)
    random = np.random.default_rng(0)
    rows = ["title,body,size,label"]
    for _ in range(120):
        good = random.random() < 0.5
        title, body = (" ".join(random.permutation([*WORDS[2:], WORDS[0 if good else 1]])) for _ in range(2))
        rows.append(f"{title},{body},{random.normal():.3f},{'yes' if good else 'no'}")
    (tmp_path / "train.csv").write_text("\n".join(rows) + "\n", "utf-8")
    path = tmp_path / "toy.yaml"
    path.write_text(
        "data: train.csv\ntarget: label\nmetric: roc_auc\ninputs: {title: text, body: text}\n"
        "model: {encoders: {text: {name: hf_text, checkpoint: ./tiny, adapt: none}}}\n", "utf-8",
    )  # fmt: skip

    def make(work="work"):
        recipe, plugins = load_with_plugins(path)
        prepared = prepare(recipe, plugins.registry, tmp_path / "tables", Ledger())
        plan = build_plan(recipe, plugins.registry, prepared)
        return Bench(plugins.registry, plan, prepared.parts, prepared.task, tmp_path / work, Ledger(), Ranks())

    return make


def trials(bench):
    """The default configuration, and one of a learner on the same encoders."""
    network = first_trials(bench.plan, bench.registry)[0][0]
    learner = {"learner": {"name": "linear", "config": {}}}
    kept = {key: network[key] for key in ("seed", "encoders", "task", "sampling")}
    return {**network, "train": {**network["train"], "epochs": 2}}, {**kept, **learner}


@pytest.fixture
def loads(monkeypatch):
    """Counts the checkpoints that are loaded."""
    from automm_text import checkpoint

    found, load = [], checkpoint.load_model
    monkeypatch.setattr(checkpoint, "load_model", lambda folder: found.append(folder) or load(folder))
    return found


def test_checkpoint_is_loaded_once_for_all_inputs_parts_and_trials(desk, tmp_path, loads):
    bench = desk()
    network, linear = trials(bench)
    for at in range(2):
        assert run_trial(f"n{at}", network, bench, tmp_path / f"n{at}")[0].state == "complete"
        assert run_learner(f"l{at}", linear, bench, tmp_path / f"l{at}").state == "complete"
    assert len(loads) == 1


def test_trial_keeps_what_it_trained_and_is_restored_to_the_same_answers(desk, tmp_path):
    bench = desk()
    network, _ = trials(bench)
    _, model = run_trial("0", network, bench, tmp_path / "0")
    weights = load_weights(tmp_path / "0" / "weights.safetensors")
    assert not [name for name in weights if ".model." in name]
    view = bench.view("valid", network)
    again = restore(network, view.processors, bench.task, bench.registry, weights)
    batch = next(iter(evaluation_batches(view, Ranks())))
    with torch.no_grad():
        wanted, found = (AnswerModel(one.eval(), bench.task)(batch) for one in (model, again))
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_models_of_their_own_do_not_touch_the_shared_weights(desk):
    bench = desk()
    (slug, choice), *_ = ((slug, c) for slug, c in trials(bench)[0]["encoders"].items() if c["name"] == "hf_text")
    processor = bench.processor(slug, choice)
    shared, other = (bench.checkpoints.encoder(choice, processor) for _ in range(2))
    own = bench.checkpoints.encoder(choice, processor, own=True)
    first, second, changed = (next(encoder.parameters()) for encoder in (shared, other, own))
    assert shared is not other
    assert first is second
    with torch.no_grad():
        changed += 1.0
    assert torch.equal(first + 1.0, changed)


def test_trial_is_the_same_whatever_was_loaded_before(desk, tmp_path):
    alone = desk("alone")
    expected, _ = run_trial("0", trials(alone)[0], alone, tmp_path / "0")
    bench = desk("after")
    network, linear = trials(bench)
    run_learner("1", linear, bench, tmp_path / "1")
    found, _ = run_trial("2", network, bench, tmp_path / "2")
    assert found.history == expected.history


def test_another_checkpoint_in_the_same_run_is_refused(desk, tmp_path):
    bench = desk()
    bench.view("train", trials(bench)[0])
    tiny_bert(tmp_path / "tiny", WORDS, seed=1)
    again = desk()
    report, _ = run_trial("0", trials(again)[0], again, tmp_path / "0")
    assert report.state == "failed"
    assert "its checkpoint has changed since the run began" in report.error
    other = desk("another")
    assert run_trial("0", trials(other)[0], other, tmp_path / "1")[0].state == "complete"


def test_model_of_another_checkpoint_is_not_assembled(desk, tmp_path):
    """Jobs that share a study bring each other's trials; the frozen part is read from the own checkpoint."""
    bench = desk()
    network, linear = trials(bench)
    run, processors = SimpleNamespace(folder=tmp_path, bench=bench), bench.view("train", network).processors
    for name, resolved, train in (("0", network, run_trial), ("1", linear, run_learner)):
        folder = trial_folder(tmp_path, name)
        report = train(name, resolved, bench, folder)
        report = report[0] if isinstance(report, tuple) else report
        assert len(set(report.checkpoints.values())) == 1
        assert report.checkpoints.keys() == {"title", "body"}
        write_json(folder / "report.json", report.json())
        assembled._check_checkpoints(run, Member(name, 1.0, resolved), processors)
        write_json(folder / "report.json", {**report.json(), "checkpoints": {"body": "0" * 32}})
        with pytest.raises(DataError, match=f"trial {name} was trained with another checkpoint for the input 'body'"):
            assembled._check_checkpoints(run, Member(name, 1.0, resolved), processors)


def test_package_holds_equal_weights_once(desk, tmp_path):
    onnx = pytest.importorskip("onnx")
    from automm.model.assemble import answer_graph

    bench = desk()
    network, _ = trials(bench)
    _, model = run_trial("0", network, bench, tmp_path / "0")
    view = bench.view("valid", network)
    arrays = {slug: bench.store("valid", slug, choice) for slug, choice in network["encoders"].items()}
    batch = {}
    for slug, store in arrays.items():
        batch |= {f"{slug}.{name}": torch.from_numpy(array) for name, array in store.batch(np.arange(4)).items()}
        batch[f"{slug}.present"] = torch.from_numpy(store.present[:4])
    graph = answer_graph(AnswerModel(model, bench.task), view.processors, batch)
    exporter = bench.registry.get("exporter", "onnx")
    exporter(exporter.Config()).export_graph(graph, tmp_path / "main.onnx")
    weights = onnx.load(tmp_path / "main.onnx").graph.initializer
    large = Counter(hashlib.sha256(item.raw_data).hexdigest() for item in weights if len(item.raw_data) > 256)
    assert set(large.values()) == {1}
    assert len(large) > 20
