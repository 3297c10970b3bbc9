"""The trials of a run: asked for, trained and told, rung by rung, until the budget is spent."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from automm.answers import kept_answers
from automm.core.halves import halves
from automm.core.profile import Context
from automm.errors import DatabaseAwayError, PluginError
from automm.plugin.blame import blamed, component_of
from automm.recipe.model import COSTS
from automm.report.folder import asked_for, trial_folder, write_json
from automm.run import Run, best_of
from automm.search.ladder import FINALISTS, OPEN, PROBE
from automm.search.space import first_trials, single
from automm.search.study import FIRST, Study
from automm.train.bench import DEAR
from automm.train.report import TrialReport
from automm.trial import Asked, described, share_of_time, side_by_side, train

ATTEMPTS = 10
"""So many samples in a row that are known already end a rung."""
CONSTANT = "constant"
"""What the log calls the model that sees nothing."""
BASELINE = "baseline"
"""Stands for the rung of a modality alone."""
NETWORK = ""
"""Stands for the network among the learners."""
BASELINE_SHARE = 0.3
"""Most of the time that the single-modality baselines may take."""
TRIAL_SHARE = 0.4
"""Most of the remaining time that one trial may take."""
FIRST_SHARE = 0.3
"""The same for a default configuration, where a search follows."""
LAST_SHARE = 0.5
"""What the last of a number of trials may take of the remaining time; of the last two, half of it each, and so on."""
LOGGED = ("name", "rung", "state", "value", "epochs", "seconds", *COSTS, "error")
"""What the log says of a trial."""
FAILURES = 2
"""So many failures leave a component out."""
AT_ONCE = 2
"""Trials per process that are asked for together when each process trains its own."""
SMALL_SECONDS = 20.0
"""Under `search.parallel: auto`, trials that usually take less are trained side by side, others on all processes."""


def search_with_baselines(run: Run, study: Study | None) -> None:
    """The defaults first, then each modality alone, then the rest of the budget on the rungs."""
    first = len(first_trials(run.plan, run.plugins.registry, run.dear))
    search(run, study, most=first)
    baselines(run)
    run.climbing = time.monotonic(), first
    search(run, study)


def search(run: Run, study: Study | None, most: int | None = None) -> None:
    """Asks, trains, tells, until the budget is spent. Rank 0 asks; all ranks train."""
    while True:
        asked = [Asked(*one) for one in run.ranks.first(partial(_ask, run, study, most))]
        if not asked:
            return
        deadline = share_of_time(run, _share(run, asked[0]))
        reports = [train(run, asked[0], study, deadline)] if len(asked) == 1 else side_by_side(run, asked, deadline)
        for report in reports:
            run.ranks.first(partial(_tell, run, study, report, len(asked) > 1))


def _share(run: Run, asked: Asked) -> float:
    """Share of the remaining time that a trial may take."""
    share = FIRST_SHARE if asked.rung == FIRST and run.plan.searching else TRIAL_SHARE
    if run.plan.trials is None:
        return share
    return max(share, LAST_SHARE / max(run.plan.trials - len(run.reports), 1))


def _ask(run: Run, study: Study | None, most: int | None) -> list[Asked]:
    """The next trials; none when the budget is spent. Those that need no training are told at once. Rank 0 only."""
    assert study is not None
    asked: list[Asked] = []
    try:
        while len(asked) < _room(run, asked) and not _spent(run, most, len(asked)):
            run.reports.extend(study.others({report["name"] for report in run.reports}))
            drawn = None if study.full() else _draw(run, study, asked)
            if drawn is None:
                break
            if isinstance(drawn, Asked):
                asked.append(drawn)
            else:
                _tell(run, study, drawn)
    except DatabaseAwayError as away:
        if not asked:
            _go_on_without(run, away)
    return asked


def _room(run: Run, asked: Sequence[Asked]) -> int:
    """How many trials are trained at once: several if they are small and there are several processes."""
    parallel = run.recipe.search.parallel if run.recipe.search else "auto"
    if run.ranks.world == 1 or parallel == "data" or not asked:
        return 1
    if parallel == "auto" and asked[0].rung != PROBE:
        taken = [report["seconds"] for report in run.reports if report.get("rung") == asked[0].rung]
        if not taken or statistics.median(taken) > SMALL_SECONDS:
            return 1
    return AT_ONCE * run.ranks.world


def _draw(run: Run, study: Study, asked: Sequence[Asked]) -> Asked | dict[str, Any] | None:
    """The next trial to train, or the report of one that needs no training; None when nothing new is left."""
    running = [{"state": "running", "resolved": one.resolved, "rung": one.rung} for one in asked]
    reports = [*run.reports, *running]
    tried = [asked_for(report) for report in reports]
    while True:
        rung, given = study.ladder.at(reports, _used(run, len(asked)), partial(_promoted, run), run.exhausted)
        for attempt in range(ATTEMPTS):
            try:
                resolved = study.ask(rung.name, given, attempt=attempt, failing=_failing(run))
            except PluginError as problem:  # the sampled fields contradict each other: a failed trial like any other
                report = TrialReport(study.name, "failed", {}, error=str(problem), rung=study.rung).json()
                write_json(trial_folder(run.folder, report["name"]) / "report.json", report)
                return report
            if (left := study.left(resolved)) is not None:
                return left
            if study.rung == FIRST or resolved not in tried:
                return Asked(study.name, resolved, study.rung)
            study.drop()
        run.exhausted.add(rung.name)
        if rung.name == OPEN:
            return None


def _used(run: Run, more: int) -> float:
    """Share of the budget that the rungs have used, with some trials that are still to be trained."""
    began, first = run.climbing
    shares = [0.0]
    if run.plan.trials is not None:
        shares.append((len(run.reports) + more - first) / max(run.plan.trials - first, 1))
    if run.train_deadline is not None:
        shares.append((time.monotonic() - began) / max(run.train_deadline - began, 1e-6))
    return max(shares)


def _promoted(run: Run, networks: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The finalists: the best network and others, differently made, that are not clearly worse."""
    found: list[Mapping[str, Any]] = []
    for report in networks:
        made = {described(other["resolved"]) for other in found}
        if len(found) < FINALISTS and described(report["resolved"]) not in made:
            if found and _clearly_worse(run, report, found[0]):
                break
            found.append(report)
    return found


