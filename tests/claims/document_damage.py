"""The kinds of damage to the documents of a published study, and to what is generated from it."""

from fseed.atomic import write_text_atomic
from tests.claims import harm
from tests.claims.harm import Damage, group, on_readme, on_text

DIFFERENCE = "study/scalar_l10.difference"
QUOTED = {
    "interval edited": harm.on_reference("study/scalar_l10.interval", harm.flip_digit),
    "verdict edited": harm.on_reference("study/scalar_l10.verdict", lambda _: "hurts"),
    "wrong n": harm.on_reference("study/scalar_l10.num_examples", lambda _: "100"),
    "seeds edited": harm.on_reference("study/scalar_l10.seeds", lambda _: "0-4"),
}
WRONG_NUMBER = {
    "digit before a reference": on_readme(
        f"<!-- fseed: {DIFFERENCE}", f"1<!-- fseed: {DIFFERENCE}"
    ),
    "minus before a reference": on_readme(
        f"<!-- fseed: {DIFFERENCE}", f"-<!-- fseed: {DIFFERENCE}"
    ),
    "digit behind a reference": on_readme("<!-- /fseed --> pp", "<!-- /fseed -->5 pp"),
    "wrong digit": harm.on_reference(DIFFERENCE, harm.flip_digit),
    "percent told as a fraction": harm.on_reference(
        DIFFERENCE, lambda text: f"{float(text) / 100:.4f}"
    ),
}
UNRESOLVED = {
    "reference to a field that is not there": on_readme(DIFFERENCE, "study/scalar_l10.diference"),
    "reference to an arm that is not there": on_readme(DIFFERENCE, "study/scalar_l11.difference"),
    "reference to no experiment": on_readme(DIFFERENCE, "stud/scalar_l10.difference"),
    "reference without an end": on_readme("<!-- /fseed --> pp", " pp"),
}
RESULT_ROW = "| verdict |\n|---|---|---|---|---|---|\n"
UNMARKED = {
    "difference outside a reference": harm.on_end("It gains 4.2 pp, really."),
    "interval outside a reference": harm.on_end("It gains [+0.1, +0.3]."),
    "interval without signs": harm.on_end("It lies in [0.10, 9.30]."),
    "bold number": harm.on_end("It gains **9.9** pp."),
    "number apart from its unit": harm.on_end("It gains 9.9&nbsp;pp, really."),
    "unit on the next line": harm.on_end("It gains in the end 9.9\npp, really."),
    "number without a leading zero": harm.on_end("It gains .5 %."),
    "ratio told with an x": harm.on_end("It is 9.9x faster."),
    "fraction behind the name of a metric": harm.on_end("Its accuracy is 0.52 now."),
    "table of HTML": harm.on_end("<table>\n<tr><td>arm</td><td>9.9</td></tr>\n</table>"),
    "table with single dashes": harm.on_end("| arm | diff pp |\n|-|-|\n| x | 9.9 |"),
    "table in a quotation": harm.on_end("> | arm | diff pp |\n> |---|---|\n> | x | 9.9 |"),
    "table of other scores": harm.on_end("| arm | F1 |\n|---|---|\n| x | 61.9 |"),
    "result between fences in comments": harm.on_end(
        "<!--\n```\n-->\n\nIt gains 9.9 pp.\n\n<!--\n```\n-->"
    ),
    "result between fences closed by others": harm.on_end(
        "```\nmake\n  ```\n\nIt gains 9.9 pp.\n\n```\nmake\n```"
    ),
    "row added to a result table": on_readme(
        RESULT_ROW, f"{RESULT_ROW}| raw | 0-2 | +9.9 | - | 12 | helps |\n"
    ),
}
STALE_TABLE = {
    "cell edited in paper/tables": on_text("paper/tables/study.md", "| head_l8 |", "| raw_l8 |"),
    "table deleted": lambda root: (root / "paper/tables/study.md").unlink(),
}
LINKS = {
    "link to a file that is not there": on_readme("(paper/LOG.md)", "(paper/LOGS.md)"),
    "link by a name to a file that is not there": harm.on_end("[x][1]\n\n[1]: paper/nope.md"),
    "picture that is not there": harm.on_end('<img src="paper/figures/nope.svg">'),
    "source that is the document": harm.on_end("In 3 s <!-- fseed: source README.md -->."),
    "source outside paper": harm.on_end("In 3 s <!-- fseed: source /etc/hostname -->."),
    "source that is not there": harm.on_end("In 3 s <!-- fseed: source paper/LOGS.md -->."),
}
NO_TABLE = harm.write("paper/tables/study.csv", "diff,9.9")
NOTES = harm.write("paper/more/notes.MD", "It gains 9.9 pp.")
UNITS = {
    "percentage points told as percent": on_readme("<!-- /fseed --> pp", "<!-- /fseed --> %"),
    "percentage points told as bold percent": on_readme(
        "<!-- /fseed --> pp", "<!-- /fseed --> **%**"
    ),
    "percentage points told as seconds": on_readme("<!-- /fseed --> pp", "<!-- /fseed --> s"),
}
EDITED_CELL = on_readme("| head_l8 |", "| raw_l8 |")
IN_DOCUMENTS = [
    *group("number", "README.md:3", WRONG_NUMBER),
    *group("number", "README.md:8", QUOTED),
    Damage(
        "number of another arm quoted",
        on_readme("study/head_l8.difference", DIFFERENCE),
        "number",
        "README.md:10",
    ),
    Damage(
        "number that its source does not hold",
        harm.on_end("It takes 7.5 s <!-- fseed: source paper/LOG.md -->."),
        "number",
        "README.md",
    ),
    *group("unit", "README.md:3", UNITS),
    *group("reference", "README.md:3", UNRESOLVED),
    *group("unmarked", "README.md", UNMARKED),
    *group("unmarked", "paper/more/notes.MD", {"result in a folder below paper": NOTES}),
    *group("link", "README.md", LINKS),
    *group("stale", "README.md:15", {"cell edited in a table of README.md": EDITED_CELL}),
    *group("stale", "paper/tables/study.md", STALE_TABLE),
    *group("stale", "paper/tables/study.csv", {"file beside the tables": NO_TABLE}),
    Damage(
        "table of an experiment that is not registered",
        lambda root: write_text_atomic(root / "paper/tables/other.md", "x"),
        "stale",
        "paper/tables/other.md",
    ),
    Damage(
        "failure taken out of paper/failures.md",
        on_text("paper/failures.md", "seed 1: failed", "seed 1: left out"),
        "stale",
        "paper/failures.md",
    ),
]
