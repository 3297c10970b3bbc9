"""docs/serve.md against the code."""

from __future__ import annotations

import re

from docs.pages import blocks, names, rows

from automm.serve.metrics import Metrics
from automm.serve.openapi import ERRORS


def test_metrics():
    documented = {name for cells in rows("serve.md", "## Watching") for name in names(cells[0])}
    families = {family.name: family for family in Metrics().registry.collect() if family.name.startswith("automm_")}
    assert documented == {f"{name}_total" if family.type == "counter" else name for name, family in families.items()}


def test_statuses():
    documented = {code for cells in rows("serve.md", "## Asking") for code in re.findall(r"\d{3}", cells[0])}
    assert documented == set(ERRORS)


def test_the_client_of_the_page(served):
    (block,) = blocks("python", "serve.md")
    for shown, here in {"8080": str(served.port), '"remark"': '"title"', "quickstart": "weather"}.items():
        assert shown in block.text
        block = block._replace(text=block.text.replace(shown, here))
    scope = {}
    exec(block.text, scope)
    assert len(scope["found"].as_numpy("prediction")) == 2
    scope["client"].close()
