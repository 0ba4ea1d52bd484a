"""For a paper: booktabs and siunitx. A document that compiles as it stands, with the tables between two marks."""

from __future__ import annotations

import re
import unicodedata

from analysis.claims import Finding
from analysis.render import words
from analysis.render.sheet import Sheet
from analysis.tables import Column, Entry, Table

MARKS = {1: r"\textbf{%s}", 2: r"\underline{%s}", 3: r"\textit{%s}"}
LEGEND = ("bold", "underlined", "italic")
SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "%": r"\%",
    "#": r"\#",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "±": r"$\pm$",
    words.MISSING: "--",
    words.FLAG: r"$\dagger$",
}
CHARACTERS, LINE = 15, 180
"""Of a column, and of a line of A4 on its side in \\footnotesize: about what fits."""
HEAD = r"""\documentclass{article}
\usepackage[a4paper,landscape,margin=15mm]{geometry}
\usepackage{booktabs,siunitx}
\sisetup{mode=text, detect-weight=true, detect-shape=true, separate-uncertainty=true,
  retain-zero-uncertainty=true}
\setlength{\belowcaptionskip}{6pt}
\begin{document}
% From here to the end mark: for a paper of your own, which needs the packages and \sisetup above.
"""
TAIL = r"""% End mark.
\end{document}
"""


def write(sheet: Sheet) -> str:
    return (
        HEAD
        + "\n".join(part for part in [*(_table(table, sheet) for table in sheet.tables), _claims(sheet), _pairs(sheet)])
        + TAIL
    )


def escape(text: str) -> str:
    """Text that TeX prints as it is; letters that the default fonts may lack become their ASCII or "?"."""
    return "".join(SPECIAL.get(character) or _ascii(character) for character in text)


def _ascii(character: str) -> str:
    if character.isascii():
        return character if character.isprintable() else " "
    return unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode() or "?"


def _table(table: Table, sheet: Sheet) -> str:
    title = re.sub(r"^(Table|Figure) \d+: ", "", table.title)  # LaTeX numbers them itself
    sentences = (f"{title[:1].upper()}{title[1:]}.", *table.caption, *words.legend(table, LEGEND))
    caption = " ".join(map(escape, sentences))
    return (
        "\\begin{table}[!htb]\n\\centering\\footnotesize\n"
        + f"\\caption{{{caption}}}\n\\label{{{_label(sheet, table)}}}\n"
        + "\\par\\medskip\n".join(map(_tabular, _parts(table)))
        + "".join(f"\\par {escape(note)}\n" for note in words.notes(table))
        + "\\end{table}\n"
    )


def _label(sheet: Sheet, table: Table) -> str:
    """Of harmless characters alone: a sweep's file may have any name, and a % in a label would be a comment."""
    return re.sub(r"[^A-Za-z0-9:.-]", "-", f"tab:{sheet.slug}-{table.key}")


def _parts(table: Table) -> list[Table]:
    """The table itself, or its groups of columns one under another where together they are wider than the page."""
    widest = max((len(row.label) for row in table.rows), default=0)
    if widest + CHARACTERS * len(table.columns) <= LINE:
        return [table]
    parts, start = [], 0
    for _, span in table.groups:
        parts.append(table.part(start, start + span))
        start += span
    return parts


def _tabular(table: Table) -> str:
    spans, rules, start = [], [], 2
    for group, span in table.groups:
        spans.append(rf"\multicolumn{{{span}}}{{c}}{{{escape(group)}}}")
        if group:
            rules.append(rf"\cmidrule(lr){{{start}-{start + span - 1}}}")
        start += span
    body = [_line([escape(row.label), *map(_cell, row.entries, table.columns)]) for row in table.rows]
    if table.footer:
        body += ["\\midrule\n", *(_line([escape(cell) for cell in (row.label, *row.cells)]) for row in table.footer)]
    return (
        f"\\begin{{tabular}}{{l{'c' * len(table.columns)}}}\n\\toprule\n"
        + _line(["", *spans])
        + " ".join(rules)
        + "\n"
        + _line([escape(table.stub), *(escape(column.label) for column in table.columns)])
        + "\\midrule\n"
        + "".join(body)
        + "\\bottomrule\n\\end{tabular}\n"
    )


def _line(cells: list[str]) -> str:
    return " & ".join(cells) + " \\\\\n"


def _cell(entry: Entry, column: Column) -> str:
    cell = words.cell(entry, column)
    if entry.mean is None:
        return escape(cell.mean + cell.suffix)
    number = rf"\num{{{cell.mean}{f' +- {cell.spread}' if cell.spread else ''}}}"
    return (MARKS.get(cell.mark or 0, "%s") % number) + escape(cell.suffix)


def _claims(sheet: Sheet) -> str:
    if not sheet.findings:
        return ""
    lists = "".join(
        f"\\section*{{{escape(title)}}}\n"
        f"\\begin{{description}}\n{''.join(map(_finding, findings))}\\end{{description}}\n"
        for title, findings in words.claims_by_title(sheet)
    )
    return f"{lists}{escape(words.claims_caption(sheet))}\n"


def _pairs(sheet: Sheet) -> str:
    """The sentence alone: in a paper a list of all pairs helps nobody."""
    caption = words.pairs_caption(sheet)
    return f"\\section*{{{escape(words.PAIRS_TITLE)}}}\n{escape(caption)}\n" if sheet.pairs else ""


def _finding(finding: Finding) -> str:
    sentences = f"{finding.statement}. {finding.figures}. Test: {finding.method}."
    return f"\\item[{escape(finding.verdict)}] {escape(sentences)}\n"
