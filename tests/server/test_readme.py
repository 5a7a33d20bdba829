"""What the README promises can be checked: its commands, its variables, its links."""

import re
from pathlib import Path

import pytest

from server import cli, config


def test_readme_lists_every_variable_as_the_code_has_it(root: Path) -> None:
    text = (root / "README.md").read_text()

    for variable in config.VARIABLES:
        assert f"| `{variable.name}` | {variable.default} | {variable.meaning} |" in text


def test_readme_names_the_command_that_ci_runs(root: Path) -> None:
    command = "uv run pytest"

    assert f"pip install uv && {command}" in (root / "README.md").read_text()
    assert re.search(rf"^CI=true {command}$", (root / ".ci" / "run").read_text(), re.MULTILINE)


def test_readme_names_every_command_and_no_other(root: Path) -> None:
    named = set(re.findall(r"`fourtalk ([a-z]+)", (root / "README.md").read_text()))

    known = set(re.findall(r"^    ([a-z]+) ", cli.parser().format_help(), re.MULTILINE))
    assert named
    assert named == known


def test_links_in_readmes_lead_somewhere(root: Path) -> None:
    for readme in [root / "README.md", *root.glob("*/README.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", readme.read_text()):
            assert (readme.parent / target).exists(), f"{readme}: {target}"


@pytest.mark.parametrize("package", ["server", "rooms"])
def test_readme_of_a_package_names_all_its_parts(root: Path, package: str) -> None:
    text = (root / package / "README.md").read_text()
    modules = {path.stem for path in (root / package).glob("[!_]*.py")}
    folders = {path.parent.name for path in (root / package).glob("*/__init__.py")}

    missing = {part for part in modules | folders if not re.search(rf"`{part}(\.py|/)?`", text)}

    assert not missing
