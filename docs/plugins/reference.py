"""Writes docs/plugins/reference.md and checks.md: what `automm.api` offers, and what the kit checks, from the code.

python docs/plugins/reference.py            # writes the pages
python docs/plugins/reference.py --check    # says whether they are up to date
"""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path
from typing import Any

from automm import api
from automm.core.component import Component, snake
from automm.core.config import Config
from automm.core.kinds import KINDS
from automm.core.lazy import LazyModule
from automm.plugin import hookspecs
from automm.plugin.registry import ATTRIBUTES, REQUIRED
from automm.testing.checks import CHECKS
from automm.testing.declarations import OPERATION_CHECKS

PAGE = Path(__file__).with_suffix(".md")
CHECKS_PAGE = PAGE.with_name("checks.md")
SNIPPETS = Path(__file__).parent / "snippets"
HEAD = """# Reference for authors

Everything that [`automm.api`](../plugins.md) offers, made from the code by `python docs/plugins/reference.py`.
Tests run the examples.

Shapes are written `[batch, time, width]`. `batch` is the rows of a batch, `time` what a cell is cut into (words, steps,
patches, frames). Tensors are torch's; arrays are NumPy's, and whatever has to do with them runs without torch.
"""
CHECKS_HEAD = """# The checks of every kind

What the [conformance kit](testing.md) tries, made from the code by `python docs/plugins/reference.py`. The names are
those of `expected_failures` and of `automm plugins check NAME --only`.
"""
SECTIONS = ("Args", "Attributes", "Returns", "Raises")


def bases() -> dict[str, type[Component]]:
    """The classes to inherit from, in the order of kinds; special forms follow their kind."""
    found = {name: cls for name in api.__all__ if is_base(cls := getattr(api, name))}
    order = list(KINDS)
    return dict(sorted(found.items(), key=lambda pair: (order.index(pair[1].kind), len(pair[1].__mro__), pair[0])))


def is_base(thing: Any) -> bool:
    """Whether it is the abstract base of a kind, or a special form of one."""
    return isinstance(thing, type) and issubclass(thing, Component) and thing.abstract and bool(thing.kind)


def hooks() -> dict[str, Any]:
    """The hooks by name."""
    return {name: hook for name, hook in vars(hookspecs).items() if name.startswith("automm_")}


def helpers() -> dict[str, Any]:
    """What else there is, by name."""
    known = bases()
    return {
        name: thing
        for name in sorted(api.__all__, key=str.lower)
        if (thing := getattr(api, name)) is not None and name not in known
    }


def page() -> str:
    """The page."""
    parts = [HEAD, "## Base classes\n", "Inherit from one of these; `register` takes the kind from it.\n"]
    parts += [base_section(name, cls) for name, cls in bases().items()]
    parts += [
        "## Hooks\n",
        "Functions of a plugin's module, marked with `@hookimpl`. Arguments that you do not need can be left out.\n",
    ]
    parts += [hook_section(name, hook) for name, hook in hooks().items()]
    parts += ["## Values and helpers\n"]
    parts += [helper_section(name, thing) for name, thing in helpers().items()]
    return narrow("\n".join(parts)).rstrip() + "\n"


def base_section(name: str, cls: Any) -> str:
    """A base class: what it is, what to write, its methods, its fields, an example."""
    lines = [f"### {name}\n", markdown(cls.__doc__)]
    needed = [*(f"`{it}`" for it in ATTRIBUTES.get(cls.kind, ())), *(f"`{it}`" for it in REQUIRED[cls.kind])]
    if KINDS[cls.kind] is cls and needed:
        lines.append(f"Required: {', '.join(needed)}.\n")
    base = cls.__base__.__name__
    if base in bases():
        lines.append(f"All of [{base}](#{base.lower()}) holds, too.\n")
    for method, function in methods(cls):
        lines.append(listed(method, function))
    lines += ["", *fields(cls)]
    return "\n".join([*lines, example(snake(name))])


def methods(cls: type) -> list[tuple[str, Any]]:
    """The public methods that a class itself defines, with `__init__` and `__call__`."""
    found = []
    for name, member in vars(cls).items():
        function = getattr(member, "__func__", member.fget if isinstance(member, property) else member)
        if inspect.isfunction(function) and (not name.startswith("_") or name in ("__init__", "__call__")):
            found.append((name, member))
    return found


def signature(member: Any) -> str:
    """Arguments and result, without `self` and the types of arguments, which the text says better."""
    if isinstance(member, property):
        return f" -> {member.fget.__annotations__.get('return')}"
    function = getattr(member, "__func__", member)
    spec = inspect.signature(function)
    parameters = [p.replace(annotation=p.empty) for p in spec.parameters.values() if p.name not in ("self", "cls")]
    text = str(spec.replace(parameters=parameters, return_annotation=spec.empty))
    result = spec.return_annotation
    return (
        text
        if result in (spec.empty, None, "None")
        else f"{text} -> {result if isinstance(result, str) else result.__name__}"
    )


def constructor(cls: type) -> str:
    """The arguments that make an instance, without their types."""
    parameters = inspect.signature(cls).parameters.values()
    return str(inspect.Signature([p.replace(annotation=p.empty) for p in parameters]))


def fields(cls: Any) -> list[str]:
    """The configuration fields that every component of the kind has."""
    own: dict[str, Any] = cls.Config.model_fields
    if not own:
        return []
    rows = [f"| `{name}` | {' '.join((field.description or '').split())} |" for name, field in own.items()]
    return ["Fields of `Config`:\n", "| field | meaning |", "|---|---|", *rows, ""]


