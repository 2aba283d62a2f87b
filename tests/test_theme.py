"""Everybody can read every theme all night, and a mistake in a theme file is found where it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.app import App, ComposeResult
from textual.color import Color
from textual.theme import BUILTIN_THEMES, Theme
from textual.widgets import Button, Footer, Header, Input, Label, Markdown, OptionList, Select, TextArea, Tree

from anyconsole.theme import (
    DEFAULT_THEME,
    MONOCHROME_THEME,
    VARIABLE_DEFAULTS,
    ThemeError,
    contrast,
    distance,
    find_themes,
    lint,
    load_theme,
    seen_with,
)
from anyconsole.tui.widgets.line_table import Cell, Column, Level, LineTable

PROJECT = find_themes(Path("/nonexistent"))
NIGHT = PROJECT["night"].read_text()


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return path


def test_project_brings_dark_light_colour_blind_and_monochrome_themes() -> None:
    assert set(PROJECT) >= {DEFAULT_THEME, "day", "colour-blind", MONOCHROME_THEME}
    assert load_theme(PROJECT["night"]).dark
    assert not load_theme(PROJECT["day"]).dark


@pytest.mark.parametrize("name", sorted(PROJECT))
def test_every_theme_is_readable_also_for_colour_blind_eyes(name: str) -> None:
    assert lint(load_theme(PROJECT[name])) == []


def test_ansi_theme_leaves_all_colours_to_the_terminal_and_shows_the_cursor_without_them() -> None:
    """Why it is exempt from the lint: it names no colour of its own."""
    theme = load_theme(PROJECT["ansi"])
    assert theme.ansi
    colours = [
        theme.primary,
        theme.success,
        theme.warning,
        theme.error,
        theme.surface,
        theme.panel,
        theme.background,
        theme.foreground,
    ]
    assert all(colour is not None and colour.startswith("ansi_") for colour in colours)
    assert "reverse" in theme.variables["block-cursor-text-style"]


@pytest.mark.parametrize("name", ["textual-light", "nord", "tokyo-night", "solarized-dark"])
def test_lint_finds_what_is_known_to_be_unreadable(name: str) -> None:
    assert lint(BUILTIN_THEMES[name])


def test_lint_says_which_colours_on_what_and_by_how_much() -> None:
    theme = load_theme(PROJECT["night"])
    grey = Theme(**{**vars(theme), "success": "#444444", "error": "#454545"})
    problems = lint(grey)
    assert any(p.startswith("night: contrast of ok on surface is 1.") and "4.5" in p for p in problems)
    assert any("ok and crit look alike with normal eyes: 0 apart" in p for p in problems)


def test_red_and_green_of_equal_lightness_look_alike_without_green_cones() -> None:
    red, green = Color.parse("#c05040"), Color.parse("#7a8a30")
    assert distance(red, green) > 40
    assert distance(seen_with("deuteranopia", red), seen_with("deuteranopia", green)) < 25


def test_contrast_has_the_values_of_the_standard() -> None:
    assert contrast(Color.parse("#000"), Color.parse("#fff")) == pytest.approx(21)
    assert contrast(Color.parse("#777"), Color.parse("#fff")) == pytest.approx(4.48, abs=0.01)


def test_users_theme_replaces_the_projects_theme_of_that_name(tmp_path: Path) -> None:
    (tmp_path / "night.toml").write_text(NIGHT)
    (tmp_path / "mine.toml").write_text(NIGHT)
    themes = find_themes(tmp_path)
    assert themes["night"] == tmp_path / "night.toml"
    assert load_theme(themes["mine"]).name == "mine"
    assert themes["day"] == PROJECT["day"]


def test_users_themes_are_found_in_the_configuration_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "anyconsole" / "themes"
    folder.mkdir(parents=True)
    (folder / "own.toml").write_text(NIGHT)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert find_themes()["own"] == folder / "own.toml"


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("success    =", "sucess =", "unknown key 'sucess'; did you mean 'success'?"),
        ("drained =", "draned =", "unknown key 'variables.draned'; did you mean 'drained'?"),
        ('"#71d7bc"', '"#71d7bg"', "success = '#71d7bg' is no colour"),
        ('"#71d7bc"', '"gren"', "did you mean"),
        ('"#c39bff"', '"purpel"', "variables.drained = 'purpel' is no colour"),
        ("dark = true", "dark = 1", "dark = 1 is of the wrong type"),
        ("dark = true", "text_alpha = true", "text_alpha = True is of the wrong type"),
        ('"#71d7bc"', "7", "success = 7 is of the wrong type"),
        ('drained = "#c39bff"', "drained = 3", "variables.drained = 3 is of the wrong type"),
        ('drained = "#c39bff"', "", "'variables.drained' is missing"),
        ('primary    = "#5b93cc"', "", "'primary' is missing"),
        ('block-cursor-text-style         = "bold"', 'block-cursor-text-style = "blod"', "did you mean 'bold'?"),
        ("[variables]", "[variables", "can't be read"),
    ],
)
def test_mistake_in_a_theme_names_file_key_and_the_nearest_valid_word(
    tmp_path: Path, before: str, after: str, said: str
) -> None:
    assert before in NIGHT
    path = written(tmp_path, NIGHT.replace(before, after, 1))
    with pytest.raises(ThemeError) as raised:
        load_theme(path)
    assert str(raised.value).startswith(f"{path}: ")
    assert said in str(raised.value)


def test_missing_theme_file_is_a_theme_error(tmp_path: Path) -> None:
    with pytest.raises(ThemeError, match=r"nothing\.toml"):
        load_theme(tmp_path / "nothing.toml")


def test_ansi_theme_without_the_variables_that_textual_needs_is_refused(tmp_path: Path) -> None:
    text = PROJECT["ansi"].read_text().replace('ansi-background = "ansi_default"\n', "")
    with pytest.raises(ThemeError, match="ansi-background"):
        load_theme(written(tmp_path, text))


class EverythingApp(App[None]):
    """Most of Textual's widgets, so that a variable that a theme lacks shows."""

    def __init__(self, theme: Theme, *, ansi_color: bool | None = None) -> None:
        super().__init__(ansi_color=ansi_color)
        self.register_theme(theme)
        self.theme = theme.name

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return dict(VARIABLE_DEFAULTS)

    def compose(self) -> ComposeResult:
        table = LineTable([Column("a", "A"), Column("b", "B")])
        table.set_rows({level: (Cell(level), Cell(level, level)) for level in Level})
        yield from (Header(), table, Input(), OptionList("a"), Tree("t"), Label("l"), Button("b", variant="error"))
        yield from (Markdown("# h\n[l](x)"), TextArea(), Select([("a", 1)]), Footer())


@pytest.mark.parametrize("name", sorted(PROJECT))
async def test_app_with_all_kinds_of_widgets_runs_in_every_theme(name: str) -> None:
    app = EverythingApp(load_theme(PROJECT[name]))
    async with app.run_test(size=(80, 40)) as pilot:
        await pilot.pause()
        styles = {level: app.query_one(LineTable)._style(level) for level in Level}
    assert len({str(styles[level]) for level in (Level.OK, Level.WARN, Level.CRIT, Level.DRAINED, Level.STALE)}) == 5


async def test_without_colour_the_ansi_theme_writes_no_colour_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    app = EverythingApp(load_theme(PROJECT["ansi"]), ansi_color=True)
    async with app.run_test(size=(80, 40)) as pilot:
        await pilot.pause()
        styles = [
            segment.style for strip in app.screen._compositor.render_strips() for segment in strip if segment.style
        ]
    assert any(style.reverse for style in styles)
    assert {
        str(c) for style in styles for c in (style.color, style.bgcolor) if c is not None and not c.is_default
    } == set()
