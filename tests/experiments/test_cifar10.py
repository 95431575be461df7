"""Runs of record: complete, resumable, never overwritten by others, and clear about what is wrong."""

import json
import subprocess
from dataclasses import replace

import pytest
from datasets import Dataset, DatasetDict

from jepa_utils.data.load import LoadedData, load_data
from jepa_utils.experiments import cifar10 as records
from jepa_utils.experiments.cifar10 import VisionRecipe, pretrain_record
from jepa_utils.experiments.store import RecordError, read_record
from jepa_utils.models.checkpoints import load_encoder


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    monkeypatch.setattr("jepa_utils.training.fit.THREADS", 1)
    monkeypatch.setattr(records, "THREADS", 1)


@pytest.fixture(scope="module")
def loaded():
    whole = load_data("cifar10", source="sample")
    data = DatasetDict(
        {
            split: Dataset.from_dict(whole.data[split][:300], whole.data[split].features)
            for split in whole.data
        }
    )
    return LoadedData(data, whole.provenance)


@pytest.fixture
def pretrain(loaded, tmp_path):
    two_seeds = replace(VisionRecipe.smoke(), num_seeds=2)

    def run(**options):
        folders = dict(folder=tmp_path / "results", checkpoints=tmp_path / "checkpoints")
        given = dict(
            recipe=two_seeds, loaded=loaded, profile="smoke", methods=["I-JEPA"], progress=False
        )
        return pretrain_record(**{**given, **folders, **options}, say=said.append)

    said = run.said = []
    return run


def test_record_says_all_that_is_needed_to_judge_it(pretrain, tmp_path, loaded):
    record = pretrain(methods=["I-JEPA", "labels"])
    assert (
        record == read_record(tmp_path / "results" / "cifar10_smoke.json")
        and len(pretrain.said) == 6
    )
    assert [(run["method"], run["seed"]) for run in record["runs"]] == [
        ("I-JEPA", 0), ("labels", 0), ("I-JEPA", 1), ("labels", 1),
    ]  # fmt: skip
    assert record["profile"] == "smoke" and record["data"] == loaded.provenance.sha256
    assert record["settings"]["dimensions"] == VisionRecipe.smoke().dimensions
    assert (
        "context encoder" in record["runs"][0]["scores"]
        and "context encoder" not in record["runs"][1]["scores"]
    )
    for run in record["runs"]:
        assert (
            all(0 <= score <= 1 for score in run["scores"].values())
            and run["seconds"] > 0
            and "1 threads" in run["hardware"]
        )
        assert (
            {"torch", "python"} <= set(run["packages"]) and len(run["date"]) == 10 and run["commit"]
        )
        assert len(run["curves"]["losses"]["loss"]) == 1 and len(run["curves"]["monitors"]) == 2
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_encoder_of_the_first_seed_is_kept_with_its_card(pretrain, tmp_path):
    record = pretrain()
    encoder, card = load_encoder(tmp_path / "results" / "cifar10_smoke_ijepa.safetensors")
    assert encoder.sizes["dimensions"] == VisionRecipe.smoke().dimensions
    assert (
        card["scores"] == record["runs"][0]["scores"]
        and card["seed"] == 0
        and "moving average" in card["what"]
    )


def test_saved_encoders_alone_are_probed_with_all_labels_also_in_an_older_record(
    pretrain, tmp_path, monkeypatch
):
    record = pretrain(methods=["I-JEPA", "untrained"])
    assert [records.ALL_LABELS in run["scores"] for run in record["runs"]] == [
        True,
        True,
        False,
        False,
    ]
    file = tmp_path / "results" / "cifar10_smoke.json"
    for run in record["runs"]:
        run["scores"].pop(records.ALL_LABELS, None)
    file.write_text(json.dumps(record))
    seen = []
    real = records.linear_probe
    monkeypatch.setattr(
        records,
        "linear_probe",
        lambda *data, **options: seen.append(len(data[0])) or real(*data, **options),
    )
    again = pretrain(methods=["I-JEPA", "untrained"])
    assert [records.ALL_LABELS in run["scores"] for run in again["runs"]] == [
        True,
        True,
        False,
        False,
    ] and seen == [300, 300]
    assert again == read_record(file)


def test_what_is_recorded_is_not_done_again_and_the_rest_is(pretrain, monkeypatch):
    first, done = pretrain(), []
    run = records._run
    monkeypatch.setattr(records, "_run", lambda *a: done.append(a[1:3]) or run(*a))
    assert pretrain() == first and done == []
    both = pretrain(methods=["I-JEPA", "patch 8"])
    assert (
        done == [("patch 8", 0), ("patch 8", 1)]
        and [r for r in both["runs"] if r["method"] == "I-JEPA"] == first["runs"]
    )


