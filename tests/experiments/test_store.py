"""Records: complete, resumable, never overwritten by others, and clear about what is wrong."""

import json
import subprocess
from dataclasses import dataclass

import numpy as np
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


def whole_record(**change):
    run = {"method": "a", "seed": 0, "scores": {"probe": 0.5}}
    return {"recipe": "quick", "settings": {}, "data": "checksum", "runs": [run | change]}


@pytest.mark.parametrize(
    "content, message",
    [
        ("", "is damaged: Expecting value"),
        ("{", "is damaged"),
        (b"\xff\xfe", "is damaged"),
        ("[]", "is no record: it has no list of runs"),
        ({"runs": 1}, "is no record: it has no list of runs"),
        ({"runs": []}, "is no record: it has no recipe"),
        ({"recipe": "quick", "settings": {}, "runs": []}, "is no record: it has no data"),
        (whole_record() | {"runs": [1]}, "is no record: run 0 is no dict"),
        (whole_record(seed="0"), "is no record: run 0 has no seed"),
        (whole_record(seed=True), "is no record: run 0 has no seed"),
        (whole_record(scores=None), "is no record: run 0 has no scores by name"),
        (whole_record(scores={"probe": "0.5"}), "is no record: run 0 has no scores by name"),
    ],
)
def test_damaged_records_are_named_and_kept(complete, content, message):
    complete.path.parent.mkdir(parents=True)
    content = content if isinstance(content, (str, bytes)) else json.dumps(content)
    before = content if isinstance(content, bytes) else content.encode()
    complete.path.write_bytes(before)
    for do in (lambda: read_record(complete.path), complete):
        with pytest.raises(RecordError, match=rf"quick\.json {message}.*; move it away to begin"):
            do()
    assert complete.path.read_bytes() == before and not complete.done


def test_a_folder_in_place_of_a_record_is_named(complete):
    complete.path.mkdir(parents=True)
    with pytest.raises(RecordError, match=r"quick\.json is damaged: .*directory"):
        read_record(complete.path)


def test_seeds_of_numpy_are_those_of_python(complete):
    first = complete(methods=("a",), seeds=np.arange(2))
    assert [run["seed"] for run in read_record(complete.path)["runs"]] == [0, 1]
    assert complete(methods=("a",), seeds=[np.int64(1), 0]) == first and len(complete.done) == 2
    assert all(type(seed) is int for _, seed in complete.done)


@pytest.mark.parametrize(
    "seeds, message",
    [
        ([], r"seeds must be one at least, and each only once, got \[\]"),
        ([0, 1, 0], r"seeds must be one at least, and each only once, got \[0, 1, 0\]"),
        ([np.int64(1), 1], r"seeds must be one at least, and each only once, got \[1, 1\]"),
        ([-1], "seeds must be an integer between 0 and 4294967295, got -1"),
        ([2**32], "seeds must be an integer between 0 and 4294967295, got 4294967296"),
        ([True], "seeds must be an integer .* got True"),
        ([0.0], "seeds must be an integer .* got 0.0"),
        (["0"], "seeds must be an integer .* got '0'"),
    ],
)
def test_seeds_that_are_none_are_refused_before_anything_is_done(complete, seeds, message):
    with pytest.raises(ValueError, match=message):
        complete(seeds=seeds)
    assert not complete.done and not complete.path.exists()


def test_two_runs_with_one_key_are_refused(complete):
    with pytest.raises(ValueError, match="runs must differ in their keys, got .*'a'.*'a'"):
        complete(methods=("a", "a"))
    assert not complete.done


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
