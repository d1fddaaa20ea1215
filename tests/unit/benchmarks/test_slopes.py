"""The tables of measured slopes."""

import json

from benchmarks.slopes import BEGIN, DOCS, END, markdown


def test_page_has_the_tables_of_the_record():
    record = json.loads((DOCS / "results" / "slopes.json").read_text(encoding="utf-8"))
    page = (DOCS / "explanation" / "slopes.md").read_text(encoding="utf-8")
    assert page.count(f"{BEGIN}\n{markdown(record)}{END}") == 1
