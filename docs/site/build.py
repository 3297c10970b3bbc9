"""Builds the documentation site, strictly: a warning is an error.

python docs/site/build.py            # writes build/site, open build/site/index.html
python docs/site/build.py FOLDER     # writes it elsewhere
"""

from __future__ import annotations

import sys
from pathlib import Path

from sphinx.cmd.build import main

DOCS = Path(__file__).parents[1]


def arguments(docs: Path, settings: Path, folder: Path) -> list[str]:
    """Sphinx's arguments: strict, and what it needs for the next build beside the pages."""
    fixed = ["-b", "html", "-q", "-W", "--keep-going", "-d", str(folder / ".doctrees")]
    return [*fixed, "-c", str(settings), str(docs), str(folder)]


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else DOCS.parent / "build" / "site"
    sys.exit(main(arguments(DOCS, DOCS / "site", target)))
