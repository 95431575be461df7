"""Chapter 5's generated scenes: a record that is complete and resumable, whose networks come back with their words."""

import hashlib
import json
import math
from dataclasses import asdict, replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from jepa_utils.data.scenes import scene_contents, scenes
from jepa_utils.data.tokens import CaptionTokenizer
from jepa_utils.data.words import Vocabulary
from jepa_utils.evaluation.encode import frozen_tokens
from jepa_utils.evaluation.retrieval import recall_at_k
from jepa_utils.experiments import captions as caption_records
from jepa_utils.experiments.captions import EXPERIMENTS, CaptionRecipe, caption_record
from jepa_utils.experiments.store import RecordError, read_record
from jepa_utils.models.checkpoints import CheckpointError, load_encoder, load_weights, read_card

RECIPE = replace(
    CaptionRecipe.tiny(),
    scenes=64, gallery=20, scene_width=4, scene_hidden=16,
    scene_stages=((2, 2e-3, 32), (2, 4e-4, 16)), token_scenes=32,
)  # fmt: skip
SETTINGS = {"scenes": ["look-alikes"], "hidden tokens": ["own", "shuffled", "none"]}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jepa_utils.training.fit.THREADS", 1)
        yield


@pytest.fixture(scope="module")
def encoder(root):
    return root / "results" / "cifar10" / "five_passes_ijepa.safetensors"


@pytest.fixture(scope="module")
def train(encoder):
    """The record of a tiny recipe, and what was said, in a folder."""

    def run(folder, **options):
        said = []
        given = dict(recipe=RECIPE, encoder=encoder, name="tiny")
        places = dict(folder=folder / "results", checkpoints=folder / "checkpoints")
        return caption_record(**given | places | options, say=said.append), said

    return run


@pytest.fixture(scope="module")
def finished(train, tmp_path_factory):
    """Both parts, run once: folder, record, what was said, and how each pair of networks was trained."""
    folder, pairs, real = tmp_path_factory.mktemp("captions"), [], caption_records.train_pair

    def noted(head, text, data, **how):
        module, history = real(head, text, data, **how)
        pairs.append(SimpleNamespace(module=module, data=data, how=how, history=history))
        return module, history

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(caption_records, "train_pair", noted)
        record, said = train(folder)
    return SimpleNamespace(folder=folder, record=record, said=said, pairs=pairs)


def only(record, *experiments):
    return [run for run in record["runs"] if run["experiment"] in experiments]


# ---- the record
# ----------------------------------------------------------------------------------------------------------


def test_each_experiment_runs_each_of_its_settings(finished):
    runs = finished.record["runs"]
    assert [(run["experiment"], run["setting"]) for run in runs] == [
        (name, s) for name in EXPERIMENTS for s in SETTINGS[name]
    ]
    assert len(finished.said) == len(runs) and finished.said[0].startswith(
        "scenes, look-alikes, seed 0: seen @1 0."
    )
    assert finished.record == read_record(finished.folder / "results" / "captions" / "tiny.json")
    assert list((finished.folder / "checkpoints").iterdir()) == []


def test_record_says_all_that_is_needed_to_judge_it(finished, encoder):
    record = finished.record
    settings = json.loads(json.dumps(asdict(RECIPE)))
    del settings["num_seeds"]
    assert record["recipe"] == "tiny" and record["settings"] == settings
    encoder_sum = hashlib.sha256(encoder.read_bytes()).hexdigest()
    assert record["data"] == {"encoder": encoder_sum}
    passes = {"scenes": 4, "hidden tokens": 1}
    for run in record["runs"]:
        assert run["seed"] == 0 and run["seconds"] >= 0 and "1 threads" in run["hardware"]
        assert (
            {"torch", "python"} <= set(run["packages"]) and len(run["date"]) == 10 and run["commit"]
        )
        assert len(run["losses"]) == passes[run["experiment"]]
        assert all(map(math.isfinite, run["losses"]))
        assert all(0 <= score <= 1 for score in run["scores"].values())


def test_scores_of_each_experiment(finished):
    recalls = {"@1", "@5", "@10"}
    (scene,) = only(finished.record, "scenes")
    assert {f"{split} {k}" for split in ("seen", "unseen") for k in recalls} < set(scene["scores"])
    assert {"seen, relation", "unseen, word order"} < set(scene["scores"])
    assert all(
        set(run["scores"]) == {"true token is nearest"}
        for run in only(finished.record, "hidden tokens")
    )


def test_networks_for_scenes_come_back_with_their_words(finished, encoder):
    path = finished.folder / "results" / "captions" / "tiny_scenes.safetensors"
    words = read_card(path)["words"]
    tokenizer = CaptionTokenizer(Vocabulary(tuple(words), tuple(words.values())))
    assert tokenizer == CaptionTokenizer.from_captions(scenes(RECIPE.scenes).captions)
    (head, text), card = load_weights(nn.ModuleList(RECIPE.scene_networks(len(tokenizer))), path)
    (run,) = only(finished.record, "scenes")
    assert {name: card[name] for name in run} == run and card["settings"] == finished.record[
        "settings"
    ]
    world = scenes(RECIPE.gallery, split="seen", seed=1)
    tokens = frozen_tokens(load_encoder(encoder)[0], world.images)
    with torch.no_grad():
        found = recall_at_k(text(*tokenizer(world.captions)), head(tokens.float()))
    assert {f"seen @{k}": round(share, 4) for k, share in found.items()}.items() <= run[
        "scores"
    ].items()


