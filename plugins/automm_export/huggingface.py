"""The Hugging Face Hub: a model folder with a card."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from automm.api import Exporter, load_package
from automm_export.contents import Contents, as_yaml, write

PIPELINES = frozenset(
    {"tabular-classification", "tabular-regression", "text-classification", "image-classification",
     "audio-classification", "video-classification"}
)  # fmt: skip
"""Tasks of the Hub with one kind of input; a package of several has none."""
LARGE = ("*.onnx", "*.npz", "package/golden/media/*")

USE = """\
## From the Hub

```sh
pip install "{requirement}"
hf download {repository} --local-dir {label}
```

```python
import automm

predictor = automm.load("{label}/package")
```

or in one go; `local_dir` matters, since packages hold plain files and the Hub's cache holds links:

```python
import automm
from huggingface_hub import snapshot_download

predictor = automm.load(snapshot_download("{repository}", local_dir="{label}") + "/package")
```

To upload this folder: `hf upload {repository} .`
"""


class Huggingface(Exporter):
    """Writes a folder for the Hugging Face Hub: a model card with the Hub's metadata, and the package."""

    class Config(Exporter.Config):
        """Settings of the card."""

        repository: Annotated[str, Field(pattern=r"^([A-Za-z0-9][\w.-]*/)?[A-Za-z0-9][\w.-]*$|^$")] = ""
        """Name on the Hub, such as `acme/shop`; empty: `your-name/` and the package's name."""
        license: Annotated[str, Field(pattern=r"^[a-z0-9.-]*$")] = ""
        """The Hub's name of the model's license, such as `apache-2.0`; empty: the card names none."""
        language: Annotated[str, Field(pattern=r"^([a-z]{2,3})?$")] = ""
        """Language of the texts, such as `en`."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)

    def export_package(self, package: Path, folder: Path) -> None:
        """Writes README.md (the card), .gitattributes, requirements.txt and the package."""
        contents, config = Contents(package), self.config
        contents.copy(folder / "package")
        repository = config.repository or f"your-name/{contents.label}"
        requirements = contents.requirements()
        write(folder / "requirements.txt", requirements)
        # What git keeps beside its history.
        write(folder / ".gitattributes", "".join(f"{name} filter=lfs diff=lfs merge=lfs -text\n" for name in LARGE))
        automm = next((line for line in requirements.split() if line.startswith("automm")), "automm")
        use = USE.format(repository=repository, label=contents.label, requirement=automm)
        front = as_yaml(self._metadata(contents, repository))
        write(folder / "README.md", f"---\n{front}---\n\n{self._card(contents)}\n{use}")

    def _card(self, contents: Contents) -> str:
        """The package's own card, up to how to use it from its folder."""
        path = contents.package / "README.md"
        if "README.md" not in contents.manifest.files:
            return f"# {contents.manifest.name}\n"
        return path.read_text("utf-8").partition("\n## Use\n")[0].rstrip() + "\n"

    def _metadata(self, contents: Contents, repository: str) -> dict[str, Any]:
        """What the Hub reads."""
        manifest, config = contents.manifest, self.config
        modalities = sorted({part.modality for part in manifest.inputs})
        found: dict[str, Any] = {"library_name": "automm"}
        if config.license:
            found["license"] = config.license
        if config.language:
            found["language"] = config.language
        task = f"{modalities[0]}-{manifest.task.name}" if len(modalities) == 1 else ""
        if task in PIPELINES:
            found["pipeline_tag"] = task
        several = ["multimodal"] if len(modalities) > 1 else []
        found["tags"] = list(dict.fromkeys(["automm", "onnx", *several, *modalities, manifest.task.name]))
        side, metrics = (
            ("test", manifest.metrics.test) if manifest.metrics.test else ("validation", manifest.metrics.valid)
        )
        if metrics:
            found["metrics"] = list(metrics)
            results = [{"type": name, "name": name, "value": value} for name, value in metrics.items()]
            found["model-index"] = [
                {
                    "name": repository.rpartition("/")[2],
                    "results": [
                        {
                            "task": {"type": task if task in PIPELINES else manifest.task.name},
                            "dataset": {"type": "private", "name": f"{manifest.name}: {side} rows"},
                            "metrics": results,
                        }
                    ],
                }
            ]
        return found

    def load(self, folder: Path) -> Callable[[Sequence[Mapping[str, Any]]], list[dict[str, Any]]]:
        """Predicts with the package in the folder."""
        predictor = load_package(folder / "package")
        return lambda rows: predictor.predict(rows).rows
