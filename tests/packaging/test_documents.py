"""What the documents say: commands that parse, links that lead somewhere, settings that exist, schemas that
hold."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from farshore.agents.commands.main import app
from farshore.agents.settings import PREFIX, Settings
from farshore.schemas.manifest import load_schema
from farshore.schemas.reasons import DeadLetterReason
from farshore.schemas.records import Outcome
from farshore.schemas.severity import Severity
from farshore.streams.scoring.native_reader import PURE_PYTHON

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted(
    path for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").glob("*.md"))
)
SHELL_BLOCK = re.compile(r"(<!--(?P<note>.*?)-->\s*)?```sh\n(?P<body>.*?)```", re.DOTALL)
LINK = re.compile(r"\]\((?!https?://|#)([^)#]+)")


def shell_blocks() -> list[tuple[str, str, str]]:
    return [
        (document.name, match["note"] or "", match["body"])
        for document in DOCUMENTS
        for match in SHELL_BLOCK.finditer(document.read_text("utf-8"))
    ]


def commands(body: str) -> list[list[str]]:
    lines = [shlex.split(line, comments=True) for line in body.splitlines()]
    return [words for words in lines if words]


def settings_document() -> str:
    """docs/SETTINGS.md as the settings themselves have it."""
    lines = [
        "# Settings",
        "",
        "Environment variables, or a TOML file given by `--config` with the same names in small letters and",
        f'without `{PREFIX}` (`kafka_bootstrap = "…"`). The environment wins. A wrong value, and a name that',
        "does not exist, are refused at start.",
        "",
        f"`{PURE_PYTHON}`, in the environment only, keeps the extension in C out of use when it is set to",
        "anything but 0.",
        "",
        "| variable | default | meaning |",
        "| --- | --- | --- |",
    ]
    for name, field in Settings.model_fields.items():
        default = "" if field.default is None else f"`{field.default}`"
        lines.append(f"| `{PREFIX}{name.upper()}` | {default} | {field.description} |")
    return "\n".join(lines) + "\n"


def test_every_setting_is_documented_as_it_is() -> None:
    assert (ROOT / "docs" / "SETTINGS.md").read_text("utf-8") == settings_document()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in LINK.findall(document.read_text("utf-8")):
        assert (document.parent / target).exists(), target


def test_every_shell_block_says_how_it_is_checked() -> None:
    unmarked = [(name, body) for name, note, body in shell_blocks() if not note.strip()]
    assert not unmarked


def test_every_farshore_command_in_the_documents_parses() -> None:
    group = typer.main.get_command(app)
    found = 0
    for name, _, body in shell_blocks():
        for words in commands(body):
            if words[0] != "farshore":
                continue
            found += 1
            command, rest = group, words[1:]
            while hasattr(command, "commands"):
                assert rest[0] in command.commands, f"{name}: {' '.join(words)}"
                command, rest = command.commands[rest[0]], rest[1:]
            # Parsed, not run: an unknown option or argument raises a usage error here.
            command.make_context(command.name, rest)
    assert found >= 5


def test_every_make_target_in_the_documents_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for _, _, body in shell_blocks():
        for words in commands(body):
            if words[0] == "make":
                assert re.search(rf"^{re.escape(words[1])}:", makefile, re.MULTILINE), words


def test_variables_in_the_documents_are_settings() -> None:
    known = {PREFIX + name.upper() for name in Settings.model_fields} | {PREFIX + "CACHE", PURE_PYTHON}
    for document in DOCUMENTS:
        for name in re.findall(rf"\b{PREFIX}[A-Z][A-Z_]+\b", document.read_text("utf-8")):
            assert name in known, f"{document.name}: {name}"


def test_every_decision_is_listed() -> None:
    listed = set(re.findall(r"\((\d{4}-[^)]+)\)", (ROOT / "docs" / "adr" / "README.md").read_text()))
    assert listed == {path.name for path in (ROOT / "docs" / "adr").glob("0*.md")}


def test_every_invariant_names_a_test_that_exists() -> None:
    text = (ROOT / "docs" / "INVARIANTS.md").read_text("utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", text)
    assert len(named) >= 10
    for path, test in named:
        assert f"def {test}(" in (ROOT / path).read_text("utf-8"), f"{path}::{test}"


def test_schemas_and_vocabularies_agree() -> None:
    assert load_schema("anomaly")["properties"]["severity"]["enum"] == [level.value for level in Severity]
    assert load_schema("delivery")["properties"]["outcome"]["enum"] == [outcome.value for outcome in Outcome]
    channels = (ROOT / "schemas" / "asyncapi.json").read_text("utf-8")
    for reason in DeadLetterReason:
        assert f'"{reason.value}"' in channels
