"""Where the system keeps the authorities that it trusts."""

from pathlib import Path

import pytest

from coordd.mq.system_trust import system_authorities


def test_the_environment_goes_before_the_places_of_distributions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named, there = tmp_path / "named.pem", tmp_path / "there.pem"
    named.touch()
    there.touch()
    places = [str(tmp_path / "missing.pem"), str(there)]
    monkeypatch.setenv("SSL_CERT_FILE", str(named))
    assert system_authorities(places) == str(named)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing.pem"))
    assert system_authorities(places) == str(there)
    assert system_authorities(places[:1]) is None
