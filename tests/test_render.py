"""Tables as they are read: in every format the marks, the missing, the flags, and nothing in a value that is obeyed."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from analysis.claims import Comparison, Finding
from analysis.comparisons import Pair
from analysis.make_tables import print_sheets
from analysis.render import BINARY_WRITERS, WRITERS, Sheet, csv, html, latex, markdown, terminal
from analysis.statistics import Difference
from analysis.tables import NOT_ASKED, Column, Entry, Row, Table, TextRow, ranked

NASTY = r"""<script>alert("x")</script> & 50 % #1 _under_ ^ ~ {a} $b$ \input{c} | *d* `e` [f](g) ünï 漢"""


def table(label: str = "first", caption: str = "A caption.", columns: int = 6) -> Table:
    """Six columns in three groups; row by row a rank 1, 2, 3, none, a partial and a missing entry."""
    heads = tuple(Column(f"sparsity {70 + 10 * (n // 2)} %", f"budget {n} %") for n in range(columns))
    means = {label: 97.41, "second": 96.5, "third": 95.25, "fourth": 94.0}
    rows = [Row(name, (Entry(mean, 0.33, 3, 3),) * columns) for name, mean in means.items()]
    rows.append(Row("partial", (Entry(90.0, None, 1, 3, flags=("1 of 1 runs collapsed",)),) * columns))
    rows.append(Row("missing", (Entry(None, None, 0, 3),) * columns))
    footer = (TextRow("winner here", (label,) * columns),)
    return ranked(Table("measured", f"Title, {label}", "schedule", heads, tuple(rows), footer, (caption,)))


def sheet(label: str = "first", caption: str = "A caption.") -> Sheet:
    comparisons = (Comparison(f"{label} - FT", Difference(3, 1.25, 0.5, 2.0), 0.02, float("nan")),)
    findings = (
        Finding("a-claim", f"{label} is best", "held", "Differences +1.25 points", "a test", comparisons),
        Finding("b-claim", "It is not", "not held", "Differences -1.25 points", "a test", ()),
        Finding("c-claim", "Who knows", "undecided", "n = 2 seeds: too few for a test", "a test", ()),
    )
    return Sheet("table1-fake", "table1", "fake", "0123456789ab", (table(label, caption),), findings)


def on_terminal(width: int, **options) -> str:
    stream = io.StringIO()
    console = Console(file=stream, width=width, force_terminal=True, highlight=False, **options)
    terminal.show(sheet(), console)
    return stream.getvalue()


# In every format

TABLE_FORMATS = [name for name in WRITERS if name != "records"]

FIRST_THREE = {
    "terminal": ("97.41 ±0.33 #1", "96.50 ±0.33 #2", "95.25 ±0.33 #3", "94.00 ±0.33"),
    "markdown": ("**97.41 ± 0.33**", "<ins>96.50 ± 0.33</ins>", "*95.25 ± 0.33*", "94.00 ± 0.33"),
    "latex": (
        r"\textbf{\num{97.41 +- 0.33}}",
        r"\underline{\num{96.50 +- 0.33}}",
        r"\textit{\num{95.25 +- 0.33}}",
        r"\num{94.00 +- 0.33}",
    ),
    "html": ('class="rank-1', 'class="rank-2', 'class="rank-3', "94.00 ± 0.33"),
}


@pytest.mark.parametrize("name", FIRST_THREE)
def test_the_best_three_of_a_column_are_marked_and_the_marks_explained(name):
    written = WRITERS[name](sheet())
    for words in FIRST_THREE[name]:
        assert written.count(words) >= 6, words
    assert "94.00 ±0.33 #" not in written
    assert not re.search(r"rank-4|(\*|<ins>|text..\{\\num\{|underline\{\\num\{)94\.00", written)
    assert "the best three of a column" in written


@pytest.mark.parametrize("name", TABLE_FORMATS)
def test_missing_seeds_flags_captions_and_verdicts_are_in_every_format(name):
    written = WRITERS[name](sheet())
    if name == "csv":
        rows = pd.read_csv(io.StringIO(written))
        partial = rows[rows["row"] == "partial"].iloc[0]
        missing = rows[rows["row"] == "missing"].iloc[0]
        assert (partial["n"], partial["expected"]) == (1, 3)
        assert (missing["n"], missing["expected"]) == (0, 3)
        assert pd.isna(missing["mean"])
    else:
        assert "1/3" in written
        assert ("--" if name == "latex" else "–") in written
    for words in ("1 of 1 runs collapsed", "A caption.", "held", "not held", "undecided", "too few for a test"):
        assert words in written, words


