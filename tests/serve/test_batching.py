"""The batcher alone: sharing runs, queue, deadlines, cancelling, fairness, failures."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from automm.runtime.predictor import Predictions
from automm.serve.batching import Batcher
from automm.serve.problems import Problem
from automm.serve.settings import Batching


class Model:
    """Gives back the numbers it got; waits until it may run; refuses 13, fails for 666."""

    def __init__(self):
        self.runs: list[list[int]] = []
        self.go = threading.Event()
        self.go.set()
        self.queue = 0

    def __call__(self, table, rows):
        assert self.go.wait(10)
        numbers = list(table["number"])
        assert len(numbers) == rows
        self.runs.append(numbers)
        if 666 in numbers:
            raise ZeroDivisionError
        answers = [None if number == 13 else number * 10 for number in numbers]
        return Predictions({"prediction": answers}, {at: "unlucky" for at, n in enumerate(numbers) if n == 13}, rows)

    def waiting(self, rows):
        self.queue = rows

    def batch(self, rows, seconds, queued):
        assert len(queued) >= 1


@pytest.fixture
def run():
    """Runs an asynchronous function with a model and a batcher."""

    def start(function, **options):
        async def inside():
            with ThreadPoolExecutor(4) as pool:
                model = Model()
                batcher = Batcher(model, Batching(**options), pool, model)
                try:
                    return await asyncio.wait_for(function(model, batcher), 20)
                finally:
                    model.go.set()

        return asyncio.run(inside())

    return start


def send(batcher, *numbers, seconds=10.0):
    deadline = asyncio.get_running_loop().time() + seconds
    return batcher.submit({"number": list(numbers)}, len(numbers), deadline)


def test_requests_that_wait_share_a_run(run):
    async def check(model, batcher):
        model.go.clear()
        first = send(batcher, 1)
        await asyncio.sleep(0.02)  # the model is busy now
        others = [send(batcher, at) for at in range(2, 8)]
        model.go.set()
        answers = await asyncio.gather(first, *others)
        assert [answer.columns["prediction"] for answer in answers] == [[at * 10] for at in range(1, 8)]
        assert model.runs == [[1], [2, 3, 4, 5], [6, 7]]
        assert model.queue == 0

    run(check, rows=4)


def test_requests_of_one_moment_run_together_and_each_gets_its_own_refusals(run):
    async def check(model, batcher):
        answers = await asyncio.gather(send(batcher, 1, 13), send(batcher, 2), send(batcher, 13, 3))
        assert model.runs == [[1, 13, 2, 13, 3]]
        assert [answer.refused for answer in answers] == [{1: "unlucky"}, {}, {0: "unlucky"}]
        assert [answer.columns["prediction"] for answer in answers] == [[10, None], [20], [None, 30]]

    run(check)


def test_a_large_request_does_not_hold_up_small_ones(run):
    async def check(model, batcher):
        large = send(batcher, *range(10))
        small = send(batcher, 99)
        answer = await large
        assert answer.columns["prediction"] == [at * 10 for at in range(10)]
        assert (await small).columns["prediction"] == [990]
        assert model.runs[1][0] == 99, "before the rest of the large one"
        assert sum(map(len, model.runs)) == 11

    run(check, rows=4)


def test_a_full_queue_says_when_to_come_again(run):
    async def check(model, batcher):
        await send(batcher, 0)
        model.go.clear()
        waiting = [send(batcher, 1)]
        await asyncio.sleep(0.02)
        waiting += [send(batcher, at) for at in range(4)]
        with pytest.raises(Problem) as problem:
            send(batcher, 5)
        assert problem.value.status == 429
        assert problem.value.headers == {"retry-after": "1"}
        waiting[2].cancel()  # its place is free again
        waiting.append(send(batcher, 6))
        model.go.set()
        found = await asyncio.gather(*waiting, return_exceptions=True)
        assert [getattr(answer, "columns", None) and answer.columns["prediction"] for answer in found] == [
            [10],
            [0],
            None,
            [20],
            [30],
            [60],
        ]

    run(check, rows=4, queue=4)


def test_a_queue_past_the_deadline_is_refused_at_once(run):
    async def check(model, batcher):
        slow = model.go
        slow.clear()
        first = send(batcher, 1)
        await asyncio.sleep(0.05)
        slow.set()
        await first  # 50 ms a row
        slow.clear()
        waiting = [send(batcher, 1)]
        await asyncio.sleep(0.02)
        waiting += [send(batcher, at) for at in range(10)]
        with pytest.raises(Problem, match="past the deadline"):
            send(batcher, 5, seconds=0.1)
        waiting.append(send(batcher, 5, seconds=10))
        slow.set()
        await asyncio.gather(*waiting)

    run(check, rows=4)


def test_rows_past_their_deadline_and_cancelled_ones_never_reach_the_model(run):
    async def check(model, batcher):
        model.go.clear()
        first = send(batcher, 1)
        await asyncio.sleep(0.02)
        late, gone, good = send(batcher, 2, seconds=0.01), send(batcher, 3), send(batcher, 4)
        gone.cancel()
        await asyncio.sleep(0.03)
        model.go.set()
        assert (await first).columns["prediction"] == [10]
        assert (await good).columns["prediction"] == [40]
        with pytest.raises(TimeoutError):
            await late
        assert model.runs == [[1], [4]]
        assert model.queue == 0

    run(check)


def test_a_request_fails_alone(run):
    async def check(model, batcher):
        good, bad, other = send(batcher, 1), send(batcher, 666), send(batcher, 2)
        assert (await good).columns["prediction"] == [10]
        with pytest.raises(ZeroDivisionError):
            await bad
        assert (await other).columns["prediction"] == [20]
        assert model.runs == [[1, 666, 2], [1], [666], [2]]
        assert (await send(batcher, 3)).columns["prediction"] == [30]

    run(check)


def test_without_batching_and_with_a_wait(run):
    async def alone(model, batcher):
        await asyncio.gather(*[send(batcher, at) for at in range(3)])
        assert model.runs == [[0], [1], [2]]

    run(alone, rows=1)

    async def wait(model, batcher):
        start = time.perf_counter()
        first = send(batcher, 1)
        await asyncio.sleep(0.02)
        await asyncio.gather(first, send(batcher, 2))
        assert model.runs == [[1, 2]]
        assert time.perf_counter() - start >= 0.06

    run(wait, wait=0.06)


def test_runs_side_by_side(run):
    async def check(model, batcher):
        model.go.clear()
        first = send(batcher, 1)
        await asyncio.sleep(0.02)
        second = send(batcher, 2)
        await asyncio.sleep(0.02)
        third = send(batcher, 3)
        model.go.set()
        await asyncio.gather(first, second, third)
        assert sorted(map(tuple, model.runs)) == [(1,), (2,), (3,)]

    run(check, parallel=2)
