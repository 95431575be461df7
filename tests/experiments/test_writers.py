"""Chapter 5's comparison of words and embeddings: equal in what it compares, and complete."""

import json
import math
from dataclasses import asdict, replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from jepa_utils.data.scenes import every_caption, scene_caption, scene_contents
from jepa_utils.evaluation.retrieval import recall_at_k
from jepa_utils.experiments import writers
from jepa_utils.experiments.store import RecordError, read_record
from jepa_utils.experiments.writers import (
    ARMS,
    WRITER_PARTS,
    Blur,
    WriterRecipe,
    _Bench,
    writer_record,
)
from jepa_utils.models.checkpoints import CheckpointError, load_encoder

RECIPE = replace(WriterRecipe.tiny(), longest=(3,), films=3)


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
        places = dict(folder=folder / "results", checkpoints=folder / "checkpoints")
        given = dict(recipe=RECIPE, encoder=encoder, name="tiny", say=said.append)
        return writer_record(**given | places | options), said

    return run


@pytest.fixture(scope="module")
def finished(train, tmp_path_factory):
    """All parts, run once, and what was trained on the way."""
    folder, trained, real = tmp_path_factory.mktemp("writers"), [], writers.fit

    def noted(module, data, **how):
        history = real(module, data, **how)
        trained.append(SimpleNamespace(module=module, data=data, how=how))
        return history

    pairs, real_pair = [], writers.train_pair

    def noted_pair(head, text, data, **how):
        module, history = real_pair(head, text, data, **how)
        pairs.append(SimpleNamespace(module=module, data=data, how=how))
        return module, history

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writers, "fit", noted)
        patch.setattr(writers, "train_pair", noted_pair)
        record, said = train(folder)
    return SimpleNamespace(folder=folder, record=record, said=said, trained=trained, pairs=pairs)


@pytest.fixture(scope="module")
def bench(encoder):
    return _Bench(RECIPE, load_encoder(encoder)[0], {})


def only(record, *parts):
    return [run for run in record["runs"] if run["part"] in parts]


# ---- the record


def test_each_part_has_its_runs(finished):
    runs = finished.record["runs"]
    rates, blurs = (["0.001", "0.002"], ["0.5", "1"])
    found = [(run["part"], run["way"], run.get("setting", run.get("passes"))) for run in runs]
    assert found == [
        *(("search", way, rate) for way in ARMS for rate in rates),
        *(("blur", "embeddings", blur) for blur in blurs),
        *(("curve", way, passes) for passes in ("1", "2") for way in ARMS),
        *(("longest", way, "3") for way in ARMS),
    ]
    assert finished.record == read_record(finished.folder / "results" / "writers" / "tiny.json")
    assert finished.said[0].startswith("search, words, 0.001, seed 0: preferred 0.")
    assert list((finished.folder / "checkpoints").iterdir()) == []


def test_record_says_what_is_needed_to_judge_it(finished):
    settings = json.loads(json.dumps(asdict(RECIPE)))
    del settings["num_seeds"]
    assert finished.record["settings"] == settings
    for run in finished.record["runs"]:
        assert {"parameters", "steps", "samples", "seconds", "losses"} <= set(run)
        assert all(map(math.isfinite, run["losses"]))
        assert all(0 <= score <= 1 for score in run["scores"].values())
    for run in only(finished.record, "curve", "longest"):
        passes = int(run["passes"])
        assert len(run["losses"]) == passes and run["steps"] == 2 * passes
        assert run["samples"] == 2 * 64 * passes
        assert run["core_seconds"] > 0
        assert len(run["said"]) == 8 and all(isinstance(line, str) for line in run["said"])


def test_scores_of_each_way(finished):
    for run in only(finished.record, "curve"):
        found, searches = set(run["scores"]), set(run["search_seconds"])
        shared = {"preferred", "relation", "colour 2", "whole", "attributes"}
        assert {f"{split}, {x}" for split in ("seen", "unseen") for x in shared} <= found
        nearest = {f"{split}, nearest, whole" for split in ("seen", "unseen")}
        if run["way"] == "words":
            assert searches == {"likelihood", "written"} and not nearest & found
        else:
            assert searches == {"embeddings"} and nearest <= found
        assert {f"search @1 by {name}" for name in searches} <= found