@pytest.mark.parametrize("name", ["terminal", "markdown", "latex", "html"])
def test_what_was_not_asked_for_is_blank_and_no_missing_record(name):
    def dashes(made: Table) -> int:
        return len(re.findall(r"–|-- [&\\]", WRITERS[name](Sheet("s", "table1", "fake", "0", (made,)))))

    blank = table()
    row = Row("missing", (NOT_ASKED,) * len(blank.columns))
    assert dashes(blank) == len(blank.columns)
    assert dashes(replace(blank, rows=(*blank.rows[:-1], row))) == 0


@pytest.mark.parametrize("name", WRITERS)
def test_two_writings_are_the_same(name):
    assert WRITERS[name](sheet()) == WRITERS[name](sheet())


@pytest.mark.parametrize("name", TABLE_FORMATS)
def test_a_sheet_without_claims_has_no_heading_for_them(name):
    bare = Sheet("s", "table1", "fake", "0", (table(),))
    assert not re.search(r"paper.{1,6}s claims|,claims,", WRITERS[name](bare))
    assert re.search(r"paper.{1,6}s claims|,claims,", WRITERS[name](sheet()))


@pytest.mark.parametrize("name", TABLE_FORMATS)
def test_compared_rows_are_in_every_format_with_their_test_named(name):
    pairs = (Pair("first", "FT", Difference(5, 1.25, 0.5, 2.0), 0.02, 0.91),)
    written = " ".join(WRITERS[name](replace(sheet(), pairs=pairs)).split())
    if name == "csv":
        assert "first - FT" in written
        assert "0.91" in written
    else:
        assert "1 of 1 pairs differ clearly: first over FT" in written
        assert "corrected for the number of pairs" in written
        assert ("0.91" in written) == (name != "latex")
    assert "Rows compared" not in WRITERS[name](sheet())


def test_pairs_of_few_seeds_are_undecided():
    pairs = (Pair("first", "FT", Difference(4, 1.25, 0.5, 2.0), float("nan"), 0.91),)
    assert "All 1 pairs are undecided: at most 4 seeds" in terminal.plain(replace(sheet(), pairs=pairs))


def test_records_are_one_row_each_in_csv_and_parquet():
    given = replace(sheet(), records=pd.DataFrame({"id": ["a", "b"], "final_test": [0.5, float("nan")]}))
    assert WRITERS["records"](given).splitlines() == ["id,final_test", "a,0.5", "b,"]
    written = BINARY_WRITERS["parquet"](given)
    pd.testing.assert_frame_equal(pd.read_parquet(io.BytesIO(written)), given.records)


# Terminal


def test_a_narrow_terminal_shows_one_group_at_a_time_and_cuts_nothing():
    shown = on_terminal(70, color_system=None)
    assert max(len(line.rstrip()) for line in shown.splitlines()) <= 70
    assert "…" not in shown
    assert shown.count("97.41 ±0.33 #1") == 6
    assert len(re.findall(r"^ schedule", shown, re.MULTILINE)) == 3
    assert len(re.findall(r"^ schedule", on_terminal(140, color_system=None), re.MULTILINE)) == 1


def test_marks_survive_a_terminal_without_colour():
    assert "\x1b" not in terminal.plain(sheet())
    assert "\x1b[1;32m97.41 ±0.33\x1b[0m #1" in on_terminal(140, color_system="standard")


def test_details_show_the_comparisons_of_a_claim():
    assert "+0.50 to +2.00" in terminal.plain(sheet(), details=True)
    assert "+0.50 to +2.00" not in terminal.plain(sheet(), details=False)


def test_markup_of_the_terminal_library_is_not_obeyed():
    assert "[red]x[/red]" in terminal.plain(sheet("[red]x[/red]", "[bold]c[/bold]"))
    assert "[bold]c[/bold]" in terminal.plain(sheet("[red]x[/red]", "[bold]c[/bold]"))


# Markdown


def test_markdown_values_are_shown_and_not_obeyed():
    written = markdown.write(sheet(NASTY, NASTY))
    assert "<script" not in written
    assert r"\[f\](g)" in written
    assert {line.count("|") - line.count(r"\|") for line in written.splitlines() if line.startswith("| ")} == {8}


# LaTeX


@given(st.text())
def test_escaped_text_holds_nothing_that_tex_obeys(text):
    escaped = latex.escape(text)
    assert escaped.isascii()
    assert "\n" not in escaped
    known = sorted(filter(None, latex.SPECIAL.values()), key=len, reverse=True)
    rest = re.sub("|".join(map(re.escape, known)), "", escaped)
    assert not set(rest) & set("\\{}$&%#_^~")


