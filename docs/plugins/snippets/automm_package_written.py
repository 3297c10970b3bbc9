import shutil
import tempfile
from pathlib import Path

from automm.api import hookimpl

SHELF = Path(tempfile.mkdtemp())


@hookimpl
def automm_package_written(package):  # the argument `manifest` is not needed here
    shutil.copytree(package, SHELF / "latest", dirs_exist_ok=True)


package = Path(tempfile.mkdtemp())
(package / "automm.json").write_text("{}")
automm_package_written(package)
assert (SHELF / "latest" / "automm.json").exists()
