"""Records: complete, resumable, never overwritten by others, and clear about what is wrong."""

import json
import subprocess
from dataclasses import dataclass

import pytest

from jepa_utils.experiments import store
from jepa_utils.experiments.store import Outcome, RecordError, Run, complete_record, read_record


@dataclass(frozen=True)
class Recipe:
    rate: float = 0.1
    num_seeds: int = 2


@pytest.fixture
def complete(tmp_path):
    """Completes a record whose runs take no time; `done` and `said` tell what happened."""
    done, said = [], []

    def run(method: str, seed: int, states) -> Outcome:
        done.append((method, seed))
        states[0].parent.mkdir(exist_ok=True)
        states[0].write_text("state")
        entry = {"scores": {"probe": 0.1 * seed}, "seconds": 1.0, "curves": {"loss": [1, 2]}}
        keep = {"b": None}.get(method, lambda path, card: path.write_text(json.dumps(card)))
        return Outcome(entry, keep, {"what": f"method {method}"})

    def complete(methods=("a", "b"), do=run, name="quick", **options):
        given = dict(recipe=Recipe(), data="checksum", folder=tmp_path / "results")
        given |= dict(checkpoints=tmp_path / "checkpoints", say=said.append)
        runs = [Run({"method": m}, lambda seed, states, m=m: do(m, seed, states)) for m in methods]
        return complete_record("toy", name, runs=runs, **given | options)

    complete.done, complete.said, complete.run = done, said, run
    complete.path = tmp_path / "results" / "toy" / "quick.json"
    return complete


def test_a_record_says_all_that_is_needed_to_judge_its_runs(complete, tmp_path):
    record = complete()
    assert record == read_record(complete.path) and record["recipe"] == "quick"
    assert record["settings"] == {"rate": 0.1} and record["data"] == "checksum"
    found = [(run["method"], run["seed"], run["scores"]["probe"]) for run in record["runs"]]
    assert found == [("a", 0, 0.0), ("b", 0, 0.0), ("a", 1, 0.1), ("b", 1, 0.1)]
    for run in record["runs"]:
        assert {"torch", "python"} <= set(run["packages"]) and len(run["date"]) == 10
        assert "cores" in run["hardware"] and run["commit"]
    assert complete.said[0] == "a, seed 0: probe 0.000, 1 s" and len(complete.said) == 4
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_the_first_seeds_weights_are_kept_with_a_card_without_curves(complete):
    complete(methods=("a", "b", "c d"))
    kept = sorted(path.name for path in complete.path.parent.iterdir())
    assert kept == ["quick.json", "quick_a.safetensors", "quick_c_d.safetensors"]
    card = json.loads(complete.path.with_name("quick_a.safetensors").read_text())
    assert (card["what"], card["seed"], card["settings"]) == ("method a", 0, {"rate": 0.1})
    assert card["scores"] == {"probe": 0.0} and "curves" not in card


def test_all_seeds_of_a_run_come_first_where_that_is_asked_for(complete):
    complete(seeds_outside=False)
    assert complete.done == [("a", 0), ("a", 1), ("b", 0), ("b", 1)]


def test_what_is_recorded_is_not_done_again_and_the_rest_is(complete):
    first = complete(methods=("a",))
    assert complete(methods=("a",)) == first and len(complete.done) == 2
    both = complete(methods=("a", "b"))
    assert complete.done[2:] == [("b", 0), ("b", 1)] and both["runs"][:2] == first["runs"]
    more = complete(methods=("a",), recipe=Recipe(num_seeds=3))  # seeds are no setting
    assert complete.done[4:] == [("a", 2)] and len(more["runs"]) == 5
    complete(methods=("b",), seeds=[7])
    assert complete.done[5:] == [("b", 7)]


def test_what_another_command_adds_during_a_run_is_kept(complete):
    def beside_another(method, seed, states):
        complete(methods=("other",), seeds=[seed])
        return complete.run(method, seed, states)

    runs = complete(methods=("a",), do=beside_another)["runs"]
    found = [(run["method"], run["seed"]) for run in runs]
    assert found == [("other", 0), ("a", 0), ("other", 1), ("a", 1)]


def test_an_interrupted_run_finds_its_state_and_one_of_other_settings_does_not(complete):
    seen = []

    def stop(method, seed, states):
        seen.append(states[0])
        complete.run(method, seed, states)
        raise KeyboardInterrupt

    for rate in (0.1, 0.1, 0.2):
        with pytest.raises(KeyboardInterrupt):
            complete(methods=("a",), do=stop, recipe=Recipe(rate=rate))
    assert seen[0] == seen[1] != seen[2] and seen[0].exists()
    assert not complete.path.exists()
    complete(methods=("a",))
    assert not seen[0].exists() and seen[2].exists()


@pytest.mark.parametrize(
    "other, names",
    [(dict(recipe=Recipe(rate=0.2)), "settings"), (dict(data="another checksum"), "data")],
)
def test_other_settings_or_data_do_not_overwrite_a_record(complete, other, names):
    complete()
    before = complete.path.read_text()
    with pytest.raises(RecordError, match=f"made with other {names}; move it away"):
        complete(**other)
    assert complete.path.read_text() == before


def test_missing_and_damaged_records(tmp_path):
    path = tmp_path / "record.json"
    with pytest.raises(RecordError, match=r"record\.json is missing; 'jepa train' makes it"):
        read_record(path)
    for text, message in (
        ("{", "is damaged"),
        ("[]", "is no record"),
        (json.dumps({"runs": 1}), "is no record"),
    ):
        path.write_text(text)
        with pytest.raises(RecordError, match=message):
            read_record(path)


def test_only_the_first_process_of_a_training_writes(complete, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    assert len(complete()["runs"]) == len(complete.done) == 4 and not complete.path.exists()


def test_the_commit_has_a_plus_where_code_was_changed_but_not_for_a_record(tmp_path, monkeypatch):
    (tmp_path / "results").mkdir()
    files = [tmp_path / "code.py", tmp_path / "results" / "record.json"]
    for file in files:
        file.write_text("0")
    author = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "."], [*author, "commit", "-qm", "x"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    monkeypatch.chdir(tmp_path / "results")
    clean = store._commit()
    files[1].write_text("1")
    assert store._commit() == clean and len(clean) == 12
    files[0].write_text("1")
    assert store._commit() == clean + "+"
