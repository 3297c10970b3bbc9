# ruff: noqa: E501
from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # top level
        (
            "modle: {fusion: gated}",
            "3:1 modle: unknown key 'modle'; did you mean 'model'? (task, data, target, inputs, ",
        ),
        ("metric:", "3:1 metric: must be the name of a metric, not nothing"),
        ("seed: -1", "3:1 seed: must be a whole number from 0 to 4294967295, got -1"),
        ("seed: yes", "3:1 seed: must be a whole number from 0 to 4294967295, not 'yes'"),
        ("seed: true", "3:1 seed: must be a whole number from 0 to 4294967295, not the truth value true"),
        ("seed: 1.5", "3:1 seed: must be a whole number from 0 to 4294967295, got 1.5"),
        ("seed: 1\nseed: 2", "4:1 seed: the key is repeated; it stands in line 3 already"),
        # task
        ("task: clases", "3:1 task: unknown task 'clases'; did you mean 'classes'? (amount, classes)"),
        ("task: [classes]", "3:1 task: a recipe has one task, not a list"),
        ("task: {smoothing: 0.1}", "3:1 task: `name` is missing; write {name: ..., field: ...}"),
        (
            "task: {name: classes, smoothing: 2}",
            "3:23 task.smoothing: must be less than 1, got 2",
        ),
        # inputs
        (
            "inputs: {a: wrods}",
            "3:10 inputs.a: unknown modality 'wrods'; did you mean 'words'? (picture, table, words, ",
        ),
        ("inputs: [a]", "3:1 inputs: must be a mapping such as {title: text, photo: image}, not a list"),
        ("inputs: {}", "3:1 inputs: is empty; write {title: text, photo: image} or leave the key out"),
        ("inputs: {a: {modalty: words}}", "3:14 inputs.a.modalty: unknown key 'modalty'; did you mean 'modality'?"),
        ("inputs: {a: {column: b, columns: [c]}}", "3:25 inputs.a.columns: write either `column` or `columns`"),
        ('inputs: {"*": [a]}', '3:10 inputs.*: "*" stands for all columns'),
        ("inputs: {season: words}", "3:10 inputs.season: 'season' is the target, which an input must not show"),
        ("inputs: {a: {column: season}}", "3:10 inputs.a: 'season' is the target"),
        ("inputs: {a: words}\nignore: a", "3:10 inputs.a: 'a' stands under `ignore` too"),
        ("ignore: [a, season]", "3:13 ignore: 'season' is the target"),
        ("ignore: [a, a]", "3:13 ignore: 'a' is listed twice"),
        ("ignore: []", "3:1 ignore: the list is empty; name at least one, or leave the key out"),
        ("ignore: [[a]]", "3:10 ignore: must be a column, not a list"),
        # split
        ("split: rnadom", "3:1 split: unknown split 'rnadom'; did you mean 'random'? (random, group, time)"),
        ("split: group", "3:1 split: a group split needs a column: {group: column}"),
        ("split: {method: time}", "3:1 split: a time split needs a column: {time: column}"),
        ("split: {method: time, colum: a}", "3:23 split.colum: unknown key 'colum'; did you mean 'column'?"),
        ("split: {group: a, time: b}", "3:1 split: group and time exclude each other"),
        ("split: {column: a}", "3:9 split.column: a random split takes no column"),
        ("split: {group: a, column: b}", "3:19 split.column: the column stands at `group` already"),
        ("split: {valid: 0}", "3:9 split.valid: must be a share between 0 and 1, got 0"),
        ("split: {valid: 0.6, test: 0.4}", "3:1 split: valid and test leave no rows to train on"),
        # imbalance
        ("imbalance: [auto, weights]", "3:1 imbalance: auto tries all remedies already"),
        (
            "imbalance: [none, weights]\nmodel: {loss: cross_entropy}",
            "3:1 imbalance: 'weights' chooses the loss, but model.loss names 'cross_entropy': leave one of them out",
        ),
        # model
        (
            "model: {fusion: gatd}",
            "3:9 model.fusion: unknown fusion 'gatd'; did you mean 'gated'? (aligned, concat, gated)",
        ),
        ("model:\n  fusion: [concat,\n    gatd]", "5:5 model.fusion: unknown fusion 'gatd'"),
        ("model: {fusion: [gated, gated]}", "3:25 model.fusion: fusion 'gated' is listed twice with the same fields"),
        (
            "model: {fusion: {name: gated, widht: 8}}",
            "3:31 model.fusion.widht: unknown field of fusion 'gated' 'widht'; did",
        ),
        ("model: {fusion: {name: gated, width: 9}}", "3:9 model.fusion: fusion 'gated': heads 2 must divide width 9"),
        ("model: {loss: huber}", "3:9 model.loss: loss 'huber' needs the field 'delta': Where the square ends."),
        ("model: {loss: {name: huber, delta: 0}}", "3:29 model.loss.delta: must be greater than 0, got 0"),
        ("model: {loss: nowhere:huber}", "3:9 model.loss: unknown loss 'nowhere:huber'"),
        (
            "task: classes\nmodel: {loss: {name: huber, delta: 1}}",
            "4:16 model.loss.name: loss 'huber' takes targets of the kind number, but the task classes has class",
        ),
        (
            "task: classes\nmodel: {fusion: aligned}",
            "4:9 model.fusion: fusion 'aligned' gives aligned, but the task classes needs vector",
        ),
        (
            "inputs: {photo: picture}\nmodel: {encoders: {photo: bag}}",
            "4:20 model.encoders.photo: encoder 'bag' is for the modality words, but 'photo' is picture",
        ),
        (
            "inputs: {price: number}\nmodel: {encoders: {price: bag}}",
            "4:20 model.encoders.price: encoder 'bag' is for the modality words, but 'price' is table",
        ),
        ("model: {encoders: {picture: bag}}", "3:20 model.encoders.picture: encoder 'bag' is for the modality words"),
        (
            "inputs: {photo: picture}\nmodel: {encoders: {foto: pixels}}",
            "4:20 model.encoders.foto: unknown input or modality 'foto'; did you mean 'photo'? (photo, picture, table, words)",
        ),
        ('model: {encoders: {"*": bag}}', "3:20 model.encoders.*: write the name of a modality in place of"),
        # fields
        ("train: {epoch: 3}", "3:9 train.epoch: unknown field of train 'epoch'; did you mean 'epochs'? (epochs, "),
        ("train: {epochs: 0}", "3:9 train.epochs: must be greater than or equal to 1, got 0"),
        ("train: {epochs: 1.5}", "3:9 train.epochs: must be a whole number, got 1.5"),
        ("train: {epochs: '3'}", '3:9 train.epochs: must be a whole number, got "3"'),
        ("train: {epochs: true}", "3:9 train.epochs: must be a whole number, got true"),
        ("train: {epochs: []}", "3:9 train.epochs: the list is empty"),
        ("train: {epochs: [3, 0]}", "3:21 train.epochs: must be greater than or equal to 1, got 0"),
        ("train: {epochs: [3, 3]}", "3:21 train.epochs: '3' is listed twice"),
        ("train: {epochs: {low: 3}}", "3:9 train.epochs: a range needs both low and high"),
        ("train: {epochs: {low: 3, hgih: 5}}", "3:26 train.epochs.hgih: unknown key 'hgih'; did you mean 'high'?"),
        ("train: {epochs: {low: 5, high: 3}}", "3:9 train.epochs: the range is empty: low 5 is above high 3"),
        ("train: {epochs: {low: 0, high: 3}}", "3:18 train.epochs.low: must be greater than or equal to 1, got 0"),
        (
            "train: {epochs: {low: 1, high: 3, step: 0.5}}",
            "3:35 train.epochs.step: must be a whole number above 0, got 0.5",
        ),
        ("train: {warmup: {low: 0, high: 0.3, log: true}}", "3:9 train.warmup: log: true needs low above 0, got 0"),
        (
            "train: {warmup: {low: 0, high: 0.3, log: 1}}",
            "3:37 train.warmup.log: must be true or false, not the number 1",
        ),
        ("train: {warmup: .nan}", '3:9 train.warmup: must be a number, got ".nan"'),
        ("train: {precision: b16}", "3:9 train.precision: unknown value 'b16'; did you mean 'bf16'? (auto, 32, bf16)"),
        (
            "train: {precision: {low: 1, high: 2}}",
            "3:9 train.precision: takes no range: list the values to search over",
        ),
        (
            "model: {encoders: {words: {name: bag, adapt: last_0}}}",
            "3:39 model.encoders.words.adapt: What is trained: `none`, `last_N` (the last N layers), `lora` (adapters; "
            '`lora_R`: of rank R) or `full`, got "last_0"',
        ),
        (
            "model: {encoders: {words: {name: bag, kernels: [3, a]}}}",
            "3:39 model.encoders.words.kernels: must be a whole",
        ),
        ("model: {encoders: {words: {name: bag, kernels: 3}}}", "3:39 model.encoders.words.kernels: must be a"),
        # metric, require
        (
            "metric: acuracy",
            "3:1 metric: unknown metric 'acuracy'; did you mean 'accuracy'? (rmse, r2, accuracy, macro_f1)",
        ),
        (
            "task: classes\nmetric: rmse",
            "4:1 metric: unknown metric of the task classes 'rmse'; there are: accuracy, macro_f1",
        ),
        ("metric: [accuracy]", "3:1 metric: must be the name of a metric, not a list"),
        (
            "require: {latency: '<= 20'}",
            "3:11 require.latency: unknown metric or gate 'latency'; did you mean 'latency_ms'?",
        ),
        (
            "require: {accuracy: 0.8}",
            '3:11 require.accuracy: must be a comparison such as ">= 0.8", not the number 0.8',
        ),
        (
            "require: {accuracy: '=> 0.8'}",
            "3:11 require.accuracy: must be a comparison such as \">= 0.8\", not '=> 0.8'",
        ),
        # search, export
        (
            "search: {trails: 5}",
            "3:10 search.trails: unknown key 'trails'; did you mean 'trials'? (trials, time, rungs, parallel, objectives, storage, study, baselines, ensemble)",
        ),
        (
            "search: {trials: 1, objectives: [latency]}",
            "3:34 search.objectives: unknown objective 'latency'; did you mean 'latency_ms'? (latency_ms, size_mb)",
        ),
        ("search: {trials: 1, objectives: [size_mb, size_mb]}", "3:43 search.objectives: 'size_mb' is listed twice"),
        ("search: {trials: 0}", "3:10 search.trials: must be a whole number from 1 to 1000000, got 0"),
        (
            "search: {time: 2 weeks}",
            "3:10 search.time: must be a time such as 2h, 20m, 90s or a number of seconds, not '2 w",
        ),
        ("search: {time: 0}", "3:10 search.time: must be a time such as"),
        ("search: {storage: 'postgresql://h/d'}", "3:1 search: name a budget: trials, time or both"),
        ("search: {trials: 1, storage: file.db}", "3:21 search.storage: 'file.db' is no URL"),
        ("search: {trials: 1, study: ours}", "3:21 search.study: needs search.storage: only a database is shared"),
        ("search: true", "3:1 search: must be a mapping such as {trials: 60, time: 2h}, not the truth value true"),
        ("log: tensorbord", "3:1 log: unknown logger 'tensorbord'; did you mean 'tensorboard'?"),
        ("log: [wandb, wandb]", "3:14 log: 'wandb' is listed twice"),
        ("log: {name: wandb, uri: 'https://h'}", "3:20 log.uri: unknown key 'uri'; there are: name, project, online"),
        (
            "log: {name: mlflow, uri: server}",
            "3:21 log.uri: 'server' is no URL; write https://host or sqlite:///file.db",
        ),
        ("log: {name: wandb, online: maybe}", "3:20 log.online: must be true or false, not 'maybe'"),
        ("log: {project: rooms}", "3:1 log: the logger's name is missing; write {name: wandb}"),
        ("export: [onnx, mlflw]", "3:16 export: unknown exporter 'mlflw'; there are: flat, onnx"),
    ],
)
def test_one_mistake_is_one_problem_with_its_place(problems, text, expected):
    (problem,) = problems(text + "\n")
    assert problem.startswith(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("dta: x.csv\ntarget: y\n", "1:1 dta: unknown key 'dta'; did you mean 'data'?"),
        ("data: x.csv\n", "1:1 target: is missing; add a line such as target: price"),
        ("data: x.csv\ntarget:\n", "2:1 target: must be a column, not nothing"),
        ("data: x.csv\ntarget: [a, a]\n", "2:13 target: 'a' is listed twice"),
        ("data: x.csv\ntarget: {colum: a}\n", "2:10 target.colum: unknown key 'colum'; did you mean 'column'?"),
        ("data: x.csv\ntarget: {separator: ','}\n", "2:1 target: `column` is missing"),
        ("data: x.csv\ntarget: {column: a, separator: 1}\n", "2:21 target.separator: must be a text such as"),
        ("data: {test: x.csv}\ntarget: y\n", "1:1 data: `train` is missing"),
        ("data: {trian: x.csv}\ntarget: y\n", "1:8 data.trian: unknown key 'trian'; did you mean 'train'?"),
        (
            "data: {train: x, max_bad_rows: 5}\ntarget: y\n",
            "1:18 data.max_bad_rows: must be a share from 0 to 1, got 5",
        ),
        ("data: https://h/x.csv\ntarget: y\n", "1:1 data: https://h/x.csv is a URL; download it"),
        ("data: [hf://a, b.csv]\ntarget: y\n", "1:1 data: hf://a cannot be joined with other files"),
        ("data: hf://\ntarget: y\n", "1:1 data: write hf://name or hf://name:config"),
        (
            "data: {train: a, valid: b}\nsplit: {group: g}\ntarget: y\n",
            "2:1 split: has no effect, as `data` names a valid",
        ),
        (
            "data: {train: a, test: b}\nsplit: {test: 0.1}\ntarget: y\n",
            "2:9 split.test: `data` names a test table already",
        ),
        (
            "data: {train: a, valid: b}\nsplit: {valid: 0.1, test: 0.1}\ntarget: y\n",
            "2:9 split.valid: `data` names a valid table already",
        ),
        ("- a\n- b\n", "1:1 must be a mapping such as {data: products.csv, target: price}, not a list"),
        ("just text\n", "1:1 must be a mapping such as {data: products.csv, target: price}, not 'just text'"),
    ],
)
def test_one_mistake_about_the_data_is_one_problem(problems, text, expected):
    (problem,) = problems(text, base="")
    assert problem.startswith(expected)


def test_all_problems_come_in_one_go_in_the_order_of_the_file(problems):
    found = problems(  # one, two or three mistakes a line
        "seed: x\nmodel:\n  fusion: gatd\n  loss: [cross, huber]\ntrain:\n  epochs: 0\n  lr: 1\n"
        "split: {valid: 2, group: g, method: time}\ninputs: {season: words}\ndatas: 3\nseed: 2\n"
    )
    assert [line.split()[0] for line in found] == [
        "3:1", "5:3", "6:10", "6:17", "8:3", "9:3", "10:1", "10:9", "11:10", "12:1", "13:1",
    ]  # fmt: skip


def test_an_unknown_task_does_not_spoil_its_metric(problems):
    assert problems("task: clases\nmetric: macro_f1\n") == [
        "3:1 task: unknown task 'clases'; did you mean 'classes'? (amount, classes)"
    ]
