from __future__ import annotations

import pytest

from automm.errors import ExitCode, RecipeError
from automm.recipe.problems import InvalidRecipeError, Problem
from automm.recipe.yaml import parse_document, read_document


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E3", 1000.0),
        (".5", 0.5),
        ("-1.", -1.0),
        ("017", 17),
        ("0o17", 15),
        ("0xff", 255),
        ("+3", 3),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("no", "no"),
        ("on", "on"),
        ("Yes", "Yes"),
        ("y", "y"),
        ("true", True),
        ("False", False),
        ("~", None),
        ("null", None),
        ("", None),
        ("2026-11-21", "2026-11-21"),
        ("1e999", "1e999"),
        (".nan", ".nan"),
        ("'1'", "1"),
        ('"true"', "true"),
        ("=", "="),
        ("9" * 5000, "9" * 5000),
    ],
)
def test_scalars_follow_yaml_1_2(text, value):
    found = parse_document(f"key: {text}\n").data["key"]
    assert found == value
    assert type(found) is type(value)


def test_places_of_keys_and_values():
    document = parse_document("a: 1\nmodel:\n  fusion: [x,\n    gated]\n")
    assert document.data == {"a": 1, "model": {"fusion": ["x", "gated"]}}
    assert document.place(("model", "fusion"), key=True) == (3, 3)
    assert document.place(("model", "fusion")) == (3, 11)
    assert document.place(("model", "fusion", 1)) == (4, 5)
    assert document.place(("model", "absent")) == (3, 3)
    assert str(document.problem(("model", "fusion"), "wrong")) == "recipe.yaml:3:3 model.fusion: wrong"


def test_keys_stay_as_written():
    assert parse_document("2020: a\nno: b\n1.50: c\n").data == {"2020": "a", "no": "b", "1.50": "c"}


def test_aliases_are_written_out():
    document = parse_document("a: &files [x, y]\nb: *files\n")
    assert document.data == {"a": ["x", "y"], "b": ["x", "y"]}
    assert document.place(("b",), key=True) == (2, 1)


def test_repeated_keys_are_noted_and_the_first_is_kept():
    document = parse_document("a: 1\nb: {c: 1, c: 2}\na: 2\n")
    assert document.data == {"a": 1, "b": {"c": 1}}
    assert [str(p) for p in document.problems] == [
        "recipe.yaml:2:11 b.c: the key is repeated; it stands in line 2 already",
        "recipe.yaml:3:1 a: the key is repeated; it stands in line 1 already",
    ]


BOMB = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)
)


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("", "1:1", "the recipe is empty"),
        ("# nothing\n", "1:1", "the recipe is empty"),
        ("a: !!python/object/apply:os.system ['id']\n", "1:4", "the tag 'tag:yaml.org,2002:python/"),
        ("a: !x 1\n", "1:4", "the tag '!x' is refused"),
        ("a: !!str 1\n", "1:4", "is refused: a recipe is plain data"),
        ("a: 1\n---\nb: 2\n", "2:1", "a recipe is one document"),
        ("a: &x [*x]\n", "1:", "levels of nesting"),
        ("a: " + "[" * 5000 + "]" * 5000 + "\n", "1:", "more than 32 levels of nesting are refused"),
        (BOMB, "", "more than 20,000 values, with aliases written out"),
        ("a: *x\n", "1:4", "has no anchor"),
        ("a:\n\tb: 1\n", "2:1", "a tab cannot stand here: indent with spaces"),
        ("a: b: c\n", "1:5", "put the text in quotes"),
        ("*: tabular\n", "1:", '"*": tabular'),
        ("a: >= 0.8\n", "1:5", 'needs quotes: ">= 0.8"'),
        ("a: [1, 2\nb: 3\n", "2:", "not YAML"),
        ("a: @b\n", "1:4", "needs quotes"),
        ("<<: {a: 1}\n", "1:1", "merge keys (<<) are not part of YAML 1.2"),
        ("? [a]\n: 1\n", "1:3", "a key is a text"),
        ("a: 1\nb: \x07\n", "2:4", "the control character #x0007"),
        ('a: "\\e[31m"\n', "1:4", "the control character #x001b"),
        ('a: "\\ud800"\n', "1:4", "the control character #xd800"),
    ],
)
def test_refused_with_place_and_reason(text, place, words):
    with pytest.raises(InvalidRecipeError) as raised:
        parse_document(text)
    (problem,) = raised.value.problems
    assert str(problem).startswith(f"recipe.yaml:{place}")
    assert words in problem.message
    assert raised.value.exit_code == ExitCode.RECIPE


def test_files(tmp_path):
    file = tmp_path / "r.yaml"
    file.write_bytes("\ufeffa: é\n".encode())
    assert read_document(file).data == {"a": "é"}
    file.write_bytes("a: 1\nb: é\n".encode("latin-1"))
    with pytest.raises(RecipeError, match=r"r\.yaml:2:4 byte 0xe9 is not UTF-8"):
        read_document(file)
    file.write_bytes(b"a: " + b"x" * 1_000_001)
    with pytest.raises(RecipeError, match="more than 1,000,000 bytes"):
        read_document(file)
    with pytest.raises(RecipeError, match="cannot read the recipe: No such file"):
        read_document(tmp_path / "absent.yaml")
    with pytest.raises(RecipeError, match="Is a directory"):
        read_document(tmp_path)


def test_problems_are_sorted_and_shown_once():
    later, earlier = Problem("r", 10, 1, "b", "x"), Problem("r", 9, 1, "", "y")
    assert str(InvalidRecipeError([later, earlier, later])) == "r:9:1 y\nr:10:1 b: x"
