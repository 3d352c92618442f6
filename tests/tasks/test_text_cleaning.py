import pytest

from fseed.tasks.base import RowProblem
from fseed.tasks.text_cleaning import clean_news, clean_plain, clean_wikitext, is_heading


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" = Bako = \n", True),
        (" = = Early life = = \n", True),
        (" = = = 2000 – 2005 = = = \n", True),
        (" N / A = \n", False),
        (" Bako lives in Tan . \n", False),
        (" = National record \n", False),
        ("", False),
    ],
)
def test_headings(text, expected):
    assert is_heading(text) is expected


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        (" Bako , who left ( twice ) , came . \n", "Bako, who left (twice), came."),
        ("a well @-@ known 1 @,@ 000 and 3 @.@ 5 % ;", "a well-known 1,000 and 3.5%;"),
        ("Rilu 's lamp isn 't his ; they 're here", "Rilu's lamp isn't his; they're here"),
        ("women ’ s rights , if you don ’ t mind", "women’s rights, if you don’t mind"),
        ('He said , " Yes . " Then " No ! "', 'He said, "Yes." Then "No!"'),
        ('( " Yes " ) and [ " no " ]', '("Yes") and ["no"]'),
        ("It cost $ 5 or £ 6 , # 1 of 2", "It cost $5 or £6, #1 of 2"),
        ("1914 – 1918 at 10 : 30", "1914–1918 at 10:30"),
        ("Wade – Giles : Tu Fu", "Wade – Giles: Tu Fu"),
        ("one @-@ two @-@ three", "one-two-three"),
        ("wait ... what ? !", "wait... what?!"),
        ("Cafe\u0301  here", "Café here"),
    ],
)
def test_wikitext_is_joined_as_it_was_written(text, clean):
    assert clean_wikitext(text) == clean
    # natural text stays as it is
    assert clean_wikitext(clean) == clean


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("the Boys ' club", "quotation mark may open or close"),
        ("he said ‘ yes ’ .", "quotation mark may open or close"),
        ('one " quote', "odd number of quotation marks"),
        ("where <formula> holds", "markup in the text"),
    ],
)
def test_wikitext_that_needs_a_guess_is_refused(text, reason):
    with pytest.raises(RowProblem, match=f"^{reason}$"):
        clean_wikitext(text)


def test_news_has_dollars_and_line_breaks_behind_backslashes():
    assert clean_news(r"has won his\case of \$55 million.\ ") == "has won his case of $55 million."


@pytest.mark.parametrize(
    "text", ["Bako #39;s lamp", "&lt;b&gt;...", "quot;Yes,quot; he said", "a #36;5 bid", "<br/>"]
)
def test_news_with_markup_is_refused(text):
    with pytest.raises(RowProblem, match=r"^markup in the text$"):
        clean_news(text)


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("Bako of Tan\nBako lives\nin  Tan.", "Bako lives in Tan."),
        ("Bako came.\nRilu left.", "Bako came. Rilu left."),
        ('"Come!"\nRilu came.', '"Come!" Rilu came.'),
        ("no mark at all", "no mark at all"),
        ("\n\nBako of Tan\n\nYes.", "Yes."),
    ],
)
def test_plain_text_loses_a_first_line_without_a_final_mark(text, clean):
    assert clean_plain(text) == clean
