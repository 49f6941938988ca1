"""The table of all models says what the catalogue and the measurements say."""

import re

import pytest

import tfmusictag as tmt
from tfmusictag import porting
from tfmusictag.applications import _catalogue, _table


def test_the_page_is_what_cards_and_measurements_make_of_it():
    assert _table.README.read_text("utf-8") == _table.render(_table.measured()), "run benchmarks/models.py --render"


def test_every_model_was_measured():
    """On what a row says; `python benchmarks/models.py --models <name>` adds a model."""
    assert sorted(_table.measured()) == tmt.list_models()


@pytest.mark.parametrize("name", tmt.list_models())
def test_a_row_has_every_column(name):
    cells = _table.facts(tmt.card(name), _table.measured()[name])
    assert [column for column, cell in cells.items() if not cell and column != "published"] == []


def test_published_scores_name_a_protocol():
    with pytest.raises(ValueError, match="`published` must be one of .*'mtat'.*; received 'gtzan'"):

        @_catalogue.register(title="", source="", framing=None, embedding_dim=1, published={"gtzan": "1"})
        def Again(name="again"):
            pass

    assert "again" not in tmt.list_models()


def test_the_readme_of_the_project_lists_every_model_with_its_weights():
    text = (_table.README.parents[2] / "README.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \|.*\| (.*) \|$", text, flags=re.MULTILINE))
    assert rows.keys() >= set(tmt.list_models())
    for name in tmt.list_models():
        presets = tmt.card(name).presets
        assert re.findall(r"`(\w+)`", rows[name]) == list(presets), name
        ported = porting.project(name) is not None
        assert (rows[name] == "none") == (not presets and not ported), name
