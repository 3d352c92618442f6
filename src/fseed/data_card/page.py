"""A data card as one HTML file: no script, nothing loaded, light and dark, phone to desktop."""

from collections.abc import Iterator, Sequence
from html import escape

from fseed.data_card.blocks import Bin, Block, Card, Histogram, Sample, Table

CHART_WIDTH, CHART_HEIGHT, AXIS_HEIGHT = 320, 150, 16
MAX_BAR_WIDTH = 48

RIGHT = ' class="r"'

_STYLE = """
:root { color-scheme: light dark; --text: #1c1e21; --faint: #5f6670; --back: #ffffff;
  --line: #d9dde3; --bar: #2f6fb3; --mark: #ffe08a; --panel: #f5f6f8; }
@media (prefers-color-scheme: dark) { :root { --text: #e6e8eb; --faint: #a3abb5; --back: #15181c;
  --line: #363c44; --bar: #6ea8e0; --mark: #6b5200; --panel: #1e2227; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 60rem; color: var(--text);
  background: var(--back); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.3rem; overflow-wrap: anywhere; }
h2 { font-size: 1.05rem; margin: 2rem 0 0.5rem; }
h3 { font-size: 0.9rem; margin: 0.75rem 0 0.25rem; color: var(--faint); font-weight: 600; }
p { color: var(--faint); margin: 0.5rem 0; font-size: 0.9rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.9rem; }
th, td { text-align: left; padding: 0.3rem 0.75rem 0.3rem 0; vertical-align: top;
  border-bottom: 1px solid var(--line); overflow-wrap: break-word; }
.r { text-align: right; white-space: nowrap; }
.wide td:not(:first-child):not(.r) { min-width: 16rem; }
.facts td:last-child { overflow-wrap: anywhere; }
.charts { display: grid; gap: 1rem 2rem;
  grid-template-columns: repeat(auto-fit, minmax(16rem, 1fr)); }
svg { width: 100%; max-width: 30rem; height: auto; display: block; }
svg rect { fill: var(--bar); }
svg text { fill: var(--faint); font: 10px system-ui, sans-serif; }
svg line { stroke: var(--line); }
pre { margin: 0; padding: 0.75rem; background: var(--panel); border: 1px solid var(--line);
  border-radius: 6px; white-space: pre-wrap; overflow-wrap: anywhere;
  font: 0.82rem/1.5 ui-monospace, monospace; }
mark { background: var(--mark); color: inherit; border-radius: 2px; border-bottom: 2px solid; }
"""


def render_page(card: Card) -> str:
    """Return the card as a whole HTML document; all text is escaped."""
    blocks = "\n".join(_render(block) for block in _group_charts(card.blocks))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{escape(card.heading)}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>{escape(card.heading)}</h1>
<p>{escape(card.summary)}</p>
{blocks}
</body>
</html>
"""


def _group_charts(blocks: Sequence[Block]) -> list[Block | list[Histogram]]:
    """Return the blocks with neighbouring histograms as one list."""
    grouped: list[Block | list[Histogram]] = []
    for block in blocks:
        last = grouped[-1] if grouped else None
        if not isinstance(block, Histogram):
            grouped.append(block)
        elif isinstance(last, list):
            last.append(block)
        else:
            grouped.append([block])
    return grouped


def _render(block: Block | list[Histogram]) -> str:
    if isinstance(block, list):
        charts = "\n".join(_chart(histogram) for histogram in block)
        return f'<div class="charts">\n{charts}\n</div>'
    if isinstance(block, Table):
        return _table(block)
    if isinstance(block, Sample):
        return _sample(block)
    return _chart(block)


def _table(block: Table) -> str:
    has_header = any(block.header)
    head = f"<thead>{_row(block.header, block.align, tag='th')}</thead>" if has_header else ""
    body = "\n".join(_row(row, block.align, tag="td") for row in block.rows)
    note = f"\n<p>{escape(block.note)}</p>" if block.note else ""
    kind = "wide" if has_header else "facts"
    return (
        f"<h2>{escape(block.title)}</h2>\n"
        f'<div class="{kind}"><table>{head}<tbody>\n{body}\n</tbody></table></div>{note}'
    )


def _row(cells: Sequence[str], align: str, *, tag: str) -> str:
    parts = (
        f"<{tag}{RIGHT if side == 'r' else ''}>{escape(cell)}</{tag}>"
        for cell, side in zip(cells, align, strict=True)
    )
    return f"<tr>{''.join(parts)}</tr>"


def _chart(block: Histogram) -> str:
    """Return one bar a bin, with the first and last length below and the tallest count above."""
    bins = block.bins
    title = escape(block.title)
    size = f'viewBox="0 0 {CHART_WIDTH} {CHART_HEIGHT}"'
    about = f'role="img" aria-label="{title}: {bins[0].low} to {bins[-1].high}"'
    shapes = "\n".join(_shapes(bins))
    return f"<section><h2>{title}</h2>\n<svg {size} {about}>\n{shapes}\n</svg></section>"


def _shapes(bins: Sequence[Bin]) -> Iterator[str]:
    """Yield bars, axis and labels."""
    counts = [part.count for part in bins]
    step = min(CHART_WIDTH / len(bins), MAX_BAR_WIDTH)
    floor = CHART_HEIGHT - AXIS_HEIGHT
    for place, part in enumerate(bins):
        height = (floor - AXIS_HEIGHT) * part.count / max(counts)
        yield (
            f'<rect x="{place * step + 1:.1f}" y="{floor - height:.1f}" width="{step - 2:.1f}" '
            f'height="{height:.1f}"><title>{part.label} tokens: {part.count:,}</title></rect>'
        )
    yield f'<line x1="0" x2="{CHART_WIDTH}" y1="{floor}" y2="{floor}"/>'
    tallest = (counts.index(max(counts)) + 0.5) * step
    # far enough from the sides for a number of five digits
    yield _label(min(max(tallest, 14), CHART_WIDTH - 14), AXIS_HEIGHT - 4, f"{max(counts):,}")
    yield _label(0, CHART_HEIGHT - 4, str(bins[0].low), anchor="start")
    if len(bins) > 1:
        yield _label(len(bins) * step, CHART_HEIGHT - 4, str(bins[-1].high), anchor="end")


def _label(x: float, y: float, text: str, *, anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _sample(block: Sample) -> str:
    parts = [f"<h2>Example {escape(block.title)}</h2>"]
    for name, spans in block.parts:
        text = "".join(
            f"<mark>{escape(span.text)}</mark>" if span.is_marked else escape(span.text)
            for span in spans
        )
        parts.append(f"<h3>{escape(name)}</h3>\n<pre>{text}</pre>")
    return "\n".join(parts)
