"""A container image that serves the package."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from automm.api import Exporter, load_package
from automm_export.contents import Contents, write
from automm_export.image import PORT, tag, write_image

REFERENCE = r"^([A-Za-z0-9][A-Za-z0-9._:/@-]*)?$"
"""What may stand for an image: host, path, tag and digest."""

README = """\
# {name} in a container

```sh
docker build -t {tag} .
docker run --rm --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges -p {port}:{port} {tag}
```

The server answers at port {port}: a page to try the model at `/`, raw rows at `/predict`, the Open Inference Protocol
at `/v2/`, metrics at `/metrics`, health at `/v2/health/live` and `/v2/health/ready` (ready: the package's own examples
came out as expected). It runs as user 10001 and writes nothing but temporary files.

The image holds Python, the base install of automm with `{extras}`, and the package; no PyTorch. Building it runs the
package's examples and fails if they come out differently. Distributions that no index has (a plugin of your own) go as
wheels into `wheels/` before the build. Options of `automm serve` are given in place of the image's own:

```sh
docker run --rm --read-only --tmpfs /tmp -p {port}:{port} {tag} /model --host 0.0.0.0 --port {port} --workers 2
```
"""


class Docker(Exporter):
    """Writes a Dockerfile with the package beside it: a small image that serves it, read-only and not as root."""

    class Config(Exporter.Config):
        """Settings of the image."""

        image: Annotated[str, Field(pattern=REFERENCE)] = ""
        """Name of the image in the instructions; empty: the package's name and digest."""
        base: Annotated[str, Field(pattern=REFERENCE)] = ""
        """The image to start from, with Python; empty: the slim Python image of the package's Python version."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)

    def export_package(self, package: Path, folder: Path) -> None:
        """Writes Dockerfile, .dockerignore, requirements.txt, the package, and a README."""
        contents = Contents(package)
        write_image(folder, contents, self.config.base, "/model", inside=True)
        extras = "automm[" + ",".join(sorted({"serve", *contents.extras()})) + "]"
        name = tag(contents, self.config.image)
        write(folder / "README.md", README.format(name=contents.manifest.name, tag=name, port=PORT, extras=extras))

    def load(self, folder: Path) -> Callable[[Sequence[Mapping[str, Any]]], list[dict[str, Any]]]:
        """Predicts with the package that the image holds."""
        predictor = load_package(folder / "package")
        return lambda rows: predictor.predict(rows).rows
