"""Makes the committed package of a format version: `python tests/package/make_fixture.py v1`.

It holds what every package holds, in few kilobytes: text, a table and a picture through built-in operations, and one
linear layer over them. Packages of released format versions are never made again; a new version gets a new folder.
"""

from __future__ import annotations

import base64
import io
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from automm_image.pixels import Pixels
from automm_tabular.processor import Table
from automm_tasks.decoders import Classes
from automm_text.ngrams import Ngrams
from PIL import Image

from automm.api import InputInfo, TargetInfo, Task
from automm.package.content import PackageContent, PackageInput
from automm.package.write import write_package
from automm.runtime.predictor import load

FOLDER = Path(__file__).parent / "fixtures"
NAMES = ("cold", "warm")
WORDS = ["snow", "ice", "sun", "beach", "rain", "wind"]
PLACES = ["north", "south", "sea"]


class Season(Task):
    """What a package needs of a task."""

    name = "classification"
    target_kind = "class"

    def target(self) -> TargetInfo:
        return TargetInfo("class", 2, NAMES, (12, 12), 24)

    def decoder(self) -> Any:
        return Classes(Classes.Config(names=NAMES))


def rows(count: int = 24) -> list[dict[str, Any]]:
    """Texts, numbers, categories and 6 × 6 pictures, with some missing cells."""
    rng = np.random.default_rng(7)
    found = []
    for at in range(count):
        picture = io.BytesIO()
        Image.fromarray(rng.integers(0, 255, (6, 6, 3), np.uint8)).save(picture, "PNG")
        uri = "data:image/png;base64," + base64.b64encode(picture.getvalue()).decode()
        row = {
            "note": " ".join(rng.choice(WORDS, 4)),
            "degrees": f"{rng.normal(10, 8):.1f}",
            "place": str(rng.choice(PLACES)),
            "photo": uri,
        }
        if at % 7 == 3:
            row[list(row)[at % 4]] = ""
        found.append(row)
    return found


def graph(processors: dict[str, Any], arrays: dict[str, np.ndarray]) -> bytes:
    """Means and counts of all arrays → two probabilities, written node by node."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(3)
    terms = processors["note"].size
    numbers = arrays["tabular.number"].shape[1]
    embedding = rng.normal(size=(terms, 2)).astype(np.float32)
    places = rng.normal(size=(8, 2)).astype(np.float32)
    weights = {
        "embedding": embedding,
        "places": places,
        "numbers": rng.normal(size=(numbers, 2)).astype(np.float32),
        "colours": rng.normal(size=(3, 2)).astype(np.float32) / 255,
        "one": np.array([1]),
        "last": np.array([2]),
        "sides": np.array([1, 2]),
    }
    nodes = [
        helper.make_node("Gather", ["embedding", "note.ids"], ["vectors"]),
        helper.make_node("Unsqueeze", ["note.weights", "last"], ["factors"]),
        helper.make_node("Mul", ["vectors", "factors"], ["scaled"]),
        helper.make_node("ReduceSum", ["scaled", "one"], ["text"], keepdims=0),
        helper.make_node("Gather", ["places", "tabular.category"], ["place_vectors"]),
        helper.make_node("ReduceSum", ["place_vectors", "one"], ["place"], keepdims=0),
        helper.make_node("MatMul", ["tabular.number", "numbers"], ["number"]),
        helper.make_node("Cast", ["photo.pixels"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels", "sides"], ["mean"], keepdims=0),
        helper.make_node("MatMul", ["mean", "colours"], ["picture"]),
        helper.make_node("Sum", ["text", "place", "number", "picture"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["out_probabilities"], axis=1),
    ]
    types = {"int64": TensorProto.INT64, "float32": TensorProto.FLOAT, "uint8": TensorProto.UINT8}
    taken = ["note.ids", "note.weights", "tabular.category", "tabular.number", "photo.pixels"]
    inputs = [
        helper.make_tensor_value_info(
            name,
            types[str(arrays[name].dtype)],
            ["batch", *(["time"] if name.startswith("note") else arrays[name].shape[1:])],
        )
        for name in taken
    ]
    outputs = [helper.make_tensor_value_info("out_probabilities", TensorProto.FLOAT, ["batch", 2])]
    initial = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    model = helper.make_model(
        helper.make_graph(nodes, "main", inputs, outputs, initial), opset_imports=[helper.make_opsetid("", 18)]
    )
    model.ir_version = 10
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def main(version: str) -> None:
    """Writes `fixtures/<version>` and `fixtures/<version>.json` with rows and their predictions."""
    table = rows()
    column = {name: [row[name] or None for row in table] for name in table[0]}
    note = Ngrams(Ngrams.Config(max_terms=40, space=2))
    note.fit([column["note"]])
    types = {"degrees": "number", "place": "category"}
    config = Table.Config.model_validate({"columns": tuple(types), "types": types})
    tabular = Table(config)
    tabular.fit([{name: column[name] for name in types}])
    photo = Pixels(Pixels.Config(size=8))
    processors = {"note": note, "tabular": tabular, "photo": photo}
    cells = {"note": column["note"], "tabular": {name: column[name] for name in types}, "photo": column["photo"]}
    arrays = {
        f"{slug}.{name}": array
        for slug, processor in processors.items()
        for name, array in processor(cells[slug]).items()
    }

    class Write:
        """An exporter that has its bytes ready."""

        def export_graph(self, _: object, file: Path) -> None:
            file.write_bytes(graph(processors, arrays))

    content = PackageContent(
        name=f"format_{version}",
        task=Season(Season.Config(), {"names": list(NAMES)}),
        target_columns=("season",),
        inputs=[
            PackageInput("note", InputInfo("note", "text", ("note",)), note, optional=True),
            PackageInput("tabular", InputInfo("tabular", "tabular", tuple(types), types), tabular, optional=True),
            PackageInput("photo", InputInfo("photo", "image", ("photo",)), photo, optional=True),
        ],
        graph=None,  # type: ignore[arg-type]
        exporter=Write(),  # type: ignore[arg-type]
        golden_rows=table[:2],
        metrics={"valid": {"accuracy": 0.5}, "test": {"accuracy": 0.5}},
        recipe="task: classification\ntarget: season\ndata: seasons.csv\n",
        plan={"fusion": "sum"},
        data_digest="0" * 32,
        seed=7,
        task_owner=("automm", "0.1.0"),
    )
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        path = write_package(Path(temporary) / version, content)
        shutil.copytree(path, FOLDER / version)
    found = load(FOLDER / version, threads=1).predict(table)
    assert not found.refused, found.refused
    stored = {"rows": table, "columns": found.columns}
    (FOLDER / f"{version}.json").write_text(json.dumps(stored, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
