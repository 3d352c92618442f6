"""The report in a real browser: photographed, measured, without a word on the console."""

import json
import re
import shutil
import struct
import subprocess
import zlib
from html import escape
from pathlib import Path
from typing import Any

import pytest

from fseed.results.collection import Collection, collect_runs
from fseed.results.html.page import render_html
from fseed.results.html.sections.published import PublishedTable
from tests.results.html.builders import root_of
from tests.results.html.test_style import colours_of

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium on this machine")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--hide-scrollbars", "--enable-logging=stderr"),
)
# of the frame "told": how wide the page is, what sticks out, which colour it has
MEASURE = """
<pre id="told"></pre>
<script>
const told = {};
function measure(frame) {
  const page = frame.contentDocument, width = frame.clientWidth;
  const outside = [...page.body.querySelectorAll("*")]
    .filter((node) => !node.parentElement.closest(".scroll, svg, thead"))
    .filter((node) => node.getBoundingClientRect().right > width + 1)
    .map((node) => node.tagName + "." + node.className);
  told[frame.id] = {
    page: page.documentElement.scrollWidth, frame: width, outside: outside.slice(0, 5),
    paper: frame.contentWindow.getComputedStyle(page.body).backgroundColor,
    height: page.documentElement.scrollHeight,
  };
  document.getElementById("told").textContent = JSON.stringify(told);
}
</script>
"""


@pytest.fixture(scope="module")
def page(report: Collection, staged: Collection) -> str:
    collection = collect_runs([root_of(report), root_of(staged)])
    columns = ("row", "published", "matched", "ours")
    table = PublishedTable("Earlier figures", columns, (("a", "+13.61", "+1.00", "none"),))
    return render_html(collection, title="Does Future-Seed help?", published=[table])


def browse(page: Path, *arguments: str, is_dark: bool = False) -> subprocess.CompletedProcess[str]:
    assert BROWSER is not None
    scheme = f"--blink-settings=preferredColorScheme={0 if is_dark else 1}"
    profile = f"--user-data-dir={page.parent / 'profile'}"
    command = [BROWSER, *FLAGS, scheme, profile, *arguments, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=90, check=True)


def console_lines(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def first_pixel(path: Path) -> tuple[tuple[int, int], tuple[int, ...]]:
    """Return the size and the colour of the first pixel of a PNG."""
    data = path.read_bytes()
    width, height, _, kind = struct.unpack(">IIBB", data[16:26])
    chunks, place = b"", 8
    while place < len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        if data[place + 4 : place + 8] == b"IDAT":
            chunks += data[place + 8 : place + 8 + length]
        place += 12 + length
    assert kind in (2, 6)  # without or with alpha
    # no filter changes the first pixel of the first line: nothing stands left of it or above
    return (width, height), tuple(zlib.decompress(chunks)[1:4])


def paper(*, is_dark: bool) -> tuple[int, ...]:
    return tuple(round(255 * c) for c in colours_of("dark" if is_dark else "light")["paper"])


@pytest.mark.parametrize("is_dark", [False, True])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_is_photographed_in_both_themes(
    page: str, tmp_path: Path, width: int, is_dark: bool
) -> None:
    path, picture = tmp_path / "report.html", tmp_path / "report.png"
    path.write_text(page)
    size = f"--window-size={width},1600"
    done = browse(path, size, f"--screenshot={picture}", is_dark=is_dark)
    assert console_lines(done) == []
    assert first_pixel(picture) == ((width, 1600), paper(is_dark=is_dark))
    # a blank page takes a few kB
    assert picture.stat().st_size > 50_000


@pytest.mark.parametrize("is_dark", [False, True])
def test_nothing_sticks_out_on_a_phone_or_a_screen(
    page: str, tmp_path: Path, is_dark: bool
) -> None:
    told = measure(page.replace("<details>", "<details open>"), tmp_path, is_dark=is_dark)
    assert set(told) == {"w360", "w390", "w768", "w1280"}
    for name, sizes in told.items():
        assert sizes["frame"] == int(name[1:])
        assert sizes["page"] <= sizes["frame"], (name, sizes)
        assert sizes["outside"] == [], name
        assert sizes["height"] > 3000
        channels = tuple(map(int, re.findall(r"\d+", sizes["paper"])))
        assert channels == paper(is_dark=is_dark)


def test_long_names_do_not_widen_the_page(report: Collection, tmp_path: Path) -> None:
    title = "a_name_without_a_break_" * 12
    told = measure(render_html(report, title=title), tmp_path)
    assert all(sizes["page"] <= sizes["frame"] for sizes in told.values()), told


def test_the_measure_sees_what_sticks_out(page: str, tmp_path: Path) -> None:
    wide = page.replace("<main>", '<main><p class="wide"><svg width="1500"></svg></p>')
    told = measure(wide, tmp_path)
    assert all(sizes["page"] > sizes["frame"] for sizes in told.values())


def test_the_console_is_heard(tmp_path: Path) -> None:
    path = tmp_path / "loud.html"
    policy = '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'">'
    path.write_text(f"<!DOCTYPE html>{policy}<script>alert(1)</script>")
    assert console_lines(browse(path, f"--screenshot={tmp_path / 'x.png'}"))


def measure(page: str, folder: Path, *, is_dark: bool = False) -> dict[str, Any]:
    """Show the page in frames of several widths and return what ``MEASURE`` tells of each."""
    frames = [
        f'<iframe id="w{width}" style="width:{width}px;height:800px;border:0" '
        f'onload="measure(this)" srcdoc="{escape(page)}"></iframe>'
        for width in (360, 390, 768, 1280)
    ]
    path = folder / "frames.html"
    scheme = '<meta name="color-scheme" content="light dark">'
    path.write_text(f'<!DOCTYPE html><meta charset="utf-8">{scheme}{MEASURE}{"".join(frames)}')
    done = browse(path, "--dump-dom", "--window-size=1400,900", is_dark=is_dark)
    found = re.search(r'<pre id="told">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found is not None
    return json.loads(found[1].replace("&quot;", '"').replace("&gt;", ">"))