def hook_section(name: str, hook: Any) -> str:
    """A hook: its arguments, when it is called, an example."""
    return "\n".join([f"### {name}\n", f"**`{name}{signature(hook)}`**\n", markdown(hook.__doc__), example(name)])


def helper_section(name: str, thing: Any) -> str:
    """Anything else: a class, a function, a constant, a module."""
    lines = [f"### {name}\n"]
    if isinstance(thing, LazyModule):
        lines.append(f"`{thing.__name__}`, imported on first use.\n")
    elif inspect.isclass(thing):
        if not issubclass(thing, Exception | Component | Config | Warning):
            lines.append(f"`{name}{constructor(thing)}`\n")
        lines.append(markdown(thing.__doc__))
        for method, function in methods(thing) if thing.__module__.startswith("automm") else []:
            if method != "__init__":
                lines.append(listed(method, function))
    elif inspect.isfunction(thing):
        lines += [f"**`{name}{signature(thing)}`**\n", markdown(thing.__doc__)]
    elif isinstance(thing, int | str):
        lines.append(f"`{thing}`: {constant(name)}\n")
    else:
        lines.append("The mark of a hook: `@hookimpl`.\n")
    return "\n".join([*lines, example(snake(name))])


def constant(name: str) -> str:
    """What stands below a constant where it is defined."""
    for path in sorted(Path(inspect.getfile(api)).parent.rglob("*.py")):
        found = re.search(rf'^{name}\b[^\n]*=[^\n]*\n"""(.*?)"""', path.read_text("utf-8"), re.S | re.M)
        if found:
            return " ".join(found[1].split())
    raise KeyError(name)


def example(name: str) -> str:
    """The example of a name, if there is one."""
    path = SNIPPETS / f"{name}.py"
    return f"```python\n{path.read_text('utf-8')}```\n" if path.exists() else ""


def markdown(docstring: str | None) -> str:
    """A Google-style docstring as Markdown: sections become lists, what follows `::` becomes code."""
    out: list[str] = []
    section, margin = "", 0
    code = False
    for line in inspect.cleandoc(docstring or "").splitlines():
        text, depth = line.strip(), len(line) - len(line.lstrip())
        if code and text and depth == 0:
            out += ["```", ""]
            code = False
        if code:
            out += [line[4:]] if text or out[-1] != "```python" else []
        elif depth == 0 and text.rstrip(":") in SECTIONS:
            section, margin = text.rstrip(":"), 0
            out += ["", f"{section}:" if section != "Args" else "Arguments:", ""]
        elif section and depth and text:
            margin = margin or depth
            start = re.match(r"(\w+(?: \([^)]*\))?): (.*)", text) if depth == margin else None
            if start and section != "Returns":
                out.append(f"- `{start[1]}`: {start[2]}")
            else:
                out.append(f"  {text}" if depth > margin or section != "Returns" else text)
        elif text.endswith("::"):
            out += [text[:-1], "", "```python"]
            code = True
        else:
            section = section if not text else ""
            out.append(text)
    if code:
        out.append("```")
    return re.sub(r"\n+$", "", "\n".join(out)) + "\n"


def listed(name: str, member: Any) -> str:
    """A method as an item of a list."""
    lines = markdown(member.__doc__).splitlines()
    rest = [f"  {line}".rstrip() for line in lines[1:]]
    return "\n".join([f"- `{name}{signature(member)}`{': ' if lines[0] else ''}{lines[0]}", *rest])


def narrow(text: str) -> str:
    """At most one blank line in a row, outside of code."""
    parts = re.split(r"(^```\w+\n.*?^```$)", text, flags=re.S | re.M)
    return "".join(part if part.startswith("```") else re.sub(r"\n{3,}", "\n\n", part) for part in parts)


def checks_page() -> str:
    """The page of checks: those that every kind shares first."""
    shared = set.intersection(*(set(found) for kind, found in CHECKS.items() if len(found) > len(OPERATION_CHECKS)))
    every = [check for check in CHECKS["fusion"] if check in shared]
    parts = [CHECKS_HEAD, "## Every kind\n", checks_table(every)]
    for kind, found in CHECKS.items():
        own = [check for check in found if check not in shared]
        title = f"## {KINDS[kind].__name__}\n"
        few = f"Of the first table only: {', '.join(f'`{c.__name__}`' for c in found if c in shared)}.\n"
        parts += [title, *([few] if len([c for c in found if c in shared]) < len(shared) else [])]
        parts += [checks_table(own)] if own else []
    return narrow("\n".join(parts)).rstrip() + "\n"


def checks_table(checks: list[Any]) -> str:
    """Name and meaning of checks."""
    rows = [
        f"| `{check.__name__}` | {' '.join(inspect.getdoc(check).split()).replace('|', chr(92) + '|')} |"
        for check in checks
    ]
    return "\n".join(["| check | what it asks for |", "|---|---|", *rows, ""])


def main() -> int:
    """Writes or checks the pages."""
    made = {PAGE: page(), CHECKS_PAGE: checks_page()}
    if "--check" in sys.argv:
        stale = [path for path, text in made.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
        print(f"outdated: {', '.join(map(str, stale))}" if stale else "up to date")
        return 1 if stale else 0
    for path, text in made.items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
