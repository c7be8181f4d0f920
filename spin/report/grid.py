"""The picture grid as one PNG: captions at the left, model names above."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Final

import matplotlib
from PIL import Image, ImageDraw, ImageFont

from spin.report.pictures import Grid, Picture

CELL: Final = 128  # pixels, both sides
GAP: Final = 8
CAPTION: Final = 232
HEAD: Final = 40
MARGIN: Final = 24
_HEADING_LINES: Final = 5
_LINE: Final = 22  # pixels of a line of a caption with its spacing
_INK, _MUTED, _PAPER, _EMPTY = (24, 29, 36), (98, 108, 120), (255, 255, 255), (238, 240, 242)


def grid_png(grid: Grid, *, cell: int = CELL, colours: int | None = None) -> bytes:
    """Draw the grid; small pictures are scaled up with sharp pixels.

    Args:
        cell: side of a picture in pixels.
        colours: of a palette made for this grid; None keeps all.
    """
    columns = len(grid.headings)
    lead = GAP if grid.has_real else 0  # the real images stand a little apart
    width = 2 * MARGIN + CAPTION + columns * (cell + GAP) + lead
    regular, bold = _font("DejaVuSans.ttf", 15), _font("DejaVuSans-Bold.ttf", 16 if cell >= CELL else 12)
    headings = [_wrapped(heading, bold, cell, _HEADING_LINES) for heading in grid.headings]
    head = max(HEAD, max(map(len, headings)) * _LINE)
    height = 2 * MARGIN + head + len(grid.rows) * (cell + GAP)
    canvas = Image.new("RGB", (width, height), _PAPER)
    pen = ImageDraw.Draw(canvas)
    lefts = [MARGIN + CAPTION + i * (cell + GAP) + (lead if i else 0) for i in range(columns)]
    for left, heading in zip(lefts, headings, strict=True):
        place = (left + cell / 2, MARGIN + head / 2)
        pen.multiline_text(place, "\n".join(heading), _INK, bold, anchor="mm", align="center", spacing=5)
    for number, row in enumerate(grid.rows):
        top = MARGIN + head + number * (cell + GAP)
        lines = "\n".join(_wrapped(row.caption, regular, CAPTION - 20, (cell + GAP) // _LINE))
        pen.multiline_text((MARGIN, top + cell / 2), lines, _MUTED, regular, anchor="lm", spacing=5)
        for left, picture in zip(lefts, row.pictures, strict=True):
            _paste(canvas, picture, (left, top), cell)
    stream = io.BytesIO()
    (canvas if colours is None else canvas.quantize(colours)).save(stream, "PNG", optimize=True)
    return stream.getvalue()


def _paste(canvas: Image.Image, picture: Picture | None, place: tuple[int, int], cell: int) -> None:
    if picture is None:
        canvas.paste(_EMPTY, (*place, place[0] + cell, place[1] + cell))
        return
    image = picture.image
    sharp = max(image.size) <= cell
    scale = cell / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    fitted = image.resize(size, Image.Resampling.NEAREST if sharp else Image.Resampling.LANCZOS)
    canvas.paste(fitted, (place[0] + (cell - size[0]) // 2, place[1] + (cell - size[1]) // 2))


def _wrapped(text: str, font: ImageFont.FreeTypeFont, width: int, lines: int) -> list[str]:
    done, line = [], ""
    for word in text.split():
        longer = f"{line} {word}".strip()
        if line and font.getlength(longer) > width:
            done.append(line)
            longer = word
        line = longer
    done.append(line)
    if len(done) > lines:
        done = [*done[: lines - 1], f"{done[lines - 1]} ..."]
    return [_cut(line, font, width) for line in done]


def _cut(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    while len(text) > 1 and font.getlength(text) > width:
        text = text[:-1]
    return text


def _font(name: str, size: int) -> ImageFont.FreeTypeFont:
    """Matplotlib brings DejaVu along, so the picture is the same on every machine."""
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), size)
