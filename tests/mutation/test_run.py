"""What counts as noticed: a test that fails with the mutant and passes without it."""

from pathlib import Path

import pytest

from tests.mutation import run
from tests.mutation.mutants import Mutant
from tests.mutation.run import Unnoticed, noticed_by

pytestmark = pytest.mark.timeout(run.LONGEST_S + 20)

MUTANT = Mutant("the answer", "machine.py", "ANSWER = 42", "ANSWER = 41", ("test_machine.py",))


def project(folder: Path, test: str) -> Path:
    """A module that MUTANT changes, and `test` of it."""
    (folder / "machine.py").write_text("ANSWER = 42\n")
    (folder / "conftest.py").write_text(
        "import hypothesis\nhypothesis.settings.register_profile('mutants')\n"
    )
    (folder / "test_machine.py").write_text(f"import machine, pathlib, pytest\n\n{test}\n")
    return folder


def test_a_test_that_fails_with_it_only(tmp_path: Path) -> None:
    test = "@pytest.mark.parametrize('of', ['a - b'])\ndef test_it(of):\n    assert machine.ANSWER == 42"
    failure = noticed_by(MUTANT, project(tmp_path, test))
    assert str(failure) == "test_machine.py::test_it[a - b]"
    assert (tmp_path / "machine.py").read_text() == "ANSWER = 42\n"


def test_one_that_waits_for_ever_is_said_to(tmp_path: Path) -> None:
    test = "@pytest.mark.timeout(0.5)\ndef test_it():\n    while machine.ANSWER != 42:\n        pass"
    assert str(noticed_by(MUTANT, project(tmp_path, test))) == "test_machine.py::test_it (by its time limit)"


def test_none_that_fails(tmp_path: Path) -> None:
    with pytest.raises(Unnoticed, match="all tests pass"):
        noticed_by(MUTANT, project(tmp_path, "def test_it():\n    assert machine.ANSWER > 40"))


def test_one_that_fails_anyway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "TRIES", 1)
    with pytest.raises(Unnoticed, match="test_it fails without it, too"):
        noticed_by(MUTANT, project(tmp_path, "def test_it():\n    assert machine.ANSWER == 0"))


def test_one_that_fails_without_it_once(tmp_path: Path) -> None:
    """Its second run, the first without the mutant, is on a machine that has something else to do."""
    test = (
        "def test_it():\n"
        "    with pathlib.Path('runs').open('a+') as runs:\n"
        "        runs.write('.')\n"
        "        assert machine.ANSWER == 42 and runs.tell() != 2"
    )
    assert noticed_by(MUTANT, project(tmp_path, test)).test == "test_machine.py::test_it"
    assert (tmp_path / "runs").read_text() == "...."
