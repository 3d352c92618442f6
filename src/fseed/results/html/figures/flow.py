"""The way of every arm through a staged search: a line that ends where the arm was dropped."""

from collections.abc import Sequence
from dataclasses import dataclass

from fseed.results.html.figures.forest import plot_area
from fseed.results.html.markup import Html, element, number
from fseed.results.html.words import count

# drawn around the origin, 12 wide: shapes tell the states apart without colour
_SHAPES = {
    "passed": "M-5 -5 6 0 -5 5z",
    "dropped": "M-5 -3.6-3.6-5 0-1.4 3.6-5 5-3.6 1.4 0 5 3.6 3.6 5 0 1.4-3.6 5-5 3.6-1.4 0z",
    "continues": "M-3 0a3 3 0 1 0 6 0a3 3 0 1 0-6 0z",
}


@dataclass(frozen=True)
class Slot:
    """One point of decision: a stage and its rung, with the number of seeds there."""

    stage: str
    rung: int
    num_seeds: int


@dataclass(frozen=True)
class Stop:
    """What was decided on an arm at the slot of position ``slot``; ``text`` with its numbers."""

    slot: int
    state: str  # passed | dropped | continues
    text: str


@dataclass(frozen=True)
class Lane:
    """An arm, its decisions in order, and in words where it ended."""

    arm: str
    note: str
    end: str
    stops: tuple[Stop, ...]
    is_beneath: bool = False


def render_flow(slots: Sequence[Slot], lanes: Sequence[Lane], *, caption: str) -> Html:
    """Return the figure, the slots from left to right; nothing without lanes."""
    if not lanes:
        return Html("")
    head = element("div", element("div"), _header(slots), element("div"), class_="forest-row head")
    rows = [_row(lane, slots) for lane in lanes]
    body = element("div", head, *rows, class_="forest-rows")
    return element("figure", element("figcaption", caption), body, class_="forest flow")


def slot_place(index: int, num_slots: int) -> float:
    """Return where a slot stands, in percent of the width."""
    return 100 * (index + 0.5) / num_slots


def _header(slots: Sequence[Slot]) -> Html:
    """Write every stage once above its slots, and the number of seeds above each slot."""
    texts = []
    for index, slot in enumerate(slots):
        if index == 0 or slots[index - 1].stage != slot.stage:
            x = f"{number(100 * index / len(slots))}%"
            texts.append(element("text", slot.stage, x=x, y=12, dx=6, class_="axis-title"))
        x = f"{number(slot_place(index, len(slots)))}%"
        texts.append(element("text", str(slot.num_seeds), x=x, y=30, class_="tick"))
    return element("svg", *texts, height=36, width="100%", aria_hidden="true")


def _row(lane: Lane, slots: Sequence[Slot]) -> Html:
    label = element("span", lane.arm, class_="arm-name")
    note = element("span", lane.note, class_="soft") if lane.note else None
    return element(
        "div",
        element("div", label, note, class_="who"),
        _drawing(lane, slots),
        element("div", lane.end, class_="what small"),
        class_="forest-row beneath" if lane.is_beneath else "forest-row",
    )


def _drawing(lane: Lane, slots: Sequence[Slot]) -> Html:
    borders = [
        _border(index, len(slots))
        for index in range(1, len(slots))
        if slots[index].stage != slots[index - 1].stage
    ]
    path = None
    if lane.stops:
        end = f"{number(slot_place(lane.stops[-1].slot, len(slots)))}%"
        path = element("line", x1=0, x2=end, y1=0, y2=0, class_="lane")
    return plot_area(borders, [path, *(_stop(stop, len(slots)) for stop in lane.stops)])


def _border(index: int, num_slots: int) -> Html:
    x = f"{number(100 * index / num_slots)}%"
    return element("line", x1=x, x2=x, y1=0, y2="100%", class_="grid")


def _stop(stop: Stop, num_slots: int) -> Html:
    shape = element("path", d=_SHAPES[stop.state], class_=f"stop {stop.state}")
    x = f"{number(slot_place(stop.slot, num_slots))}%"
    title = element("title", f"{stop.state}: {stop.text}")
    return element("svg", title, shape, x=x, overflow="visible")


def flow_legend(num_arms: int) -> str:
    """Return how to read the figure."""
    arms = count(num_arms, "arm")
    return (
        f"{arms}; numbers above: seeds at each decision; triangle: passed to the next stage; "
        "dot: continues with more seeds; cross: dropped."
    )
