"""MLflow: a model folder for `mlflow.pyfunc`."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from automm.api import Exporter
from automm_export.contents import Contents, as_yaml, write

WRITTEN_FOR = "3.17.2"
"""The version of MLflow whose layout is written."""
RESULTS = {"string": "string", "number": "double", "integer": "long", "boolean": "boolean"}
"""Type of a result column → MLflow's name; all else is "any"."""

README = """\
# {name} for MLflow

```python
import mlflow

model = mlflow.pyfunc.load_model("path/of/this/folder")
model.predict(frame)  # one row of results per row, with the column "error"
```

```sh
mlflow models serve -m path/of/this/folder --env-manager local --port 5000
curl http://127.0.0.1:5000/invocations -H "Content-Type: application/json" \\
    -d '{request}'
```

To keep it in a registry: `mlflow.register_model("file:///path/of/this/folder", "{label}")`.

- `{installs}` must be installed, or MLflow builds the environment from `requirements.txt` (`--env-manager virtualenv`).
- Nothing is pickled: MLflow imports `automm_export.pyfunc`, which loads `package/` with all its checks.
- Requests are JSON (`dataframe_split` or `dataframe_records`). CSV works for packages of text alone: MLflow wants one
  type per column there, and automm takes numbers as integers, floats and text.
- Cells may be missing (None); a cell that cannot be used refuses its row and says why in "error".
{media}"""


class Mlflow(Exporter):
    """Writes an `MLmodel` folder for `mlflow.pyfunc.load_model` and `mlflow models serve`; nothing is pickled."""

    class Config(Exporter.Config):
        """Settings of the model folder."""

        mlflow: Annotated[str, Field(pattern=r"^[^\s;#]*$")] = ">=3.0"
        """The versions of MLflow in the requirements."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)

    def export_package(self, package: Path, folder: Path) -> None:
        """Writes MLmodel, requirements.txt, python_env.yaml, conda.yaml, the package and a README."""
        contents = Contents(package)
        contents.copy(folder / "package")
        requirements = contents.requirements() + f"pandas\nmlflow{self.config.mlflow}\n"
        write(folder / "requirements.txt", requirements)
        write(folder / "MLmodel", as_yaml(self._mlmodel(contents, folder)))
        build = {"python": contents.python, "build_dependencies": ["pip"], "dependencies": ["-r requirements.txt"]}
        write(folder / "python_env.yaml", as_yaml(build))
        conda = [f"python={contents.python}", "pip", {"pip": requirements.split()}]
        write(
            folder / "conda.yaml", as_yaml({"name": "mlflow-env", "channels": ["conda-forge"], "dependencies": conda})
        )
        write(folder / "README.md", self._readme(contents))

    def _mlmodel(self, contents: Contents, folder: Path) -> dict[str, Any]:
        manifest = contents.manifest
        seen = uuid.UUID(contents.digest[:32])  # the same package gives the same id
        return {
            "flavors": {
                "python_function": {
                    "loader_module": "automm_export.pyfunc",
                    "data": "package",
                    "python_version": contents.python,
                    "env": {"conda": "conda.yaml", "virtualenv": "python_env.yaml"},
                },
                "automm": {"data": "package", "version": manifest.automm, "digest": contents.digest},
            },
            "mlflow_version": WRITTEN_FOR,
            "model_size_bytes": sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()),
            "model_uuid": seen.hex,
            "signature": {
                "inputs": json.dumps(inputs(contents), ensure_ascii=False),
                "outputs": json.dumps(outputs(contents), ensure_ascii=False),
                "params": None,
            },
            "utc_time_created": manifest.created.replace("T", " ").removesuffix("+00:00"),
        }

    def _readme(self, contents: Contents) -> str:
        columns = [item["name"] for item in inputs(contents)]
        row = {"columns": columns, "data": [["..." for _ in columns]]}
        note = f"- {', '.join(contents.media)}: `bytes` in data frames, base64 text in requests; paths are not read.\n"
        return README.format(
            name=contents.manifest.name,
            label=contents.label,
            installs=contents.requirements().split()[0],
            request=json.dumps({"dataframe_split": row}, ensure_ascii=False),
            media=note if contents.media else "",
        )

    def load(self, folder: Path) -> Callable[[Sequence[Mapping[str, Any]]], list[dict[str, Any]]]:
        """Predicts as MLflow does, by the loader module."""
        from automm_export.pyfunc import _load_pyfunc

        predictor = _load_pyfunc(str(folder / "package")).predictor
        return lambda rows: predictor.predict(rows).rows


def _columns(contents: Contents) -> list[tuple[Any, str]]:
    """The inputs with the columns they read; each column once."""
    found = {column: part for part in reversed(contents.manifest.inputs) for column in reversed(part.columns)}
    return [(part, column) for column, part in reversed(found.items())]


def inputs(contents: Contents) -> list[dict[str, Any]]:
    """The signature's inputs.

    "string" where text is read. All else is "any": automm reads numbers from integers, floats and text alike, but
    MLflow would refuse integers for a double, and has no missing value for binary cells.
    """
    types = []
    for part, column in _columns(contents):
        text = len(part.columns) == 1 and not part.types and column not in contents.media
        types.append({"type": "string" if text else "any", "name": column, "required": True})
    return types


def outputs(contents: Contents) -> list[dict[str, Any]]:
    """The signature's outputs: the result columns, and the reason of a refusal."""
    columns = contents.opened.decoder.columns()
    found = [{"type": RESULTS.get(kind, "any"), "name": name, "required": True} for name, kind in columns.items()]
    return [*found, {"type": "string", "name": "error", "required": False}]
