"""A small tree of a page, to ask what it holds."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "br", "hr", "col"}


@dataclass
class Node:
    tag: str
    attributes: dict[str, str] = field(default_factory=dict)
    children: list["Node | str"] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(child if isinstance(child, str) else child.text for child in self.children)

    @property
    def classes(self) -> list[str]:
        return self.attributes.get("class", "").split()

    def walk(self) -> Iterator["Node"]:
        yield self
        for child in self.children:
            if isinstance(child, Node):
                yield from child.walk()

    def find(self, tag: str | None = None, *classes: str) -> list["Node"]:
        """Return the nodes below with the tag and all the classes, in order."""
        return [
            node
            for node in self.walk()
            if node is not self
            and (tag is None or node.tag == tag)
            and set(classes) <= set(node.classes)
        ]

    def one(self, tag: str | None = None, *classes: str) -> "Node":
        (node,) = self.find(tag, *classes)
        return node

    def number(self, name: str) -> float:
        return float(self.attributes[name].rstrip("%"))


class _Builder(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Node("root")
        self.open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        node = Node(tag, {name: value or "" for name, value in attrs})
        self.open[-1].children.append(node)
        if tag not in VOID:
            self.open.append(node)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open[-1].children.append(Node(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].tag == tag, f"</{tag}> closes <{self.open[-1].tag}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)


def parse(markup: str) -> Node:
    """Return the tree; an element that is not closed where it should be is an error."""
    builder = _Builder()
    builder.feed(markup)
    builder.close()
    assert builder.open == [builder.root], f"left open: {[node.tag for node in builder.open]}"
    return builder.root


def axis_of(ticks: list[Node], name: str) -> tuple[float, float]:
    """Return (slope, offset) that turn a coordinate into a value, from the first and last tick."""
    first, last = ticks[0], ticks[-1]
    values = [node.number("data-value") for node in (first, last)]
    places = [node.number(name) for node in (first, last)]
    slope = (values[1] - values[0]) / (places[1] - places[0])
    return slope, values[0] - slope * places[0]
