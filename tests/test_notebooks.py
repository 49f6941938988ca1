"""The notebooks as they are stored; `make notebooks` runs them."""

import ast
import json
import pathlib
import re
import sys

import pytest

import tfmusictag as tmt

FOLDER = pathlib.Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
# tfds builders are reached by `datasets.builder_class`, not by their modules.
PUBLIC = set(tmt.__all__)

notebooks = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells(path):
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def trees(path):
    """Yields the syntax tree of each code cell, with `pass` in the place of IPython's magics."""
    for cell in cells(path):
        if cell["cell_type"] == "code":
            yield ast.parse(re.sub(r"^(\s*)%.*", r"\1pass", "".join(cell["source"]), flags=re.MULTILINE))


def dotted(node):
    """Returns the names of `a.b.c`, or none of what is no chain of names."""
    names = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return [node.id, *reversed(names)] if isinstance(node, ast.Name) else []


def names_of_package(tree):
    """Yields what a cell takes of the package, as the names behind `tfmusictag`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[1:] for alias in node.names if alias.name.split(".")[0] == "tfmusictag")
        elif isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "tfmusictag":
            yield from ([*node.module.split(".")[1:], alias.name] for alias in node.names)
        elif isinstance(node, ast.Attribute) and dotted(node)[:1] == ["tmt"]:
            yield dotted(node)[1:]


def test_there_are_notebooks_numbered_from_one():
    assert [path.name[:3] for path in NOTEBOOKS] == [f"{number:02}_" for number in range(1, len(NOTEBOOKS) + 1)]
    assert NOTEBOOKS


@notebooks
def test_notebooks_are_stored_without_outputs(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids)
    for cell in notebook["cells"]:
        assert cell["metadata"] == {}, cell["id"]
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None, cell["id"]


@notebooks
def test_notebooks_take_what_is_public(path):
    taken = [names for tree in trees(path) for names in names_of_package(tree)]
    assert taken
    for names in taken:
        assert not names or names[0] in PUBLIC, names
        assert not any(name.startswith("_") for name in names), names
        for name in names[:1]:
            assert getattr(tmt, name) is not None


@notebooks
def test_notebooks_begin_with_a_title_and_end_with_what_to_notice(path):
    first, *_, last = cells(path)
    assert first["cell_type"] == "markdown" and first["source"][0].startswith("# ")
    assert last["cell_type"] == "markdown" and last["source"][0].startswith("**What to notice.**")


@notebooks
def test_a_notebook_that_draws_names_the_extra(path):
    text = path.read_text(encoding="utf-8")
    if "matplotlib" in text or ".plot(" in text or "plot_curve(" in text:
        assert "pip install tfmusictag[plot]" in text
    if "rendered_music" in text:
        assert "pip install tfmusictag[render]" in text


@notebooks
def test_a_notebook_without_the_extra_says_which_it_wants(path, monkeypatch):
    """Without matplotlib IPython's magic, which draws into the notebook, raises an ImportError."""
    first = [
        tree.body[0]
        for tree in trees(path)
        if isinstance(tree.body[0], ast.Try) and "tfmusictag[plot]" in ast.dump(tree)
    ]
    if not first:
        assert "matplotlib" not in path.read_text(encoding="utf-8")
    for guard in first:
        guard.body = ast.parse("import matplotlib").body
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        with pytest.raises(ImportError, match=r"`pip install tfmusictag\[plot\]` brings it"):
            exec(compile(ast.Module([guard], []), path.name, "exec"))


def test_the_readme_lists_each():
    listed = re.findall(r"\]\((\w+\.ipynb)\)", (FOLDER / "README.md").read_text(encoding="utf-8"))
    assert listed == [path.name for path in NOTEBOOKS]
