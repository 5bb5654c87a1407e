"""What a command writes on a terminal, as a picture."""

import re
from io import StringIO
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from docs.picture.chromium import take_picture

CHARACTER_WIDTH: Final = 12.2
"""Pixels of a character of rich's SVG, about; the rest is the frame."""
FRAME_WIDTH: Final = 20
_WEB_FONT: Final = re.compile(r"@font-face \{.*?\}", re.DOTALL)
_PAGE: Final = """\
<!doctype html><meta charset="utf-8">
<style>html, body {{ margin: 0 }} svg {{ display: block; width: 100% }}</style>
{svg}
"""
_THEME: Final = TerminalTheme(
    (28, 33, 40),
    (214, 221, 229),
    [
        (28, 33, 40),
        (240, 113, 120),
        (126, 211, 133),
        (232, 191, 106),
        (122, 176, 240),
        (199, 146, 234),
        (108, 203, 214),
        (214, 221, 229),
    ],
    [
        (120, 130, 140),
        (255, 140, 145),
        (150, 230, 155),
        (250, 215, 130),
        (150, 195, 255),
        (215, 170, 250),
        (130, 225, 235),
        (255, 255, 255),
    ],
)


def draw_terminal(command: str, written: str, picture: Path, *, columns: int) -> None:
    """Draw the command at its prompt, and what it has written (with colours as ANSI codes), into a PNG file."""
    console = Console(width=columns, record=True, file=StringIO(), force_terminal=True, color_system="truecolor")
    console.print(Text.assemble(("$ ", "dim"), (command, "bold")))
    console.print(Text.from_ansi(written.replace("\r\n", "\n").rstrip()))
    console.print()
    svg = console.export_svg(title="", theme=_THEME)
    # The page must not load a font from elsewhere: the machine's own has the same width for all characters, too.
    svg = _WEB_FONT.sub("", svg).replace("Fira Code", "DejaVu Sans Mono")
    take_picture(_PAGE.format(svg=svg), picture, width=round(columns * CHARACTER_WIDTH) + FRAME_WIDTH)


def last_screen(written: str, first: str) -> str:
    """What was written from the line on that has ``first``: without the progress that was shown before it."""
    lines = written.splitlines(keepends=True)
    (begin,) = [number for number, line in enumerate(lines) if first in line]
    return "".join(lines[begin:])
