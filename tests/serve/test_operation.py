"""What operators rely on: keys, deadlines, metrics, logs, capture, memory."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import shutil
import socket
import threading
import time

import pytest

from automm.data.sources import open_table
from automm.runtime.predictor import load
from automm.serve.app import App
from automm.serve.logs import JsonFormatter
from automm.serve.server import _listen
from automm.serve.settings import Batching, Settings
from serve.conftest import encoded
from serve.packages import picture, row

KEY = "a-long-enough-key-for-tests"
OTHER = "another-long-enough-key-here"
SECRET = "Jane Doe, 12 Nowhere Lane"


def test_keys(ask):
    async def check(client):
        async def status(path="/v2", **headers):
            found = await client.http.get(
                path, headers={name.replace("_", "-"): value for name, value in headers.items()}
            )
            return found.status_code

        assert await status() == 401
        assert await status(authorization=f"Bearer {KEY}") == 200
        assert await status(authorization=f"bearer {OTHER}") == 200
        assert await status(x_api_key=KEY) == 200
        basic = base64.b64encode(f"me:{KEY}".encode()).decode()
        assert await status(authorization=f"Basic {basic}") == 200
        for wrong in (f"Bearer {KEY}x", f"Bearer {KEY[:-1]}", "Bearer", "Bearer ", "Basic !!", f"Digest {KEY}", KEY):
            assert await status(authorization=wrong) == 401, wrong
        for path in ("/", "/docs", "/openapi.json", "/metrics", "/v2/models/weather", "/nothing"):
            assert await status(path) == 401, path
        assert await status("/v2/health/live") == await status("/v2/health/ready") == 200
        refused = await client.predict([encoded()])
        assert refused.json() == {"error": "an API key is needed: send the header Authorization: Bearer KEY"}
        assert refused.headers["www-authenticate"].startswith("Basic")

    ask(check, keys=(KEY, OTHER))


def slow(client, seconds):
    """Makes the model take its time."""
    version = client.app.models.find()
    inner = version.batcher._predict

    def predict(table, rows):
        time.sleep(seconds)
        return inner(table, rows)

    version.batcher._predict = predict


def test_deadlines(ask):
    async def check(client):
        model, go, done = client.app.models.find().batcher, threading.Event(), []
        inner = model._predict

        def waiting(table, rows):
            assert go.wait(60)
            done.append(rows)
            return inner(table, rows)

        model._predict = waiting
        late = await client.predict([encoded()], headers={"x-request-timeout": "0.1"})
        assert late.status_code == 504
        assert late.json()["error"] == "no answer within 0.1 seconds"
        assert not done, "the client is not kept waiting for a model that is late"
        go.set()
        assert (await client.predict([encoded()])).status_code == 200
        longer = await client.predict([encoded()] * 2, headers={"x-request-timeout": "900"})
        assert longer.status_code == 200
        for wrong in ("soon", "-1", "nan"):
            assert (await client.predict([encoded()], headers={"x-request-timeout": wrong})).status_code == 400

    ask(check, timeout=60.0)


def test_a_full_queue_gets_429_and_accepted_requests_are_answered(ask):
    async def check(client):
        slow(client, 0.05)
        found = await asyncio.gather(*[client.predict([encoded()]) for _ in range(60)])
        statuses = [answer.status_code for answer in found]
        assert set(statuses) == {200, 429}
        assert 8 <= statuses.count(200) <= 30
        busy = next(answer for answer in found if answer.status_code == 429)
        assert int(busy.headers["retry-after"]) >= 1
        assert "the queue is full" in busy.json()["error"]

    ask(check, batching=Batching(rows=4, queue=8))


def test_the_event_loop_answers_while_the_model_runs(ask):
    async def check(client):
        slow(client, 0.6)
        running = asyncio.create_task(client.predict([encoded()]))
        await asyncio.sleep(0.05)
        assert (await client.http.get("/v2/health/live")).status_code == 200
        assert not running.done()
        assert (await running).status_code == 200

    ask(check)


@pytest.mark.parametrize("graph", [None, b"broken"])
def test_a_worker_in_place_of_another_takes_no_request_before_it_can_answer(package, tmp_path, graph):
    source = shutil.copytree(package, tmp_path / "package")
    if graph:
        (source / "graphs" / "main.onnx").write_bytes(graph)

    async def check():
        app = App(Settings(sources={"weather": source}, threads=1, poll=0, replaces=True))
        async with app._router.lifespan_context(app):  # the port is opened after this
            assert app.models.ready == (graph is None)
            assert (app.failed is None) == (graph is None)

    asyncio.run(asyncio.wait_for(check(), 60))


@pytest.mark.parametrize("first", ["loads", "ends"])
def test_the_other_workers_wait_for_the_first(package, first):
    """Or one would be asked whether the server is ready, and the first, which still loads, for predictions."""

    async def check():
        told, tells = os.pipe()
        one = App(Settings(sources={"weather": package}, threads=1, poll=0, tells=tells))
        other = App(Settings(sources={"weather": package}, threads=1, poll=0, replaces=True, told=told))
        opened = asyncio.Event()

        async def work():
            async with other._router.lifespan_context(other):  # the port is opened after this
                opened.set()

        working = asyncio.create_task(work())
        await other.models.loaded.wait()
        await asyncio.sleep(0.3)
        assert not opened.is_set()
        if first == "ends":
            os.close(tells)
            await working
        else:
            async with one._router.lifespan_context(one):
                await working
                assert one.models.ready
            os.close(tells)
        os.close(told)

    asyncio.run(asyncio.wait_for(check(), 60))


def samples(text, name):
    """Lines of a metric → label text to value."""
    found = {}
    for line in text.splitlines():
        if line.startswith((f"{name}{{", f"{name} ")):
            labels, _, value = line.rpartition(" ")
            found[labels.removeprefix(name)] = float(value)
    return found


def test_metrics(ask):
    async def check(client):
        await client.predict([encoded(), encoded(weight="heavy")])
        await client.predict([encoded()], "/models/sea/predict")
        found = await client.http.get("/metrics")
        assert found.headers["content-type"].startswith("text/plain")
        text = found.text
        assert samples(text, "automm_requests_total") == {
            '{code="200",endpoint="predict",model="weather"}': 1,
            '{code="404",endpoint="predict",model=""}': 1,
        }
        model = 'model="weather"'
        assert samples(text, "automm_rows_total") == {
            f'{{{model},outcome="predicted",version="1"}}': 1, f'{{{model},outcome="refused",version="1"}}': 1,
        }  # fmt: skip
        assert samples(text, "automm_batch_rows_sum") == {f'{{{model},version="1"}}': 2}
        assert samples(text, "automm_queue_rows") == {f'{{{model},version="1"}}': 0}
        assert list(samples(text, "automm_model_ready").values()) == [1]
        assert samples(text, "automm_active_requests") == {"": 1}
        assert samples(text, "process_resident_memory_bytes")[""] > 1e7
        names = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE automm_")}
        units = ("_seconds", "_bytes", "_rows", "_total", "_requests", "_ready", "_created")
        assert all(name.endswith(units) for name in names), names

    ask(check)


def test_logs_hold_nothing_of_a_request(package, served):
    served.client.post("/predict", json=[encoded(title=SECRET, weight=SECRET, photo=SECRET.encode())])
    served.client.post("/predict?name=" + SECRET, content=SECRET, headers={"content-type": "application/json"})
    served.client.post("/models/" + SECRET + "/predict", json=[{SECRET: SECRET}])
    served.client.get("/" + SECRET, headers={"x-request-id": SECRET, "user-agent": SECRET, "cookie": SECRET})
    served.until(lambda: len([e for e in served.events("request") if e["status"] == 404]) >= 2)
    log = served.log()
    for part in ("Jane", "Nowhere", "127.0.0.1:5", base64.b64encode(SECRET.encode()).decode()[:20]):
        assert part not in log
    refused = next(event for event in served.events("request") if event["status"] == 422)
    assert {name: refused[name] for name in ("endpoint", "model", "version", "rows", "refused", "level")} == {
        "endpoint": "predict", "model": "weather", "version": "1", "rows": 1, "refused": 1, "level": "info",
    }  # fmt: skip
    assert refused["bytes"] > 100
    assert 0 < refused["seconds"] < 10


def test_an_exception_is_logged_without_its_message(ask, caplog):
    async def check(client):
        def broken(table, rows):
            raise ValueError(f"could not convert {SECRET!r}")

        client.app.models.find().batcher._predict = broken
        found = await client.predict([encoded()])
        assert found.status_code == 500
        assert found.json() == {"error": "the server failed to answer this request; its log says where"}

    with caplog.at_level(logging.INFO, "automm.serve"):
        ask(check)
    record = next(record for record in caplog.records if record.levelname == "ERROR")
    line = json.loads(JsonFormatter().format(record))
    assert line["exception"]["type"] == "ValueError"
    assert any("broken" in place for place in line["exception"]["at"])
    assert "Jane" not in json.dumps(line)


def captured(folder):
    return [json.loads(line) for file in folder.glob("rows-*.jsonl") for line in file.read_text("utf-8").splitlines()]


def test_captured_rows_are_a_table_that_predicts_the_same(ask, tmp_path, package):
    folder = tmp_path / "captured"

    async def check(client):
        sent = [encoded(title="ice", photo=picture(7)), encoded(weight="heavy"), encoded(photo=None)]
        return (await client.predict(sent)).json()["predictions"]

    answered = ask(check, capture=folder)
    rows = captured(folder)
    assert [row["title"] for row in rows] == ["ice", "sun and beach", "sun and beach"]
    assert [row["_prediction"] for row in rows] == [answer["prediction"] for answer in answered]
    assert "'heavy' is not a number" in rows[1]["_error"]
    assert (rows[0]["_model"], rows[0]["_version"], rows[2]["photo"]) == ("weather", "1", None)
    assert (folder / rows[0]["photo"]).read_bytes() == picture(7)
    assert folder.joinpath("media").stat().st_mode & 0o077 == 0

    name = next(folder.glob("rows-*.jsonl")).name
    source = open_table([name], folder, tmp_path)
    ((_, columns),) = source.chunks(["title", "weight", "colour", "photo"], size=10)
    again = load(package, threads=1).predict(dict(columns), folder=folder)
    assert again.columns["prediction"] == [answer["prediction"] for answer in answered]


def test_capture_is_bounded_and_deletes_nothing(ask, tmp_path):
    folder = tmp_path / "captured"

    async def check(client):
        for at in range(12):
            assert (await client.predict([encoded(title=f"sun {at}", photo=picture(at, 40))])).status_code == 200
        client.app.capture.close()
        return client.app.metrics.text().decode()

    text = ask(check, capture=folder, capture_bytes=2000)
    kept = captured(folder)
    assert 1 <= len(kept) < 12
    assert [row["title"] for row in kept] == [f"sun {at}" for at in range(len(kept))]
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) <= 2000
    counts = samples(text, "automm_captured_rows_total")
    assert counts == {'{outcome="written"}': len(kept), '{outcome="left"}': 12 - len(kept)}


def test_memory_stays_flat(served):
    """Some hundred requests after a warm-up of as many kinds; docs/benchmarks/server.py asks a hundred thousand."""

    def resident():
        return samples(served.client.get("/metrics").text, "process_resident_memory_bytes")[""]

    bodies = [json.dumps([encoded(title="sun " * at, photo=picture(at))]) for at in range(1, 60)]

    def ask(count):
        threads = [threading.Thread(target=work, args=(count // 4,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def work(count):
        for at in range(count):
            headers = {"content-type": "application/json"}
            assert served.client.post("/predict", content=bodies[at % len(bodies)], headers=headers).status_code == 200

    ask(120)
    before = resident()
    ask(240)
    assert resident() - before < 4e6


@pytest.mark.parametrize("rows", [1, 3])
def test_any_batch_size_answers_alike(ask, package, whole, rows):
    """Also in 8 bits, where a scale for the whole batch would let a row see its neighbours."""
    titles = ["sun", "ice ice frost", "maybe " * 20, None]

    async def check(client):
        answers = await asyncio.gather(*[client.predict([encoded(title=title)]) for title in titles])
        return [answer.json()["predictions"][0]["probability_warm"] for answer in answers]

    single = {}
    for path in (package, whole):
        predictor = load(path, threads=1)
        single[path] = [predictor.predict([row(title)]).columns["probability_warm"][0] for title in titles]
        found = ask(check, sources={"weather": path}, batching=Batching(rows=rows))
        assert found == pytest.approx(single[path], abs=1e-6)
    assert single[whole] != pytest.approx(single[package], abs=1e-5), "8 bits round"
    assert single[whole] == pytest.approx(single[package], abs=0.02)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_small_answers_are_sent_at_once(host, capsys):
    """Without TCP_NODELAY head and body of an answer wait 40 ms for one another."""

    async def check():
        listener = _listen(Settings(sources={}, host=host, port=0))
        found = asyncio.get_running_loop().create_future()

        def accepted(reader, writer):
            own = writer.get_extra_info("socket")
            found.set_result(own.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        server = await asyncio.start_server(accepted, sock=listener)
        _, writer = await asyncio.open_connection(*listener.getsockname()[:2])
        try:
            return await asyncio.wait_for(found, 10)
        finally:
            writer.close()
            server.close()
            await server.wait_closed()

    assert asyncio.run(check())
