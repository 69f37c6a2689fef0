"""The documents say what is so: links, commands, settings, metrics and the state diagram are checked."""

import re
import runpy
from pathlib import Path

import pytest

from coordd.config.keys import normalise, normalise_env
from coordd.config.schema import READ_PATHS, SECTION_PATHS
from coordd.management.metrics import Metrics
from coordd.management.server import ManagementServer
from tests.packaging.files import COORDD, ROOT, run

DOCUMENTS = sorted([*(ROOT / "docs").rglob("*.md"), ROOT / "CHANGELOG.md", ROOT / "README.md"])
every_document = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
OTHER_VARIABLES = ("metricsport",)
"""Read without being another spelling of a key."""
COMMANDS = ("run", "dev", "status", "switchover", "config", "version")


def text_of(path: Path) -> str:
    return path.read_text("utf-8")


@every_document
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text_of(path)):
        if not target.startswith(("http://", "https://")):
            assert (path.parent / target).exists(), target


@every_document
def test_files_that_are_named_exist(path: Path) -> None:
    top = {entry.name for entry in ROOT.iterdir()}
    for name in re.findall(r"`([\w.@-]+/[\w./@-]+)`", text_of(path)):
        if name.partition("/")[0] in top - {".cache"}:
            assert (ROOT / name).exists(), name


@every_document
def test_commands_of_coordd_exist(path: Path) -> None:
    for command in re.findall(r"(?:`|^```sh\n|exec \S+ |bin/)coordd (\w+)", text_of(path), re.MULTILINE):
        assert command in COMMANDS, command


def test_the_commands_are_those_of_the_program(tmp_path: Path) -> None:
    shown = run([COORDD, "--help"], cwd=tmp_path).stdout
    for command in COMMANDS:
        assert re.search(rf"^\W*{command}\b", shown, re.MULTILINE), command


@every_document
def test_settings_exist(path: Path) -> None:
    sections = {section.partition(".")[0] for section in SECTION_PATHS}
    known = [*READ_PATHS, *map(normalise, SECTION_PATHS)]
    for name in re.findall(r"`([a-z][A-Za-z]*(?:\.[A-Za-z]+)+)(?::[^`]*)?`", text_of(path)):
        module = ROOT / name.replace(".", "/")
        if name.partition(".")[0] not in sections or (ROOT / name).exists():
            continue
        assert normalise(name) in known or module.is_dir() or module.with_suffix(".py").is_file(), name


@every_document
def test_variables_are_settings(path: Path) -> None:
    for name in re.findall(
        r"\b((?:ETCD|ROOT_COORD|DATA_COORD|QUERY_COORD|METRICS|LOG)_[A-Z_]+)\b", text_of(path)
    ):
        assert normalise_env(name) in {*READ_PATHS, *OTHER_VARIABLES}, name


@every_document
def test_make_targets_exist(path: Path) -> None:
    makefile = text_of(ROOT / "Makefile")
    for target in re.findall(r"`make (\w+)", text_of(path)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_management_paths_are_all_documented() -> None:
    server = ManagementServer([], Metrics(version="1", milvus_version="1"))
    served = {route.resource.canonical for route in server._application().router.routes() if route.resource}
    documented = set(re.findall(r"`(/[\w/]+)`", text_of(ROOT / "docs" / "operations.md")))
    assert served <= documented


def test_metrics_exist() -> None:
    source = text_of(ROOT / "coordd" / "management" / "metrics.py")
    for document in DOCUMENTS:
        for name in re.findall(r"\bcoordd_[a-z_]+", text_of(document)):
            assert f'"{name.removesuffix("_total")}"' in source, name
        for name in re.findall(r"\bmilvus_[a-z_]+", text_of(document)):
            assert (
                f'"{name}"' in source or f'{{prefix}}{name.removeprefix("milvus_rootcoord_")}"' in source
            ), name


def test_log_lines_are_those_that_are_written() -> None:
    source = text_of(ROOT / "coordd" / "ha" / "announcements.py")
    quoted = re.findall(r'^\["([^"]+)"\]', text_of(ROOT / "docs" / "operations.md"), re.MULTILINE)
    assert len(quoted) > 4
    literals = [re.sub(r"\{[^}]*\}", "*", found) for found in re.findall(r'(?:f|info\(\s*)"([^"]+)"', source)]
    patterns = [re.escape(literal).replace(r"\*", r".+") for literal in literals]
    for line in quoted:
        assert any(re.fullmatch(one, line) for one in patterns), line


def test_the_state_diagram_is_the_machine_s() -> None:
    drawn = runpy.run_path(str(ROOT / "docs" / "election_diagram.py"))
    assert drawn["diagram"]() in text_of(ROOT / "docs" / "architecture.md"), (
        "python docs/election_diagram.py --write"
    )


def test_the_layers_are_those_that_are_checked() -> None:
    table = re.findall(
        r"^\| ((?:`\w+`(?:, )?)+) \|", text_of(ROOT / "docs" / "architecture.md"), re.MULTILINE
    )
    named = {name for row in table for name in re.findall(r"`(\w+)`", row)}
    packages = {
        path.name for path in (ROOT / "coordd").iterdir() if path.is_dir() and path.name != "__pycache__"
    }
    assert packages <= named


def test_messages_for_operators_are_in_the_code() -> None:
    """What is quoted in the troubleshooting table's first column, and elsewhere whole sentences."""
    source = "\n".join(path.read_text("utf-8") for path in (ROOT / "coordd").rglob("*.py"))
    prose = re.sub(
        r"^```.*?^```$", "", text_of(ROOT / "docs" / "operations.md"), flags=re.MULTILINE | re.DOTALL
    )
    table = prose.partition("## Troubleshooting")[2]
    in_table = [
        text
        for row in re.findall(r"^\| ([^|]+) \|", table, re.MULTILINE)
        for text in re.findall(r"`([^`]+)`", row)
    ]
    elsewhere = [" ".join(text.split()) for text in re.findall(r"`([^`]+)`", prose)]
    sentences = [
        text
        for text in elsewhere
        if len(text.split()) > 3 and "--" not in text and not text.startswith("coordd ")
    ]
    assert len(in_table) > 5
    assert len(sentences) > 30
    for text in [*in_table, *sentences]:
        # What is filled in is left out: names of roles, numbers, what is in brackets.
        fixed = max(re.split(r"rootcoord|\d+|\[.*?\]|…|: ", text), key=len).strip()
        assert fixed in source, text
