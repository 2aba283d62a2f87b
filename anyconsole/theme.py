"""Themes: one TOML file each, checked while it is read, and a lint that tells whether everybody can read the screen all night.

A file has the keys of Textual's `Theme` (`primary`, `success`, `surface`, ...), where `success`, `warning` and `error` are what the
console paints ok, warn and crit with, and `[variables]`, where `drained` and `stale` complete the palette.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from itertools import combinations
from pathlib import Path
from types import MappingProxyType
from typing import Any

from textual.color import Color, ColorParseError
from textual.theme import Theme

from anyconsole.errors import AnyconsoleError

__all__ = [
    "DEFAULT_THEME", "MONOCHROME_THEME", "VARIABLE_DEFAULTS", "ThemeError", "contrast", "distance", "find_themes", "lint", "load_theme",
    "seen_with",
]  # fmt: skip

DEFAULT_THEME = "night"
"""The theme of somebody who has chosen none."""

MONOCHROME_THEME = "ansi"
"""The theme under NO_COLOR, with `App(ansi_color=True)`: only so does Textual leave colours out; else it merely turns them grey."""

VARIABLE_DEFAULTS: Mapping[str, str] = MappingProxyType(
    {"drained": "#c39bff", "stale": "#94a1b2", "stale-style": "none"}
)
"""CSS variables of ours beside Textual's; an app returns them from `get_theme_variable_defaults` so that any theme works."""

MIN_CONTRAST = 4.5
"""Least contrast of text to what it is on (WCAG 2.2, level AA)."""

MIN_DISTANCE = 25.0
"""Least distance of two levels' colours (CIE76, in Lab)."""


class ThemeError(AnyconsoleError):
    """A theme file that can't be used; the message names file, key, value and the nearest valid key."""


# Reading

_COLOURS = (
    "primary",
    "secondary",
    "warning",
    "error",
    "success",
    "accent",
    "foreground",
    "background",
    "surface",
    "panel",
    "boost",
)
_REQUIRED = ("primary", "warning", "error", "success", "accent", "foreground", "background", "surface", "panel")
_TYPES: Mapping[str, type | tuple[type, ...]] = {
    **dict.fromkeys(_COLOURS, str),
    "name": str, "dark": bool, "ansi": bool, "luminosity_spread": (int, float), "text_alpha": (int, float), "variables": dict,
}  # fmt: skip
_TEXT_STYLES = frozenset(
    {
        "none",
        "not",
        "b",
        "bold",
        "dim",
        "i",
        "italic",
        "r",
        "reverse",
        "u",
        "underline",
        "uu",
        "underline2",
        "strike",
        "o",
    }
)


def find_themes(user_folder: Path | None = None) -> dict[str, Path]:
    """Files of all themes by name: the project's own, then the user's, which may replace them.

    Args:
        user_folder: Where the user's themes are; None is `anyconsole/themes` in the user's configuration folder.
    """
    package = Path(__file__).parent
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    folders = (package / "data" / "themes", package.parent / "themes", user_folder or config / "anyconsole" / "themes")
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.toml"))}