def test_latex_is_a_whole_document_with_booktabs_and_siunitx():
    written = latex.write(sheet(NASTY, NASTY))
    assert written.startswith(r"\documentclass")
    for words in (r"\usepackage{booktabs,siunitx}", r"\toprule", r"\multicolumn{2}{c}{sparsity 70 \%}", r"\bottomrule"):
        assert words in written
    assert r"\cmidrule(lr){2-3} \cmidrule(lr){4-5} \cmidrule(lr){6-7}" in written
    unescaped = re.sub(r"\\[{}\\]", "", written)
    assert unescaped.count("{") == unescaped.count("}")
    assert r"\input{c}" not in written


def test_a_latex_label_has_no_character_that_tex_obeys():
    written = latex.write(replace(sheet(), slug="my%odd #1_sweep{é}-digits"))
    assert "\\label{tab:my-odd--1-sweep----digits-measured}\n" in written


@pytest.mark.tex
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no TeX here")
def test_latex_compiles_as_it_stands(tmp_path: Path):
    if subprocess.run(["kpsewhich", "siunitx.sty"], capture_output=True, check=False).returncode:
        pytest.skip("this TeX has no siunitx")
    (tmp_path / "table.tex").write_text(latex.write(sheet(NASTY, NASTY)), encoding="utf-8")
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "table.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "table.pdf").stat().st_size > 5_000


def test_latex_puts_groups_of_columns_under_each_other_where_the_page_is_too_narrow():
    wide = sheet("a", "b")
    table = wide.tables[0]
    for times, tabulars in ((1, 1), (5, 5 * len(table.groups))):
        columns = tuple(replace(c, group=f"{c.group} {n}") for n in range(times) for c in table.columns)
        rows = tuple(replace(row, entries=row.entries * times) for row in table.rows)
        many = replace(table, columns=columns, rows=rows, footer=())
        written = latex.write(replace(wide, tables=(many,)))
        assert written.count(r"\begin{tabular}") == written.count(r"\bottomrule") == tabulars
        assert written.count(r"\begin{table}") == written.count(r"\caption") == 1


# HTML


class Page(HTMLParser):
    """Counts tags, keeps text, and checks that what is opened is closed in order."""

    VOID = frozenset({"meta", "br"})

    def __init__(self, page: str):
        super().__init__()
        self.opened: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(page)
        assert self.opened == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.opened.append(tag)

    def handle_endtag(self, tag):
        assert self.opened.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_html_values_are_shown_and_not_obeyed():
    plain, nasty = Page(html.write(sheet())), Page(html.write(sheet(NASTY, NASTY)))
    assert nasty.tags == plain.tags
    assert len(nasty.attributes) == len(plain.attributes)
    assert "script" not in nasty.tags
    assert nasty.text.count(NASTY) > 5


def test_html_needs_no_network_and_has_a_dark_side():
    written = html.write(sheet())
    assert not {"script", "link", "img", "iframe"} & set(Page(written).tags)
    assert not re.search(r"https?:|url\(|@import", written)
    assert "prefers-color-scheme: dark" in written


def test_html_cells_tell_rank_and_n_on_hover():
    assert '<td class="rank-1 first" title="rank 1; n = 3">' in html.write(sheet())
    assert "n = 1; 1 of 1 runs collapsed" in html.write(sheet())


# CSV


def test_csv_reads_back_with_unrounded_numbers_ranks_and_values_as_they_were():
    rows = pd.read_csv(io.StringIO(csv.write(sheet(NASTY))))
    assert tuple(rows.columns) == csv.FIELDS
    best = rows[(rows["table"] == "measured") & (rows["row"] == NASTY)]
    assert len(best) == 6
    assert set(zip(best["mean"], best["std"], best["rank"], best["n"], strict=True)) == {(97.41, 0.33, 1, 3)}
    fourth = rows[rows["row"] == "fourth"]
    assert set(fourth["rank"]) == {4}
    comparison = rows[(rows["table"] == "claims") & rows["mean"].notna()].iloc[0]
    assert (comparison["mean"], comparison["low"], comparison["high"], comparison["p"]) == (1.25, 0.5, 2.0, 0.02)
    assert set(rows["recipe"]) == {"0123456789ab"}


def test_csv_of_several_sheets_has_one_header(capsys):
    print_sheets([sheet(), sheet()], ["csv"])
    both = capsys.readouterr().out
    assert both.count("sweep,problem") == 1
    assert len(pd.read_csv(io.StringIO(both))) == 2 * len(pd.read_csv(io.StringIO(csv.write(sheet()))))