def test_scenes_compete_with_look_alikes_in_stages_that_go_on_from_each_other(finished):
    first, second = finished.pairs
    assert [
        (p.how["epochs"], p.how["learning_rate"], p.data.batch_size) for p in (first, second)
    ] == list(RECIPE.scene_stages)
    assert (
        first.module.context_encoder is second.module.context_encoder
        and first.module.objective is second.module.objective
    )
    (run,) = only(finished.record, "scenes")
    assert run["seconds"] == round(first.history.seconds + second.history.seconds, 1)
    assert run["losses"] == pytest.approx(
        first.history.losses["loss"] + second.history.losses["loss"], rel=1e-3
    )
    contents = scene_contents(scenes(RECIPE.scenes).attributes)
    for data in (first.data, second.data):
        assert torch.equal(data.groups, contents) and torch.equal(data.look_alikes, contents // 4)


# ---- going on
# ------------------------------------------------------------------------------------------------------------


def test_what_is_recorded_is_not_done_again_and_the_rest_is(finished, train, tmp_path):
    again, said = train(finished.folder)
    assert again == finished.record and said == []
    (tmp_path / "results" / "captions").mkdir(parents=True)
    left_out = only(finished.record, "hidden tokens")[1]
    part = {
        **finished.record,
        "runs": [run for run in finished.record["runs"] if run is not left_out],
    }
    (tmp_path / "results" / "captions" / "tiny.json").write_text(json.dumps(part))
    record, said = train(tmp_path)
    assert len(said) == 1 and record["runs"][:-1] == part["runs"]
    for key in ("experiment", "setting", "scores", "losses"):
        assert record["runs"][-1][key] == left_out[key]  # whatever ran before it


def test_an_interrupted_run_ends_with_the_same_scores_and_weights(
    finished, train, tmp_path, monkeypatch
):
    real, drawn, stages = caption_records.train_pair, [], []

    def until(head, text, data, **how):
        stages.append(data.batch_size)
        batches = data.batches

        def stop(epoch, **part):
            if len(stages) == 2 and epoch == 1:
                raise KeyboardInterrupt
            drawn.append((data.batch_size, epoch))
            yield from batches(epoch, **part)

        data.batches = stop
        return real(head, text, data, **how)

    monkeypatch.setattr(caption_records, "train_pair", until)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        train(tmp_path, experiments=["scenes"])
    assert not (tmp_path / "results" / "captions" / "tiny.json").exists()
    assert sorted(file.name[-6:] for file in (tmp_path / "checkpoints").iterdir()) == [
        "0.ckpt",
        "1.ckpt",
    ]
    assert drawn == [(32, 0), (32, 1), (16, 0)]
    again, _ = train(tmp_path, experiments=["scenes"])
    assert drawn[3:] == [(16, 1)]
    (run,), (whole,) = again["runs"], only(finished.record, "scenes")
    assert run["scores"] == whole["scores"] and run["losses"] == whole["losses"]
    weights = [
        folder / "results" / "captions" / "tiny_scenes.safetensors"
        for folder in (tmp_path, finished.folder)
    ]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_seeds_give_runs_of_their_own_and_the_first_ones_networks_are_kept(train, tmp_path):
    recipe = replace(RECIPE, num_seeds=2, scene_stages=((1, 2e-3, 32),))
    record, _ = train(tmp_path, recipe=recipe, experiments=["scenes"])
    first, second = record["runs"]
    assert (first["seed"], second["seed"]) == (0, 1) and first["losses"] != second["losses"]
    assert (
        read_card(tmp_path / "results" / "captions" / "tiny_scenes.safetensors")["losses"]
        == first["losses"]
    )


def test_other_settings_or_another_eye_do_not_overwrite_a_record(finished, train, encoder):
    path = finished.folder / "results" / "captions" / "tiny.json"
    before = path.read_text()
    with pytest.raises(RecordError, match=r"tiny\.json was made with other settings; move it away"):
        train(finished.folder, recipe=replace(RECIPE, gallery=21))
    other = encoder.with_name("one_pass_ijepa.safetensors")
    with pytest.raises(RecordError, match=r"tiny\.json was made with other data; move it away"):
        train(finished.folder, encoder=other)
    assert path.read_text() == before


def test_what_cannot_be_run(train, tmp_path):
    with pytest.raises(
        ValueError, match=r"experiments must be some of scenes, hidden tokens, got \['magic'\]"
    ):
        train(tmp_path, experiments=["scenes", "magic"])
    with pytest.raises(CheckpointError, match=r"none\.json is missing"):
        train(tmp_path, encoder=tmp_path / "none.safetensors")
    assert list(tmp_path.iterdir()) == []
