"""Chapter 4's experiment: what is trained, what is measured and kept, and that it can be resumed."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import trainings
from datasets import Dataset, DatasetDict

from jepa_utils.data.batches import ImageDataModule
from jepa_utils.data.load import LoadedData, load_data
from jepa_utils.evaluation.collapse import collapse_report
from jepa_utils.evaluation.encode import encode_images
from jepa_utils.experiments import cifar10
from jepa_utils.experiments.cifar10 import (
    ALL_LABELS,
    METHODS,
    RECIPES,
    VisionRecipe,
    pretrain_record,
)
from jepa_utils.experiments.store import read_record
from jepa_utils.models.checkpoints import load_encoder
from jepa_utils.training.fit import fit


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jepa_utils.training.fit.THREADS", 1)
        yield


@pytest.fixture(scope="module")
def loaded():
    whole = load_data("cifar10", source="sample")
    first = {split: table.select(range(300)) for split, table in whole.data.items()}
    tables = {n: Dataset.from_dict(t.to_dict(), t.features) for n, t in first.items()}
    return LoadedData(DatasetDict(tables), whole.provenance)


@pytest.fixture(scope="module")
def pictures():
    return trainings.pictures()


@pytest.fixture(scope="module")
def pretrain(loaded):
    def run(root, recipe=None, methods=("I-JEPA",), **options):
        places = dict(folder=root / "results", checkpoints=root / "checkpoints")
        recipe = VisionRecipe.tiny() if recipe is None else recipe
        how = dict(name="tiny", methods=methods, progress=False, say=lambda line: None)
        return pretrain_record(recipe, loaded, **places | how | options)

    return run


@pytest.fixture(scope="module")
def finished(pretrain, tmp_path_factory):
    """Two seeds of three methods, trained once."""
    folder = tmp_path_factory.mktemp("finished")
    recipe = replace(VisionRecipe.tiny(), num_seeds=2)
    record = pretrain(folder, recipe, ("I-JEPA", "labels", "untrained"))
    return SimpleNamespace(folder=folder / "results" / "cifar10", record=record)


def test_each_method_is_measured_once_per_seed(finished, loaded):
    record = finished.record
    assert record == read_record(finished.folder / "tiny.json")
    assert record["data"] == loaded.provenance.sha256
    assert record["settings"]["dimensions"] == VisionRecipe.tiny().dimensions
    found = [(run["method"], run["seed"]) for run in record["runs"]]
    assert found == [(m, s) for s in (0, 1) for m in ("I-JEPA", "labels", "untrained")]
    for run in record["runs"]:
        assert all(0 <= score <= 1 for score in run["scores"].values())
        assert ("context encoder" in run["scores"]) == (run["method"] == "I-JEPA")
        assert (ALL_LABELS in run["scores"]) == (run["seed"] == 0)
        trained = run["method"] != "untrained"
        assert (run["seconds"] > 0) == trained and run["images"] == 300 * trained
        assert len(run["curves"]["losses"].get("loss", [])) == trained
        assert len(run["curves"]["monitors"]) == 1 + trained


def test_the_first_seeds_encoders_are_kept_with_their_cards(finished):
    kept = sorted(path.name for path in finished.folder.glob("*.safetensors"))
    assert kept == ["tiny_ijepa.safetensors", "tiny_labels.safetensors"]
    encoder, card = load_encoder(finished.folder / "tiny_ijepa.safetensors")
    assert encoder.sizes["dimensions"] == VisionRecipe.tiny().dimensions
    assert card["scores"] == finished.record["runs"][0]["scores"] and card["seed"] == 0
    assert card["what"] == METHODS["I-JEPA"]


def test_an_interrupted_run_ends_with_the_same_scores(pretrain, tmp_path, monkeypatch):
    recipe = replace(VisionRecipe.tiny(), epochs=3)
    whole = pretrain(tmp_path / "whole", recipe)["runs"][0]
    report, calls = cifar10.collapse_report, []

    def stop(embeddings):
        calls.append(0)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return report(embeddings)

    monkeypatch.setattr(cifar10, "collapse_report", stop)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        pretrain(tmp_path, recipe)
    monkeypatch.setattr(cifar10, "collapse_report", report)
    (left,) = (tmp_path / "checkpoints").iterdir()
    assert left.match("cifar10-tiny-ijepa-0-*.ckpt")
    # Not stopped, nor led astray, by what is left of other settings.
    narrow = pretrain(tmp_path, replace(recipe, dimensions=16), folder=tmp_path / "other")
    assert narrow["runs"][0]["curves"]["losses"] != whole["curves"]["losses"] and left.exists()
    again = pretrain(tmp_path, recipe)["runs"][0]
    assert again["scores"] == whole["scores"] and again["curves"] == whole["curves"]


def test_unknown_methods_are_refused(pretrain, tmp_path):
    with pytest.raises(ValueError, match="methods must be some of I-JEPA"):
        pretrain(tmp_path, methods=["magic"])


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains(pictures, method):
    module = VisionRecipe.tiny().training(method)
    history = fit(
        module, ImageDataModule(*pictures, batch_size=32), epochs=1, seed=0, progress=False
    )
    assert math.isfinite(history.losses["loss"][0])
    assert collapse_report(encode_images(module.encoder, pictures[0])).std > 0


def test_recipes_are_what_they_say():
    ema, nothing, with_sigreg = (
        VisionRecipe.tiny().training(m) for m in ("I-JEPA", "nothing", "SIGReg")
    )
    assert (ema.target, nothing.target, with_sigreg.target) == ("ema", "encoder", "encoder")
    assert nothing.sigreg_weight == 0 < with_sigreg.sigreg_weight
    quarter = VisionRecipe.tiny().training("random masks").masks(3, (8, 8))
    assert quarter.targets.shape == (3, 1, 16) and quarter.context.shape == (3, 48)
    size = 4 * sum(p.numel() for p in VisionRecipe.full().encoder().parameters())
    assert size < 12e6
    with pytest.raises(ValueError, match=r"method must be one of I-JEPA, .* got 'magic'"):
        VisionRecipe().training("magic")


def test_the_sources_printed_settings_and_those_of_its_exercise_for_students():
    printed, student = (VisionRecipe().training(method) for method in ("printed", "student"))
    assert printed.encoder.grid == (2, 2) and student.encoder.grid == (4, 4)
    assert [
        tuple(module.masks(3, module.encoder.grid).targets.shape) for module in (printed, student)
    ] == [(3, 1, 1), (3, 1, 4)]
    assert {(m.learning_rate, m.weight_decay, m.ema_decay) for m in (printed, student)} == {
        (2e-4, 0.01, 0.999)
    }
    sizes = [
        VisionRecipe().changed_for(method).batch_size for method in ("printed", "student", "I-JEPA")
    ]
    assert sizes == [128, 64, 32]


def test_every_named_recipe_is_one_and_the_longer_ones_differ_by_their_length_alone():
    assert all(isinstance(getattr(VisionRecipe, name)(), VisionRecipe) for name in RECIPES)
    one, *longer = (getattr(VisionRecipe, name)() for name in RECIPES[1:4])
    for recipe in longer:
        assert replace(recipe, epochs=one.epochs, num_seeds=one.num_seeds) == one
    # The last as many as the source's.
    assert one.epochs < longer[0].epochs < longer[1].epochs == 20