def test_a_film_has_a_point_for_each_setting(finished):
    run = only(finished.record, "longest")[1]
    film = run["film"]
    assert [len(film[policy]) for policy in ("uniform", "moved", "random")] == [3, 3, 3]
    assert film["threshold"] in RECIPE.thresholds
    assert film["uniform"][0][0] == 100 and film["uniform"][1][0] == pytest.approx(20)
    for moved, chance in zip(film["moved"], film["random"], strict=True):
        assert moved[0] == chance[0]  # as many decodings
    assert film["chosen"] == film["moved"][RECIPE.thresholds.index(film["threshold"])]


# ---- what is equal, and what is not


def test_both_ways_learn_as_many_parameters_from_pairs_and_see_the_same_pairs(finished):
    page = WriterRecipe.page()
    size = lambda *parts: sum(p.numel() for part in parts for p in part.parameters())
    by_words = size(page.image_head(), page.text_decoder(22))
    by_embeddings = size(page.image_head(), page.text_encoder(22))
    assert abs(by_words / by_embeddings - 1) < 0.02
    runs = {run["way"]: run for run in only(finished.record, "curve")}
    assert runs["words"]["parameters"] == by_words
    assert runs["embeddings"]["parameters"] == by_embeddings + 1  # the temperature
    words = [x for x in finished.trained if isinstance(x.module.reader, nn.Sequential)][2]
    pair = finished.pairs[3]  # after two of the search, and one for all blurs
    assert words.how["epochs"] == pair.how["epochs"] == 1
    for one, other in zip(words.data.batches(0), pair.data.batches(0), strict=True):
        assert torch.equal(one[0][0], other[0][0]) and torch.equal(one[2], other[2])


def test_rates_and_blur_are_those_that_won_the_search(finished):
    def best(part, way):
        runs = [run for run in only(finished.record, part) if run["way"] == way]
        return float(max(runs, key=lambda run: next(iter(run["scores"].values())))["setting"])

    for trained in finished.pairs[2:]:
        assert trained.how["learning_rate"] == best("search", "embeddings")
    later = finished.trained[4:]  # after the search of words, and the blurs
    for trained in later:
        module = trained.module
        if isinstance(module.reader, Blur):
            assert module.reader.noise == best("blur", "embeddings")
        else:
            assert module.learning_rate == best("search", "words")


def test_the_y_decoder_learns_from_texts_alone(finished, bench):
    blurred = [x for x in finished.trained if isinstance(x.module.reader, Blur)]
    assert len(blurred) == 2 + 3
    tokens = bench.tokens["train"]
    for trained in blurred:
        (inputs,), (ids, _), _ = next(iter(trained.data.batches(0)))
        assert inputs.shape == (64, 128) != tokens.shape[1:] and ids.shape == (64, 11)


def test_scenes_for_choosing_and_for_reporting_share_no_content(bench):
    contents = {
        name: set(scene_contents(world.attributes).tolist()) for name, world in bench.worlds.items()
    }
    page = _Bench(WriterRecipe.page(), nn.Identity(), {})
    for name in ("choosing", "seen"):
        assert len(bench.worlds[name].captions) == RECIPE.gallery == len(contents[name])
    assert not contents["choosing"] & contents["seen"]
    halves = [
        set(scene_contents(page.worlds[name].attributes).tolist()) for name in ("choosing", "seen")
    ]
    assert not halves[0] & halves[1] and len(halves[0] | halves[1]) == 1152


# ---- parts


def test_captions_have_an_end(bench):
    ids, visible = bench.ended(["a small red circle above a large blue square"])
    assert ids.shape == visible.shape == (1, 11)
    assert visible.sum() == 10 and ids[0, 9] == 0 and (ids[0, :9] > 0).all()


