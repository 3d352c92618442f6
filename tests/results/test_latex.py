import re

import pytest

from fseed.results.collection import Collection, collect_runs
from fseed.results.latex import HEADER, escape_latex, render_float, render_latex
from tests.results.builders import RunSpec, fail_run
from tests.results.staged import write_staged_sweep

# what a document that loads booktabs alone can set
KNOWN_COMMANDS = {
    *("begin", "end", "centering", "scriptsize", "setlength", "tabcolsep", "caption"),
    *("toprule", "midrule", "bottomrule", "quad", "usepackage"),
    *("textbackslash", "textasciitilde", "textasciicircum", "textless", "textgreater", "textbar"),
}


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    root = tmp_path_factory.mktemp("staged")
    write_staged_sweep(root)
    fail_run(root, RunSpec(arm="odd_100%_{x}&y"), message="~ a^b")
    return collect_runs([root])


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("no_fs 100 % & $x$ #1 {a}", r"no\_fs 100 \% \& \$x\$ \#1 \{a\}"),
        ("a\\b~c^d", r"a\textbackslash{}b\textasciitilde{}c\textasciicircum{}d"),
        ("<a> | b", r"\textless{}a\textgreater{} \textbar{} b"),
        ("-0.20 to [-1.0, +2.0]", r"$-$0.20 to [$-$1.0, +2.0]"),
        ("0-2, no-op, alpha=m3", "0-2, no-op, alpha=m3"),
        ("two\nlines\t here", "two lines here"),
    ],
)
def test_special_characters_are_set_as_they_stand(text: str, escaped: str) -> None:
    assert escape_latex(text) == escaped


def test_every_table_is_a_float_with_as_many_cells_as_columns(staged: Collection) -> None:
    text = render_latex(staged)
    assert text.startswith(HEADER)
    floats = re.findall(r"\\begin\{table\}(.*?)\\end\{table\}", text, flags=re.DOTALL)
    # confirm, medium, quick of two tasks, the failed arm, stages of two tasks, summary, appendix
    assert len(floats) == 11
    for one in floats:
        (spec,) = re.findall(r"\\begin\{tabular\}\{([lr]+)\}", one)
        rows = [line for line in one.splitlines() if line.endswith(r"\\")]
        assert len(rows) >= 2
        for row in rows:
            assert len(re.findall(r"(?<!\\)&", row)) == len(spec) - 1
        assert one.count(r"\caption{") == 1


def test_it_needs_booktabs_and_nothing_else(staged: Collection) -> None:
    text = render_latex(staged)
    assert set(re.findall(r"\\([a-zA-Z]+)", text)) <= KNOWN_COMMANDS
    assert set(re.findall(r"\\([^a-zA-Z\s])", text)) <= set("\\&%$#_{}")
    plain = re.sub(r"\\[{}]", "", text)
    assert plain.count("{") == plain.count("}")
    body = re.sub(r"\\.", "", text.removeprefix(HEADER)).replace("$-$", "")
    assert not set("$#_%^~") & set(body)


def test_the_cells_are_those_of_the_other_forms(staged: Collection) -> None:
    text = render_latex(staged)
    assert r"{scalar\_l10} & 6-10 & 50.00 & 53.00 & +3.00 & [+2.75, +3.25]" in text
    assert r"{\quad scalar\_l10,control=aa} & 6-10" in text
    assert r"odd\_100\%\_\{x\}\&y" in text
    assert "& pruned & below\\_wanted\\_gain" in text
    confirm = text[text.index("stage confirm") :]
    assert confirm.index("scalar\\_l10}") < confirm.index("control=aa}")


def test_a_first_cell_is_no_option_of_the_line_break() -> None:
    text = render_float([{"arm": "[a]", "n": "-"}], caption="c_d")
    assert "\n{[a]} & -- \\\\\n" in text
    assert r"\caption{c\_d}" in text
    assert r"\begin{tabular}{lr}" in text