def _clearly_worse(run: Run, report: Mapping[str, Any], best: Mapping[str, Any]) -> bool:
    """Whether a trial lies below the best one by more than twice the standard error of the paired difference."""
    ours, theirs = kept_answers(run, report["name"]), kept_answers(run, best["name"])
    if ours.rows.shape != theirs.rows.shape or bool((ours.rows != theirs.rows).any()):
        return False  # they refused different cells
    metric = run.prepared.task.metrics()[run.plan.metric]
    sign, lost = 1.0 if metric.maximize else -1.0, []
    for half, _ in halves(len(ours.target), run.plan.seed):
        values = [
            metric.compute({name: tensor[half] for name, tensor in kept.answers.items()}, kept.target[half])
            for kept in (ours, theirs)
        ]
        lost.append(sign * (values[1] - values[0]))
    # Over random halves the spread of a mean is that of its estimate on all rows.
    known = [value for value in lost if np.isfinite(value)]
    return len(known) > 1 and bool(np.mean(known) > 2 * np.std(known, ddof=1))


def _failing(run: Run) -> list[tuple[str, str]]:
    """Kind and name of components that failed again and again, or once by what only gets dearer."""
    counts: Counter[tuple[str, str]] = Counter()
    for report in run.reports:
        component = component_of(report["error"]) if report["state"] == "failed" else None
        if component is not None:
            counts[component] += FAILURES if DEAR in report["error"] else 1
    return sorted(component for component, count in counts.items() if count >= FAILURES)


def _go_on_without(run: Run, away: DatabaseAwayError) -> None:
    """Ends the search with the best so far where the time or the user asks for that, else the run, to be resumed."""
    if run.plan.time is None and not run.stopping():
        raise away
    run.warn(str(away))


def _spent(run: Run, most: int | None, more: int) -> bool:
    """Whether the trials or the time are used up, the user wants the end, or nothing works."""
    done = len(run.reports) + more
    if run.stopping() or any(limit is not None and done >= limit for limit in (run.plan.trials, most)):
        return True
    if run.train_deadline is not None and run.reports:
        usual = statistics.median(report["seconds"] for report in run.reports)
        if time.monotonic() + min(usual, 60.0) > run.train_deadline:
            return True
    # The same failure would only repeat.
    return done >= 3 and {report["state"] for report in run.reports} == {"failed"}


