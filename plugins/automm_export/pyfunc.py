"""What `mlflow.pyfunc` loads: named in an `MLmodel` as `loader_module`."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automm.api import load_package
from automm_export.contents import media

if TYPE_CHECKING:
    import pandas as pd

BAD = "column {column!r}: neither bytes nor base64 text"


class Pyfunc:
    """Predicts data frames with a package.

    Media cells are `bytes`, or base64 text as JSON requests need it; never paths, so that a request reads no file.

    Args:
        package: The package folder.
    """

    def __init__(self, package: Path) -> None:
        self.predictor = load_package(package)
        self.media = media(self.predictor.package)

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """One result row per row: the result columns, and "error" with the reason where a row was refused.

        Args:
            model_input: A data frame, or anything else that `Predictor.predict` takes.
            params: Not used.
        """
        del params
        refused: dict[int, str] = {}
        if hasattr(model_input, "iloc"):
            model_input = model_input.copy(deep=False)
            for column in (name for name in self.media if name in model_input.columns):
                cells = [self._bytes(cell, at, column, refused) for at, cell in enumerate(model_input[column])]
                model_input[column] = _objects(cells, model_input.index)
        found = self.predictor.predict(model_input)
        for at, reason in refused.items():
            found.refused[at] = "; ".join(dict.fromkeys(filter(None, (found.refused.get(at), reason))))
            for values in found.columns.values():
                values[at] = None
        return found.to_pandas()

    @staticmethod
    def _bytes(cell: Any, at: int, column: str, refused: dict[int, str]) -> Any:
        """A media cell as bytes; what is neither bytes nor base64 is missing, and its row refused."""
        if cell is None or cell != cell or isinstance(cell, bytes):
            return cell
        if isinstance(cell, dict) and set(cell) == {"base64"}:  # as `automm serve` takes it
            cell = cell["base64"]
        try:
            return base64.b64decode(cell, validate=True)
        except (binascii.Error, TypeError, ValueError):
            refused[at] = BAD.format(column=column)
            return None


def _objects(cells: list[Any], index: Any) -> pd.Series:
    import pandas as pd

    return pd.Series(cells, index=index, dtype=object)


def _load_pyfunc(path: str) -> Pyfunc:
    """Called by MLflow with the folder that `data` in the `MLmodel` names."""
    return Pyfunc(Path(path))
