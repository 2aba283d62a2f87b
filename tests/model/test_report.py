"""Every view in every format: what is printed can be read by the program that it is meant for."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest

from anyconsole.model.report import render
from anyconsole.model.views import views
from tests.fleet import NOW, healthy_hybrid

STORE = healthy_hybrid()
VIEWS = views(STORE)


def printed(view: str, output: str) -> str:
    return render(VIEWS[view].columns, VIEWS[view].rows(STORE, NOW), output, "paper", view, NOW)


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_prints_all_its_rows_in_every_format(view: str) -> None:
    count, columns = len(VIEWS[view].keys(STORE)), VIEWS[view].columns
    document = json.loads(printed(view, "json"))
    assert [list(row) for row in document["rows"]] == [[c.id for c in columns]] * count
    header, *rows = csv.reader(io.StringIO(printed(view, "csv")))
    assert header == [c.id for c in columns]
    assert [len(row) for row in rows] == [len(columns)] * count
    lines = printed(view, "markdown").splitlines()
    assert [line.count("|") for line in lines] == [len(columns) + 1] * (count + 2)
    table = printed(view, "table").splitlines()
    assert len(table) == count + 1
    assert all(column.title in table[0] for column in columns)


@pytest.mark.parametrize("view", ["pods", "monitoring"])
def test_the_fields_of_views_of_clusters_are_those_that_are_documented(view: str) -> None:
    page = (Path(__file__).parents[2] / "docs" / "json.md").read_text()
    documented = dict(re.findall(r"^\| (\w+) \| [^|]+ \| (.*) \|$", page, re.MULTILINE))
    assert documented[view].split(", ") == [c.id for c in VIEWS[view].columns]