def another_adds_during(monkeypatch, name, path):
    """Let `records.name` also add a run to the record at `path`, as another process might."""
    plain = getattr(records, name)

    def beside_another(*args, **options):
        record = read_record(path)
        if all(run["method"] != "labels" for run in record["runs"]):
            path.write_text(
                json.dumps(
                    {
                        **record,
                        "runs": [
                            *record["runs"],
                            {**record["runs"][0], "method": "labels", "seed": 1},
                        ],
                    }
                )
            )
        return plain(*args, **options)

    monkeypatch.setattr(records, name, beside_another)


def test_what_another_process_adds_during_a_training_is_kept(pretrain, tmp_path, monkeypatch):
    pretrain()
    another_adds_during(monkeypatch, "_run", tmp_path / "results" / "cifar10_smoke.json")
    runs = pretrain(methods=["patch 8"])["runs"]
    assert [run["method"] for run in runs] == ["I-JEPA", "I-JEPA", "labels", "patch 8", "patch 8"]


def test_what_another_process_adds_during_the_last_probe_is_kept(pretrain, tmp_path, monkeypatch):
    path, record = tmp_path / "results" / "cifar10_smoke.json", pretrain()
    score = record["runs"][0]["scores"].pop(records.ALL_LABELS)
    path.write_text(json.dumps(record))
    another_adds_during(monkeypatch, "linear_probe", path)
    runs = pretrain()["runs"]
    assert [run["method"] for run in runs] == ["I-JEPA", "I-JEPA", "labels"]
    assert runs[0]["scores"][records.ALL_LABELS] == score and read_record(path)["runs"] == runs


def test_interrupted_run_ends_with_the_same_scores(pretrain, tmp_path, monkeypatch):
    recipe = replace(VisionRecipe.smoke(), epochs=3, num_seeds=1)
    whole = pretrain(recipe=recipe, folder=tmp_path / "whole")["runs"][0]
    report, calls = records.collapse_report, []

    def stop(embeddings):
        calls.append(0)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return report(embeddings)

    monkeypatch.setattr(records, "collapse_report", stop)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        pretrain(recipe=recipe)
    monkeypatch.setattr(records, "collapse_report", report)
    (left,) = (tmp_path / "checkpoints").iterdir()
    assert left.match("smoke-ijepa-0-*.ckpt")
    other = pretrain(
        recipe=replace(recipe, dimensions=16), folder=tmp_path / "other"
    )  # not stopped, nor led astray, by what is left
    assert other["runs"][0]["curves"]["losses"] != whole["curves"]["losses"] and left.exists()
    again = pretrain(recipe=recipe)["runs"][0]
    assert again["scores"] == whole["scores"] and again["curves"] == whole["curves"]


def test_other_settings_do_not_overwrite_a_record(pretrain, tmp_path):
    pretrain()
    before = (tmp_path / "results" / "cifar10_smoke.json").read_text()
    with pytest.raises(
        RecordError, match="cifar10_smoke.json was made with other settings; move it away"
    ):
        pretrain(recipe=VisionRecipe(epochs=1))
    assert (tmp_path / "results" / "cifar10_smoke.json").read_text() == before


def test_more_seeds_join_a_record(pretrain):
    first = pretrain()["runs"]
    more = pretrain(recipe=replace(VisionRecipe.smoke(), num_seeds=3))["runs"]
    assert more[:2] == first and [run["seed"] for run in more] == [0, 1, 2]


def test_unknown_methods_and_missing_or_damaged_records(pretrain, tmp_path):
    with pytest.raises(ValueError, match="methods must be some of I-JEPA"):
        pretrain(methods=["magic"])
    path = tmp_path / "record.json"
    with pytest.raises(
        RecordError, match="record.json is missing; 'jepa pretrain' or 'jepa captions' makes it"
    ):
        read_record(path)
    for text, message in (
        ("{", "is damaged"),
        ("[]", "is no record"),
        (json.dumps({"runs": 1}), "is no record"),
    ):
        path.write_text(text)
        with pytest.raises(RecordError, match=message):
            read_record(path)


def test_untrained_encoder_is_measured_and_not_trained(pretrain):
    run = pretrain(methods=["untrained"])["runs"][0]
    assert (
        run["seconds"] == run["images"] == 0
        and run["curves"]["losses"] == {}
        and len(run["curves"]["monitors"]) == 1
    )


def test_commit_has_a_plus_where_code_was_changed_but_not_for_a_record(tmp_path, monkeypatch):
    (tmp_path / "results").mkdir()
    files = [tmp_path / "code.py", tmp_path / "results" / "record.json"]
    for file in files:
        file.write_text("0")
    author = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "."], [*author, "commit", "-qm", "x"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    monkeypatch.chdir(tmp_path / "results")
    clean = records.run_facts()["commit"]
    files[1].write_text("1")
    assert records.run_facts()["commit"] == clean and len(clean) == 12
    files[0].write_text("1")
    assert records.run_facts()["commit"] == clean + "+"
