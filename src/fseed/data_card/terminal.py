"""A data card on a terminal; marks are colours there, and brackets in a pipe."""

from typing import TextIO

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from fseed.data_card.blocks import Block, Card, Histogram, Sample, Table
from fseed.plain_text import plain_text

PIPE_WIDTH = 100  # columns where there is no terminal
BAR_WIDTH = 40
BRACKETS = ("\u27e6", "\u27e7")


def print_card(card: Card, stream: TextIO) -> None:
    """Print the card in the width of the terminal."""
    console = Console(file=stream, width=None if stream.isatty() else PIPE_WIDTH, highlight=False)
    # rich leaves the program when a pipe is closed; captured, the caller may decide
    with console.capture() as captured:
        console.print(_shown(card.heading, style="bold"), soft_wrap=True)
        console.print(_shown(card.summary))
        for block in card.blocks:
            console.print()
            _print_block(block, console)
    stream.write(captured.get())
    stream.flush()


def bars(histogram: Histogram, *, width: int = BAR_WIDTH) -> list[str]:
    """Return one line a bin: range, bar, count."""
    most = max((part.count for part in histogram.bins), default=0)
    labels = [part.label for part in histogram.bins]
    margin = max((len(label) for label in labels), default=0)
    return [
        f"{label:>{margin}} {'#' * round(width * part.count / most):<{width}} {part.count:,}"
        for label, part in zip(labels, histogram.bins, strict=True)
    ]


def _shown(text: str, style: str = "") -> Text:
    """Return a text of the data, in which control characters are spelt out."""
    return Text(plain_text(text), style=style)


def _print_block(block: Block, console: Console) -> None:
    if isinstance(block, Table):
        _print_table(block, console)
    elif isinstance(block, Histogram):
        _print_histogram(block, console)
    else:
        _print_sample(block, console)


def _print_table(block: Table, console: Console) -> None:
    console.print(_shown(block.title, style="bold"), soft_wrap=True)
    has_header = any(block.header)
    table = RichTable(
        box=SIMPLE_HEAD if has_header else None,
        show_header=has_header,
        show_edge=False,
        padding=(0, 1),
    )
    for name, side in zip(block.header, block.align, strict=True):
        table.add_column(name, justify="right" if side == "r" else "left", overflow="fold")
    for row in block.rows:
        table.add_row(*(_shown(cell) for cell in row))
    console.print(table)
    if block.note:
        console.print(_shown(f" {block.note}", style="dim"))


def _print_histogram(block: Histogram, console: Console) -> None:
    console.print(_shown(block.title, style="bold"))
    for line in bars(block):
        console.print(_shown(f" {line}"), soft_wrap=True)


def _print_sample(block: Sample, console: Console) -> None:
    is_coloured = console.color_system is not None
    before, after = ("", "") if is_coloured else BRACKETS
    console.print(_shown(f"Example {block.title}", style="bold"))
    for name, spans in block.parts:
        console.print(_shown(f"{name}:", style="dim"))
        text = Text()
        for span in spans:
            if span.is_marked:
                text.append(f"{before}{plain_text(span.text)}{after}", style="black on yellow")
            else:
                text.append(plain_text(span.text))
        console.print(text)