def load_theme(path: Path) -> Theme:
    """Read one theme.

    Raises:
        ThemeError: The file can't be read, isn't TOML, or has an unknown key, a wrong type or a colour that isn't one.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ThemeError(f"{path}: this theme can't be read: {error}") from error
    for key, value in table.items():
        if key not in _TYPES:
            raise ThemeError(f"{path}: unknown key {key!r}{_nearest(key, _TYPES)}")
        if not isinstance(value, _TYPES[key]) or (isinstance(value, bool) and _TYPES[key] is not bool):
            raise ThemeError(f"{path}: {key} = {value!r} is of the wrong type")
    for key in _REQUIRED:
        if key not in table:
            raise ThemeError(f"{path}: {key!r} is missing")
    for key in _COLOURS:
        if key in table:
            _check_colour(path, key, table[key])
    theme = Theme(**{"name": path.stem, **table})
    _check_variables(path, theme)
    return theme


def _check_variables(path: Path, theme: Theme) -> None:
    either = [
        dataclasses.replace(theme, variables={}, ansi=ansi).to_color_system().generate() for ansi in (False, True)
    ]
    known = {*either[0], *either[1], *VARIABLE_DEFAULTS}
    for key, value in theme.variables.items():
        where = f"variables.{key}"
        if key not in known:
            raise ThemeError(f"{path}: unknown key {where!r}{_nearest(key, known)}")
        if not isinstance(value, str):
            raise ThemeError(f"{path}: {where} = {value!r} is of the wrong type; write it as text")
        if key.endswith("-style"):
            if unknown := set(value.split()) - _TEXT_STYLES:
                raise ThemeError(
                    f"{path}: {where} = {value!r}: {min(unknown)!r} is no text style{_nearest(min(unknown), _TEXT_STYLES)}"
                )
        elif not re.fullmatch(r"auto( \d{1,3}%)?|initial", value):
            _check_colour(path, where, re.sub(r" \d{1,3}%$", "", value))
    # Textual derives most variables from the colours, but not all of them in ansi themes, and one that is missing stops the app.
    for key in ("drained", "stale", *sorted(either[0].keys() - either[theme.ansi].keys())):
        if key not in theme.variables:
            raise ThemeError(f"{path}: 'variables.{key}' is missing")


def _check_colour(path: Path, key: str, value: str) -> None:
    try:
        Color.parse(value)
    except ColorParseError as error:
        hint = f" (did you mean {error.suggested_color!r}?)" if error.suggested_color else ""
        raise ThemeError(f"{path}: {key} = {value!r} is no colour{hint}") from error


def _nearest(key: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(key, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


# Lint

_LEVELS = ("ok", "warn", "crit", "drained", "stale")

_Rgb = tuple[float, float, float]
_Matrix = tuple[_Rgb, _Rgb, _Rgb]

# Machado, Oliveira, Fernandes 2009, severity 1.0: what somebody sees who lacks one kind of cone, in linear RGB.
_EYES: Mapping[str, _Matrix] = {
    "normal": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "deuteranopia": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "protanopia": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
}


def lint(theme: Theme) -> list[str]:
    """What is hard to read in a theme, one sentence each; empty if nothing is.

    An ansi theme is exempt: its colours are those of the user's own terminal, which nobody here knows.
    """
    if theme.ansi:
        return []
    colours = _palette(theme)
    problems = []
    for ground in ("surface", "panel", "background", "cursor", "blurred cursor"):
        for text in ("foreground", "primary", "accent", *_LEVELS):
            if text == "primary" and "cursor" in ground:
                continue  # primary is for curves and borders, which no cursor crosses
            ratio = contrast(colours[text], colours[ground])
            if ratio < MIN_CONTRAST:
                problems.append(
                    f"{theme.name}: contrast of {text} on {ground} is {ratio:.1f}:1, wanted are {MIN_CONTRAST}:1"
                )
    for text, ground in (
        ("cursor text", "cursor"),
        ("blurred cursor text", "blurred cursor"),
        ("footer key", "footer"),
    ):
        ratio = contrast(colours[text], colours[ground])
        if ratio < MIN_CONTRAST:
            problems.append(f"{theme.name}: contrast of {text} is {ratio:.1f}:1, wanted are {MIN_CONTRAST}:1")
    for eyes in _EYES:
        for one, other in combinations(("ok", "warn", "crit", "drained"), 2):
            apart = distance(seen_with(eyes, colours[one]), seen_with(eyes, colours[other]))
            if apart < MIN_DISTANCE:
                problems.append(
                    f"{theme.name}: {one} and {other} look alike with {eyes} eyes: {apart:.0f} apart, wanted are {MIN_DISTANCE:.0f}"
                )
    return problems


def _palette(theme: Theme) -> dict[str, Color]:
    """The colours that meet on the screen, opaque."""
    css: dict[str, Any] = {**VARIABLE_DEFAULTS, **theme.to_color_system().generate(), **theme.variables}
    surface = Color.parse(css["surface"])

    def colour(name: str) -> Color:
        value = css[name]
        return Color.parse(css["foreground"]) if value.startswith("auto") else surface + Color.parse(value)

    names = {
        **{name: name for name in ("foreground", "primary", "accent", "surface", "panel", "background", "drained", "stale")},
        "ok": "success", "warn": "warning", "crit": "error",
        "cursor": "block-cursor-background", "cursor text": "block-cursor-foreground",
        "blurred cursor": "block-cursor-blurred-background", "blurred cursor text": "block-cursor-blurred-foreground",
        "footer": "footer-background", "footer key": "footer-key-foreground",
    }  # fmt: skip
    return {ours: colour(theirs) for ours, theirs in names.items()}


def contrast(one: Color, other: Color) -> float:
    """Contrast of two opaque colours, 1 to 21 (WCAG)."""
    darker, lighter = sorted(_luminance(colour) for colour in (one, other))
    return (lighter + 0.05) / (darker + 0.05)


def distance(one: Color, other: Color) -> float:
    """How far apart two opaque colours look (CIE76: about 2 is just noticeable)."""
    return math.dist(_lab(one), _lab(other))


def seen_with(eyes: str, colour: Color) -> Color:
    """A colour as somebody sees it: `eyes` is normal, deuteranopia or protanopia."""
    linear = _linear(colour)
    red, green, blue = (_encode(sum(a * b for a, b in zip(row, linear, strict=True))) for row in _EYES[eyes])
    return Color(red, green, blue)


def _linear(colour: Color) -> _Rgb:
    red, green, blue = (c / 255 / 12.92 if c <= 10.31 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour.rgb)
    return red, green, blue


def _encode(value: float) -> int:
    value = min(1.0, max(0.0, value))
    return round(255 * (12.92 * value if value <= 0.0031308 else 1.055 * value ** (1 / 2.4) - 0.055))


def _luminance(colour: Color) -> float:
    red, green, blue = _linear(colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _lab(colour: Color) -> _Rgb:
    red, green, blue = _linear(colour)
    x = (0.4124 * red + 0.3576 * green + 0.1805 * blue) / 0.9505
    y = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    z = (0.0193 * red + 0.1192 * green + 0.9505 * blue) / 1.089
    fx, fy, fz = (t ** (1 / 3) if t > 0.008856 else 7.787 * t + 16 / 116 for t in (x, y, z))
    return 116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)
