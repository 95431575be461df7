"""The script that breaks functions: its exit status says whether a change went unnoticed."""

import importlib.util
from pathlib import Path

import pytest

CHANGE = "jepa_utils/files.py write_whole: '0' -> '1'"


@pytest.fixture
def script(monkeypatch):
    spec = importlib.util.spec_from_file_location("mutate", Path(__file__).with_name("mutate.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module.shutil, "copytree", lambda *args, **options: None)
    monkeypatch.setattr(module, "passes", lambda *args: True)
    return module


@pytest.mark.parametrize(
    "survivor, allowed, status",
    [
        (None, {}, 0),
        ((7, CHANGE), {}, 1),
        ((7, CHANGE), {CHANGE: "the mode of a file"}, 0),
        ((7, CHANGE), {"another": "why"}, 1),
    ],
)
def test_a_survivor_that_is_not_allowed_is_a_failure(
    script, survivor, allowed, status, monkeypatch, capsys
):
    monkeypatch.setattr(script, "mutate", lambda *args: survivor)
    monkeypatch.setattr(script, "ALLOWED", allowed)
    assert script.main("files", "write_whole") == status
    told = capsys.readouterr().out
    assert ("line 7" in told and CHANGE in told) == bool(survivor)
    assert all(why in told for change, why in allowed.items() if change == CHANGE)


def test_every_allowed_change_has_a_reason_and_a_function(script):
    for change, why in script.ALLOWED.items():
        module, name = change.split(": ")[0].split()
        tree = script.ast.parse((script.ROOT / module).read_text())
        assert why and name in script.functions(tree)
