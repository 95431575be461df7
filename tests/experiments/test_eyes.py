"""Chapter 5's eyes: a record that is complete and resumable, judged on validation photographs alone."""

import json
import math
from dataclasses import asdict, replace

import pytest
import torch
from datasets import Dataset, DatasetDict

from jepa_utils.data.images import caption_table
from jepa_utils.data.load import LoadedData, load_data
from jepa_utils.evaluation.encode import encode_images
from jepa_utils.evaluation.photo_rivals import fit_cca, word_counts
from jepa_utils.experiments import eyes
from jepa_utils.experiments.eyes import EyeRecipe, EyeRow, eye_record, load_eye, resized
from jepa_utils.experiments.run import run_experiments
from jepa_utils.experiments.store import RecordError, read_record
from jepa_utils.models.checkpoints import CheckpointError, read_card

RECIPE = replace(EyeRecipe.tiny(), batch_size=24, epochs=2)
ROWS = {
    "search": ["lambda 0.005", "lambda 0.02", "lambda 0.1", "photographs alone"],
    "eye": ["SIGReg", "untrained"],
}


@pytest.fixture(scope="module", autouse=True)
def quick():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jepa_utils.training.fit.THREADS", 1)
        patch.setattr("jepa_utils.experiments.store._commit", lambda: "of a test")
        yield


def few(name, **rows):
    whole = load_data(name, source="sample")
    parts = {
        split: Dataset.from_dict(whole.data[split][:most], whole.data[split].features)
        for split, most in rows.items()
    }
    return LoadedData(DatasetDict(parts), whole.provenance)


@pytest.fixture(scope="module")
def loaded():
    """Photographs without a test split, which nobody may ask for, and CIFAR-10."""
    return few("flickr8k", train=40, validation=12), few("cifar10", train=60, test=40)


@pytest.fixture(scope="module")
def train(loaded):
    def run(folder, recipe=RECIPE, data=loaded, **options):
        places = dict(folder=folder / "results", checkpoints=folder / "checkpoints")
        said = []
        return eye_record(recipe, *data, name="tiny", say=said.append, **places | options), said

    return run