def _tell(run: Run, study: Study | None, report: dict[str, Any], beside: bool = False) -> None:
    """Ends a trial, perhaps one beside others: in the study, in the log, and for plugins. Rank 0 only."""
    assert study is not None
    if beside:
        study.past(report)
    facts = {key: report.get(key) for key in ("seconds", *COSTS)}
    facts["reason"] = report["error"] or report["ended"]
    try:
        study.tell(report["value"], report["state"], facts, report["name"])
    except DatabaseAwayError as away:
        _go_on_without(run, away)
    before = _failing(run)
    run.reports.append(report)
    for kind, name in set(_failing(run)) - set(before):
        run.warn(f"{kind} {name!r} is left out from here: {report['error']}")
    log_trial(run, report)
    run.plugins.call("automm_trial_finished", run.warn, report=report)


def log_trial(run: Run, report: Mapping[str, Any]) -> None:
    """Notes the last of the trials that ended."""
    leads = best_of(run.reports, run) is report
    facts = {key: report.get(key) for key in LOGGED}
    run.event("trial", metric=run.plan.metric, best=leads, what=described(report["resolved"]), **facts)


def baselines(run: Run) -> None:
    """What sees nothing, then each modality alone with the default of each learner: what fusion has to beat."""
    modalities = run.plan.modalities()
    if run.recipe.search is not None and not run.recipe.search.baselines:
        return
    run.constant = run.ranks.first(partial(_constant, run))
    if len(modalities) < 2:
        return
    for name, resolved, share in _single_modalities(run):
        known = run.ranks.first(partial(_report, run, name))
        if run.ranks.broadcast(run.stopping()):
            return
        deadline = share_of_time(run, BASELINE_SHARE * share)
        report = known or train(run, Asked(name, resolved, BASELINE), None, deadline)
        run.baselines.append(report)
        run.event("baseline", name=report["name"], metric=run.plan.metric, value=report["value"], error=report["error"])


def _constant(run: Run) -> float | None:
    """The metric of the best answer that is the same for every row; None if there is none. Rank 0 only."""
    from automm.train.constant import constant_metrics

    try:
        value = constant_metrics(run.bench)[run.plan.metric]
    except Exception as problem:  # a plugin's task or loss may need more than this; trials will tell
        run.warn(f"the constant answer could not be measured: {problem}")
        return None
    run.event("baseline", name=CONSTANT, metric=run.plan.metric, value=value, error=None)
    return value


def _single_modalities(run: Run) -> list[tuple[str, dict[str, Any], float]]:
    """Name, configuration and share of the baselines' time of each modality with each learner, the quick ones first."""
    defaults: dict[str, dict[str, Any]] = {}
    for resolved, _ in first_trials(run.plan, run.plugins.registry, run.dear):
        defaults.setdefault(resolved["learner"]["name"] if "learner" in resolved else NETWORK, resolved)
    found = []
    for learner, resolved in defaults.items():
        for modality, slugs in run.plan.modalities().items():
            own = [slug for slug in slugs if slug in resolved["encoders"]]
            if own and not (learner and _unsuited(run, learner, own)):
                name = f"only-{modality}" + (f"-{learner}" if learner != NETWORK else "")
                found.append((name, single(resolved, own), 1 / len(run.plan.modalities())))
    return found


def _unsuited(run: Run, learner: str, slugs: Sequence[str]) -> str | None:
    """Why a learner does not fit some of the inputs alone."""
    cls = run.plugins.registry.get("learner", learner)
    inputs = tuple(item.info for item in run.plan.inputs if item.slug in slugs)
    context = Context(run.plan.task, inputs, run.plan.rows["train"], run.prepared.task.target(), metric=run.plan.metric)
    with blamed(run.plugins.registry, cls, "unsuited"):
        return cls.unsuited(context, cls.Config())  # type: ignore[no-any-return]


def _report(run: Run, name: str) -> dict[str, Any] | None:
    return run.log.report(name) if run.log else None
