"""The documentation site, made from the Markdown pages in docs/ by Sphinx.

python docs/site/build.py            # writes build/site
"""

from pathlib import Path

import automm

DOCS = Path(__file__).parents[1]

project = "automm"
author = "automm"
release = version = automm.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["site"]
templates_path = []
nitpicky = False

suppress_warnings = ["misc.highlighting_failure"]  # examples are shortened by "…", which no lexer knows
napoleon_use_ivar = True
myst_heading_anchors = 4  # links to headings, as on the pages of a repository
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "undoc-members": False}
default_role = "code"  # docstrings mark code with single backticks
toc_object_entries = False

html_theme = "furo"
html_title = f"automm {release}"
html_static_path = ["static"]
html_css_files = ["automm.css"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
pygments_style = "a11y-high-contrast-light"
pygments_dark_style = "a11y-high-contrast-dark"

NAVIGATION = {
    "For analysts": [
        "quickstart", "data", "models", "classification", "regression", "multilabel", "imbalance", "unlabeled",
        "use-cases/index",
        "recipe", "components", "editor", "run-folder", "report", "predict", "ci", "distributed",
    ],
    "Deploying": ["package", "export", "compression", "serve", "deploy", "monitoring", "launch"],
    "For authors of plugins": [
        "plugins", "plugins/tutorial", "plugins/reference", "plugins/testing", "plugins/checks", "plugins/distributing",
        "plugins/*", "examples/*/README",
    ],
    "Inside": ["architecture", "benchmarks", "reference/*"],
}  # fmt: skip
"""Section → pages in order; a pattern stands for the pages that match and come nowhere else."""


def navigation():
    """Section → pages that exist; pages that no section names come last, so that none is lost."""
    pages = {path.relative_to(DOCS).with_suffix("").as_posix() for path in DOCS.rglob("*.md")} - {"index"}
    named = {page for names in NAVIGATION.values() for page in names}
    free = {page for page in pages - named if not page.startswith("use-cases/")}
    sections = {}
    for section, names in NAVIGATION.items():
        sections[section] = []
        for name in names:
            found = {page for page in free if "*" in name and Path(page).match(name)} | ({name} & pages)
            sections[section] += sorted(found)
            free -= found
    return {**sections, "More": sorted(free)}


def add_navigation(app, page, source):
    """The index gets the tables of contents, which its Markdown leaves out."""
    if page == "index":
        for section, pages in navigation().items():
            if pages:
                source[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {section}\n" + "\n".join(pages) + "\n```\n"
    if page == "use-cases/index":
        others = sorted(path.stem for path in (DOCS / "use-cases").glob("*.md") if path.stem != "index")
        source[0] += "\n```{toctree}\n:hidden:\n" + "\n".join(others) + "\n```\n"


def skip_aliases(app, what, name, thing, skip, options):
    """Fields of named tuples are described with their class."""
    return True if (getattr(thing, "__doc__", None) or "").startswith("Alias for field number") else None


def setup(app):
    """Called by Sphinx."""
    app.connect("autodoc-skip-member", skip_aliases)
    app.connect("source-read", add_navigation)
