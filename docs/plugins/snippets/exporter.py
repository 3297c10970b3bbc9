import hashlib
import tempfile
from pathlib import Path

from automm.api import Exporter


class Digests(Exporter):
    """A list of a package's files with their SHA-256, as `sha256sum --check` reads it."""

    makes = "folder"

    def export_package(self, package, folder):
        files = sorted(path for path in package.rglob("*") if path.is_file())
        lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(package)}\n" for path in files]
        (folder / "SHA256SUMS").write_text("".join(lines))


package, folder = Path(tempfile.mkdtemp()), Path(tempfile.mkdtemp())
(package / "automm.json").write_text("{}")  # a real one has more files
Digests(Digests.Config()).export_package(package, folder)
assert (folder / "SHA256SUMS").read_text().endswith("  automm.json\n")