@pytest.fixture(scope="module")
def finished(train, tmp_path_factory):
    """Folder, record, what was said, and the images of each training."""
    folder, seen, real = tmp_path_factory.mktemp("eyes"), [], eyes.ImageDataModule

    def noted(images, *rest, **how):
        seen.append(images)
        return real(images, *rest, **how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(eyes, "ImageDataModule", noted)
        record, said = train(folder)
    return folder, record, said, seen


def weights_of(folder):
    return folder / "results" / "eyes" / "tiny_eye.safetensors"


# ---- the record


def test_each_part_has_its_rows_and_scores(finished):
    folder, record, said, _ = finished
    assert [(run["part"], run["row"]) for run in record["runs"]] == [
        (part, row) for part in ROWS for row in ROWS[part]
    ]
    assert len(said) == 6 and said[0].startswith("search, lambda 0.005, seed 0: validation, text")
    assert record == read_record(folder / "results" / "eyes" / "tiny.json")
    for run in record["runs"]:
        wanted = {"validation, text to image @10", "effective rank"}
        assert set(run["scores"]) == wanted | (
            {"CIFAR-10 probe"} if run["part"] == "eye" else set()
        )
        assert 0 <= run["scores"]["validation, text to image @10"] <= 1
        assert 1 <= run["scores"]["effective rank"] <= 16
    assert list((folder / "checkpoints").iterdir()) == []


def test_it_is_trained_on_photographs_as_often_as_the_row_says(finished, loaded):
    _, record, _, seen = finished
    photographs, _ = caption_table(loaded[0].data["train"], size=32)
    trained = [run for run in record["runs"] if run["row"] != "untrained"]
    for run, images in zip(trained, seen, strict=True):
        alone = run["row"] == "photographs alone"
        assert len(images) == (4 * 40 if alone else 2 * 40 + 60)
        assert torch.equal(images[40:80], photographs)
        epochs = 2 if run["part"] == "eye" else 1
        assert run["images"] == epochs * len(images) and run["seconds"] >= 0
        assert set(run["losses"]) == {"loss", "prediction", "regularizer"}
        for values in run["losses"].values():
            assert len(values) == epochs and all(map(math.isfinite, values))
    (untrained,) = [run for run in record["runs"] if run["row"] == "untrained"]
    assert "losses" not in untrained and untrained["seconds"] == 0


def test_the_eye_comes_back_and_scores_as_it_did(finished, loaded):
    folder, record, _, _ = finished
    eye, card = load_eye(weights_of(folder)), read_card(weights_of(folder))
    assert not eye.training and card["eye"] == {"image_size": 16, "channels": [8, 16]}
    (run,) = [run for run in record["runs"] if run["row"] == "SIGReg"]
    assert card["scores"] == run["scores"] and card["row"] == "SIGReg"
    flat = torch.nn.Sequential(eye, torch.nn.Flatten())
    tables = [caption_table(loaded[0].data[s], size=32) for s in ("train", "validation")]
    train, held_out = (encode_images(flat, images) for images, _ in tables)
    counts, new = word_counts(*(rows for _, rows in tables))
    found = fit_cca(train, counts.mean(dim=1), (held_out, new), ridges=eyes.RIDGES)
    assert run["scores"]["validation, text to image @10"] == pytest.approx(
        found.recalls(held_out, new)["text to image @10"], abs=1e-4
    )
    (drawn,) = [run for run in record["runs"] if run["row"] == "untrained"]
    assert drawn["scores"] != run["scores"]  # whose weights are not the ones that lie there


def test_an_eye_that_is_not_there(tmp_path):
    with pytest.raises(CheckpointError, match=r"none\.json is missing"):
        load_eye(tmp_path / "none.safetensors")


# ---- going on


def test_an_interrupted_run_ends_with_the_same_scores_and_weights(
    finished, train, tmp_path, monkeypatch
):
    folder, record, _, _ = finished
    place = tmp_path / "results" / "eyes"
    place.mkdir(parents=True)
    (whole,) = [run for run in record["runs"] if run["row"] == "SIGReg"]
    rest = [run for run in record["runs"] if run is not whole]
    (place / "tiny.json").write_text(json.dumps(record | {"runs": rest}))
    real, drawn = eyes.ImageDataModule.batches, []

    def batches(self, epoch, **part):
        if epoch == 1 and len(drawn) == 1:
            raise KeyboardInterrupt
        drawn.append(epoch)
        yield from real(self, epoch, **part)

    monkeypatch.setattr(eyes.ImageDataModule, "batches", batches)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        train(tmp_path)
    assert drawn == [0] and len(list((tmp_path / "checkpoints").iterdir())) == 1
    assert read_record(place / "tiny.json")["runs"] == rest and not weights_of(tmp_path).exists()
    drawn += [None]
    again, said = train(tmp_path)
    assert drawn == [0, None, 1] and len(said) == 1
    run = again["runs"][-1]
    assert run["scores"] == whole["scores"] and run["losses"] == whole["losses"]
    assert weights_of(tmp_path).read_bytes() == weights_of(folder).read_bytes()
    assert list((tmp_path / "checkpoints").iterdir()) == []
    assert train(tmp_path)[1] == []  # nothing is left to do


def test_other_settings_or_data_do_not_overwrite_a_record(finished, train, loaded):
    folder = finished[0]
    with pytest.raises(RecordError, match=r"tiny\.json was made with other settings"):
        train(folder, replace(RECIPE, epochs=3))
    cifar = LoadedData(loaded[1].data, replace(loaded[1].provenance, sha256="0" * 64))
    with pytest.raises(RecordError, match=r"tiny\.json was made with other data"):
        train(folder, data=(loaded[0], cifar))


# ---- what is run


def test_rows_of_the_search_differ_in_what_they_are_named_after():
    recipe = EyeRecipe.page()
    rows, eye = recipe.rows("search"), recipe.rows("eye")
    assert list(rows) == ROWS["search"] and list(eye) == ROWS["eye"]
    assert {row.epochs for row in rows.values()} == {recipe.search_epochs}
    for weight in (0.005, 0.02, 0.1):
        assert rows[f"lambda {weight:g}"] == replace(rows["lambda 0.02"], sigreg_weight=weight)
    middle, alone = asdict(rows["lambda 0.02"]), asdict(rows["photographs alone"])
    assert {k: v for k, v in alone.items() if v != middle[k]} == {"photographs": 4, "others": 0}
    assert eye["untrained"] == replace(eye["SIGReg"], epochs=0) == EyeRow(epochs=0)


def test_unknown_parts(train, tmp_path):
    with pytest.raises(ValueError, match=r"parts must be some of search, eye, got \['magic'\]"):
        train(tmp_path, parts=["search", "magic"])
    assert list(tmp_path.iterdir()) == []


def test_the_command_hands_on_data_and_parts(monkeypatch, tmp_path):
    given, lines = {}, []
    monkeypatch.setattr(
        "jepa_utils.experiments.run.load_data",
        lambda name, source: LoadedData(name, f"{name} from {source}"),
    )
    monkeypatch.setattr(eyes, "eye_record", lambda *a, **k: given.update(a=a, k=k))
    run_experiments(["eyes/search"], tmp_path, recipe="tiny", say=lines.append)
    assert given["a"][0] == EyeRecipe.tiny() and given["k"]["parts"] == ["search"]
    assert [part.data for part in given["a"][1:]] == ["flickr8k", "cifar10"]
    assert lines == ["flickr8k from sample", "cifar10 from sample"]
    run_experiments(["eyes"], tmp_path, say=lines.append)
    assert given["a"][0] == EyeRecipe.page() and "parts" not in given["k"]


# ---- images of another side


def test_smaller_images_are_averages_and_equal_ones_are_the_same():
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (3, 3, 8, 8), dtype=torch.uint8, generator=draw)
    assert torch.equal(resized(images, 8), images)
    half = resized(images, 4)
    wanted = images.float().unfold(2, 2, 2).unfold(3, 2, 2).mean(dim=(4, 5)).round()
    assert half.dtype == torch.uint8 and torch.equal(half.float(), wanted)


def test_larger_images_lie_between_their_pixels():
    ramp = torch.arange(0, 200, 25).byte().expand(1, 3, 8, 8)
    large = resized(ramp, 16)
    assert large.shape == (1, 3, 16, 16) and large.dtype == torch.uint8
    steps = large[0, 0, 0].int().diff()
    assert (steps >= 0).all() and steps[1:-1].min() >= 12  # every step is half of 25
    assert large.min() == ramp.min() and large.max() == ramp.max()
    plain = torch.full((1, 3, 8, 8), 255, dtype=torch.uint8)
    assert (resized(plain, 20) == 255).all()
