"""How to read the report: what every number and every verdict means."""

from fseed.results.html.markup import Html, element
from fseed.results.html.words import badge, percent

_VERDICTS = {
    "helps": "The interval over seeds lies above zero, the adjusted p value is below 0.05 and no "
    "control shows the same gain.",
    "hurts": "The interval over seeds lies below zero and the adjusted p value is below 0.05.",
    "equivalent": "Two one-sided t tests place the difference inside the margin.",
    "no_op": "Every prediction and every metric equals the baseline's, bit for bit.",
    "inconclusive": "None of the above. This is no evidence that there is no difference.",
    "pruned": "The staged search dropped the arm; its reason stands beside it.",
    "failed": "The runs ended with an error.",
    "invalid": "The runs finished, but their numbers cannot be used.",
    "unfinished": "The runs have not ended.",
    "no_matched_baseline": "No finished no_fs run has the same settings, data, code and seed.",
}
_TERMS = {
    "Difference": "Score of the arm minus score of its baseline, the no_fs run that differs in "
    "nothing but Future-Seed; mean over seeds, in percentage points (pp).",
    "95 % interval": "Student t interval over the differences of the seeds, three at least. With "
    "a star: over examples only, because the variance over seeds was not measured.",
    "Adjusted p": "Two-sided paired t test over seeds, adjusted for the number of arms of the "
    "table and of those dropped before: Holm at stage confirm, Benjamini-Hochberg elsewhere.",
    "+/0/\u2212": "Number of seeds above, equal to and below the baseline.",
    "Loss difference": "Nats per answer token, mean over seeds; below zero is better.",
    "Forest plot": "Dot: mean difference, filled when the verdict is helps or hurts. Bar: 95 % "
    "interval, dashed when over examples only. Small strokes: single seeds. An arm without a "
    "number keeps its row.",
    "Learning curves": "Scores on the validation split against prompt and answer tokens read. "
    "Axes of scores start where the data do, not at zero.",
    "Constant answer": "Score of the best answer that is the same for every example.",
    "Controls": "Arms that should not work if Future-Seed works for the reason given; they stand "
    "beneath the arm that they control.",
    "Not recorded": "The record does not hold the number. Nothing is filled in.",
}


def render_reading(margin: float) -> Html:
    """Return the explanations; ``margin`` is the fraction that counts as no difference."""
    terms = [Html(element("dt", name) + element("dd", text)) for name, text in _TERMS.items()]
    verdicts = []
    for name, text in _VERDICTS.items():
        note = f" Margin here: \u00b1{percent(margin)} pp." if name == "equivalent" else ""
        verdicts.append(Html(element("dt", badge(name)) + element("dd", text + note)))
    return element(
        "div",
        element("div", element("h3", "Verdicts"), element("dl", *verdicts)),
        element("div", element("h3", "Numbers and figures"), element("dl", *terms)),
        class_="reading",
    )
