"""The best model of one modality, which fusion has to beat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from automm.answers import decided, kept_answers
from automm.core.kinds import Task
from automm.package.assembled import assemble, tested_answers, view
from automm.run import Member, Run
from automm.search.difference import Answered, difference
from automm.train.module import measure


def champion(
    run: Run, winner: Mapping[str, Any], members: Sequence[Member], task: Task, own: Answered | None
) -> dict[str, Any]:
    """What the best model of one modality reaches, which fusion has to beat, and by how much the winner beats it.

    Args:
        run: The run, with the task that reads answers in the usual way.
        winner: Its "single" holds the model; empty if there is none.
        members: The winner's models.
        task: Reads answers by the winner's decision.
        own: The winner's answers on the test rows; None without these.

    Returns:
        "name", "valid" and "test" metrics, and "difference" (empty where the winner is this model); empty if there is
        none.
    """
    for single in winner["single"]:
        member, reading = Member(*single["member"]), decided(run.prepared.task, single["decision"])
        found: dict[str, Any] = {"name": member.name, "valid": single["metrics"], "test": {}, "difference": {}}
        assembled = assemble(run, [member])
        tested = view(run, "test", assembled) if run.plan.rows["test"] else None
        theirs = None
        if tested is not None and len(tested.positions):
            theirs = tested_answers(run, assembled, tested, reading)
            found["test"] = measure(reading, theirs.answers, theirs.target)
        if [one.name for one in members] != [member.name]:
            sides = (own, theirs) if own is not None and theirs is not None else None
            asked = partial(_difference, run, sides, (members, task), ([member], reading))
            found["difference"] = run.ranks.first(asked)
        return found
    return {}


def _difference(
    run: Run,
    tested: tuple[Answered, Answered] | None,
    one: tuple[Sequence[Member], Task],
    other: tuple[Sequence[Member], Task],
) -> dict[str, Any]:
    """The difference on the test rows; without them on the validation rows, with the answers of the trials."""
    pair = tested or (_kept(run, *one), _kept(run, *other))
    return {"part": "test" if tested else "valid", **difference(*pair, run.plan.seed)}


def _kept(run: Run, members: Sequence[Member], task: Task) -> Answered:
    """The trials' answers on the validation rows, averaged."""
    kept = [kept_answers(run, member.name) for member in members]
    answers = kept[0].answers
    if len(members) > 1:
        answers = task.average([one.answers for one in kept], [member.weight for member in members])
    return Answered(task.metrics()[run.plan.metric], answers, kept[0].rows, kept[0].target)