def test_blur_centres_and_is_noisy_in_training_only():
    torch.manual_seed(0)
    x = torch.randn(50, 16) + 1
    blur = Blur(0.5, F.normalize(x, dim=1).mean(dim=0))
    quiet = blur.eval()(x)
    assert torch.allclose(quiet.square().sum(dim=1), torch.full((50,), 16.0), rtol=1e-4)
    assert torch.equal(blur(3 * x), blur(3 * x)) and torch.allclose(blur(3 * x), quiet, atol=1e-4)
    assert quiet.mean(dim=0).norm() < 0.3  # of length 4
    noisy = blur.train()(x)
    cosine = F.cosine_similarity(noisy, quiet).mean()
    assert cosine == pytest.approx(1 / math.sqrt(1 + 0.25), abs=0.05)
    assert not torch.equal(noisy, blur(x))


def test_a_trained_pair_finds_the_nearest_caption_and_search_is_recall(bench, tmp_path):
    pair, _ = bench.pair(2e-3, 1, 0, tmp_path / "a.ckpt")
    captions, tokens = bench.worlds["seen"].captions[:10], bench.tokens["seen"][:10]
    scores = bench.by_embeddings(pair, captions, tokens)
    with torch.no_grad():
        expected = recall_at_k(
            bench.read(pair, captions), pair.context_encoder(tokens.float()), ks=(1,)
        )
    found, seconds = bench.searched(embeddings=bench.by_embeddings)(pair)
    assert found == {"search @1 by embeddings": pytest.approx(expected[1])}
    assert scores.shape == (10, 10) and seconds["embeddings"] >= 0
    assert len(bench.sentences) == len(every_caption())


def test_likelihood_of_a_search_is_that_of_each_pair(bench, tmp_path):
    module, _ = bench.writer(2e-3, 1, 0, tmp_path / "a.ckpt")
    captions, tokens = bench.worlds["seen"].captions[:4], bench.tokens["seen"][:4]
    scores = bench.by_likelihood(module, captions, tokens)
    with torch.no_grad():
        scene = module.reader(tokens[2:3].float())
        one = module.log_likelihood(scene, *bench.ended(captions[1:2]))
    assert scores.shape == (4, 4) and scores[1, 2] == pytest.approx(float(one), rel=1e-4)


def test_films_are_scored_by_what_was_decoded_last(bench, monkeypatch):
    """A writer that is always right loses only the frames from a cut to the next decoding."""
    pair = SimpleNamespace(context_encoder=lambda tokens: tokens.float().flatten(1)[:, ::64])
    shown = iter(bench.films)
    truth = lambda writer, inputs: [scene_caption(row) for row in next(shown)[1]]
    monkeypatch.setattr(bench, "said", truth)
    curves = bench.film_curves(pair, None)
    assert curves["uniform"][0] == [100, 1, 1] and curves["at the cuts"][1:] == [1, 1]
    late = []
    for _, attributes, _ in bench.films[1:]:
        last = attributes[torch.arange(60) // 20 * 20]
        late.append((scene_contents(last) == scene_contents(attributes)).float())
    assert curves["uniform"][2][2] == pytest.approx(float(torch.cat(late).mean()), abs=1e-4)
    assert curves["uniform"][2][2] < curves["uniform"][2][1] < 1


# ---- going on


def test_what_is_recorded_is_not_done_again(finished, train):
    again, said = train(finished.folder)
    assert again == finished.record and said == []


def test_what_cannot_be_run(finished, train, tmp_path):
    with pytest.raises(ValueError, match=r"parts must be some of search, .*, got \['magic'\]"):
        train(tmp_path, parts=["search", "magic"])
    with pytest.raises(RecordError, match=r"the part 'search' is not complete for words: 0 of 2"):
        train(tmp_path, parts=["curve"])
    with pytest.raises(CheckpointError, match=r"none\.json is missing"):
        train(tmp_path, encoder=tmp_path / "none.safetensors")
    with pytest.raises(RecordError, match=r"tiny\.json was made with other settings"):
        train(finished.folder, recipe=replace(RECIPE, scenes=130))
    assert WRITER_PARTS == ("search", "blur", "curve", "longest")
