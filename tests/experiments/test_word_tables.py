"""Chapter 1's record: complete, resumable, and what it calls best is what won the search."""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from jepa_utils.data.batches import tensor_batches
from jepa_utils.data.load import load_data
from jepa_utils.experiments import word_tables
from jepa_utils.experiments.store import RecordError, read_record
from jepa_utils.experiments.word_tables import PARTS, Row, WordRecipe, searched, word_record
from jepa_utils.training.fit import fit

RECIPE = replace(WordRecipe.tiny(), epochs=1, long_epochs=2)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jepa_utils.training.fit.THREADS", 1)
        yield


@pytest.fixture(scope="module")
def text():
    whole = load_data("shakespeare", source="sample")
    return replace(whole, data=whole.data[:120_000])


@pytest.fixture(scope="module")
def train(text):
    def run(folder: Path, recipe=RECIPE, **options):
        places = dict(folder=folder / "results", checkpoints=folder / "checkpoints")
        return word_record(recipe, text, name="tiny", say=lambda line: None, **places, **options)

    return run


@pytest.fixture(scope="module")
def record(train, tmp_path_factory):
    return train(tmp_path_factory.mktemp("words"))


def runs_of(record, part):
    return {run["row"]: run for run in record["runs"] if run["part"] == part}


def without_clock(run):
    return {key: value for key, value in run.items() if key not in ("seconds", "date", "commit")}


def test_every_part_has_its_rows(record):
    assert {run["part"] for run in record["runs"]} == set(PARTS)
    assert list(runs_of(record, "search")) == list(RECIPE.search())
    assert list(runs_of(record, "one at a time")) == list(RECIPE.one_at_a_time())
    assert runs_of(record, "best")["word2vec, half"]["settings"]["epochs"] == 1


def test_each_method_is_searched_as_often_as_the_others():
    tried = [row.method for row in WordRecipe.page().search().values()]
    assert {tried.count(method) for method in word_tables.METHODS} == {4}


def test_a_run_says_what_it_took(record):
    sigreg = runs_of(record, "twice")["SIGReg"]
    assert sigreg["settings"] == asdict(replace(Row(weight=1e-3, initial_std=0.1), epochs=2))
    assert sigreg["steps"] == 2 * -(-(sigreg["samples"] // 2) // RECIPE.batch_size)
    # before training and after each pass
    assert [len(sigreg["curves"][name]) for name in ("choosing", "std")] == [3, 3]
    assert sigreg["scores"]["choosing"] == sigreg["curves"]["choosing"][-1]
    assert sigreg["curves"]["std"][0] == pytest.approx(0.1, rel=0.1)
    assert len(sigreg["curves"]["prediction"]) == 2


def test_scores_are_means_of_the_classes(record):
    for run in record["runs"]:
        chosen = [value for kind, value in run["classes"].items() if kind in RECIPE.choosing]
        others = [value for kind, value in run["classes"].items() if kind not in RECIPE.choosing]
        assert run["scores"]["choosing"] == pytest.approx(np.mean(chosen), abs=1e-3)
        assert run["scores"]["reporting"] == pytest.approx(np.mean(others), abs=1e-3)


def test_the_best_on_the_classes_for_choosing_wins_whatever_it_does_on_the_others():
    recipe = replace(RECIPE, weak=(0.3, 0.6), search_seeds=2)
    runs = [
        {"part": "search", "row": row, "scores": {"choosing": score, "reporting": 1 - score}}
        for row in recipe.search()
        for score in ((0.2, 0.3) if row.endswith("0.6") else (0.1, 0.3))
    ]
    assert searched(recipe, {"runs": runs})["Weak-SIGReg"].weight == 0.6
    with pytest.raises(RecordError, match="the search is not complete: CCA, 30"):
        searched(recipe, {"runs": runs[:-1]})


def test_what_changes_is_what_the_row_is_named_after():
    rows = WordRecipe.page().one_at_a_time()
    source = asdict(rows.pop("the source's"))
    changed = {
        name: {key for key, value in asdict(row).items() if value != source[key]}
        for name, row in rows.items()
    }
    assert changed == {"smaller lambda": {"weight"}, "smaller start": {"initial_std"}}


def test_a_run_that_was_killed_goes_on_to_the_same_end(train, record, tmp_path, monkeypatch):
    looks, real = [], word_tables._scores

    def until_killed(*args, **how):
        looks.append(1)
        if len(looks) == 3:  # after the second pass, which is not stored yet
            raise KeyboardInterrupt
        return real(*args, **how)

    train(tmp_path, parts=["search"])
    monkeypatch.setattr(word_tables, "_scores", until_killed)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        train(tmp_path, parts=["twice"])
    assert len(list((tmp_path / "checkpoints").iterdir())) == 1
    monkeypatch.setattr(word_tables, "_scores", real)
    resumed = runs_of(train(tmp_path, parts=["twice"]), "twice")
    whole = runs_of(record, "twice")
    assert without_clock(resumed["the source's"]) == without_clock(whole["the source's"])
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_a_falling_rate_ends_at_nothing(text, record):
    run = runs_of(record, "further")["falling rate"]
    assert (
        run["settings"]["falling"]
        and not runs_of(record, "further")["three words"]["settings"]["falling"]
    )
    module = word_tables._Falling(
        torch.nn.Embedding(9, 2), torch.nn.Linear(2, 2), learning_rate=0.5
    )
    rates, ids = [], torch.arange(8)
    module.on_train_batch_end = lambda *_: rates.append(module.optimizers().param_groups[0]["lr"])
    fit(module, tensor_batches(ids, ids + 1, batch_size=2), epochs=2, seed=0, progress=False)
    assert rates == pytest.approx([0.5 * (1 - step / 8) for step in range(8)], abs=0.07)
    assert module.lr_schedulers().get_last_lr() == [0.0]


def test_what_cannot_be_done_is_said(train, tmp_path):
    with pytest.raises(ValueError, match="parts must be some of .*, got \\['worst'\\]"):
        train(tmp_path, parts=["worst"])
    with pytest.raises(ValueError, match="devices must be 1"):
        train(tmp_path, parts=["one at a time"], devices=2)
    with pytest.raises(RecordError, match="is missing"):
        train(tmp_path, parts=["best"])


def test_the_record_is_read_back(train, tmp_path):
    made = train(tmp_path, parts=["search"])
    assert made == read_record(tmp_path / "results" / "words" / "tiny.json")
