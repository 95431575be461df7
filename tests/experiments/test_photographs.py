"""Chapter 5's photographs: settings chosen on validation, measured on test along the way, resumable."""

import json
import math
from dataclasses import asdict, replace
from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset, DatasetDict
from torch import nn

from jepa_utils.data.images import caption_table, normalize
from jepa_utils.data.load import LoadedData, load_data
from jepa_utils.data.tokens import CaptionTokenizer
from jepa_utils.data.words import Vocabulary
from jepa_utils.evaluation.caption_tests import photo_scores
from jepa_utils.experiments import photographs
from jepa_utils.experiments.eyes import load_eye, resized
from jepa_utils.experiments.photographs import (
    EYES,
    FACTORS,
    OBJECTIVES,
    PHOTO_PARTS,
    RIVALS,
    PhotoRecipe,
    PhotoRow,
    eye_tokens,
    photo_record,
)
from jepa_utils.experiments.store import RecordError, read_record
from jepa_utils.models.checkpoints import CheckpointError, load_weights, read_card, save_weights
from jepa_utils.models.resnet import ResNet
from jepa_utils.models.text import TextEncoder
from jepa_utils.models.vision_language import ImageHead

RECIPE = replace(PhotoRecipe.tiny(), batch_sizes=(16, 32, 64), class_images=20)
TRAIN, VALIDATION, TEST = 40, 12, 13
RECALLS = {f"{way} @{k}" for way in ("text to image", "image to text") for k in (1, 5, 10)}
FOUND = RECALLS | {"alignment", "uniformity", "effective rank"}


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
    flickr = few("flickr8k", train=TRAIN, validation=VALIDATION, test=TEST)
    return flickr, few("cifar10", test=30)


@pytest.fixture(scope="module")
def eyes(root, tmp_path_factory):
    torch.manual_seed(3)
    eye, path = ResNet(16, (8, 16)), tmp_path_factory.mktemp("eye") / "eye.safetensors"
    save_weights(eye, path, {"what": "an eye", "eye": eye.sizes})
    return {"SIGReg": path, "I-JEPA": root / "results/cifar10/five_passes_ijepa.safetensors"}


@pytest.fixture(scope="module")
def train(loaded, eyes):
    def run(folder, recipe=RECIPE, data=loaded, **options):
        said = []
        given = dict(eyes=eyes, name="tiny", say=said.append)
        places = dict(folder=folder / "results", checkpoints=folder / "checkpoints")
        return photo_record(recipe, *data, **given | places | options), said

    return run


@pytest.fixture(scope="module")
def finished(train, tmp_path_factory):
    """All parts, run once: folder, record, and what each training was given and asked."""
    folder, runs = tmp_path_factory.mktemp("photographs"), []
    real = photographs._Bench.run, photographs._Bench.rival

    def run(self, part, label, row, *rest):
        runs.append(SimpleNamespace(part=part, label=label, row=row, asked=[], bench=self))
        return real[0](self, part, label, row, *rest)

    def rival(self, name, *rest):
        runs.append(SimpleNamespace(part="rivals", label=name, asked=[]))
        return real[1](self, name, *rest)

    def scores(module, tokens, sentences):
        runs[-1].asked.append(len(tokens))
        return photo_scores(module, tokens, sentences)

    class Data(photographs.CaptionDataModule):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            runs[-1].data = self

    class Rates(photographs._TwoRates):
        def configure_optimizers(self):
            runs[-1].optimizer, runs[-1].module = super().configure_optimizers(), self
            runs[-1].drawn = [p.detach().clone() for p in self.target_encoder.parameters()]
            return runs[-1].optimizer

    fit_cca = photographs.fit_cca

    def correlated(features, counts, held_out):
        runs[-1].asked += [len(features), len(held_out[0])]
        return fit_cca(
            features, counts, held_out, ridges=(0.3,), dimensions=(8,), powers=(1.0, 2.0)
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(photographs._Bench, "run", run)
        patch.setattr(photographs._Bench, "rival", rival)
        patch.setattr(photographs, "photo_scores", scores)
        patch.setattr(photographs, "CaptionDataModule", Data)
        patch.setattr(photographs, "_TwoRates", Rates)
        patch.setattr(photographs, "fit_cca", correlated)
        record, said = train(folder)
    assert as_json(record) == read_record(file_of(folder))
    return SimpleNamespace(folder=folder, record=as_json(record), said=said, runs=runs)


def as_json(value):
    return json.loads(json.dumps(value))


def file_of(folder):
    return folder / "results" / "photographs" / "tiny.json"


def weights_of(folder):
    return file_of(folder).with_name("tiny_eyes.safetensors")


def only(record, part):
    return {run["row"]: run for run in record["runs"] if run["part"] == part}


def looks(row):
    """Passes over photographs after which a row is measured."""
    each = 2 if row.mirrored else 1
    return sorted({each * math.ceil(n / each) for n in row.passes})


# ---- the record


def test_each_part_has_its_rows(finished):
    record, won = finished.record, RECIPE.winners(finished.record["runs"])
    for part in PHOTO_PARTS:
        rows = RECIPE.rows(part, won)
        assert list(only(record, part)) == (list(RIVALS) if part == "rivals" else list(rows))
        for name, row in rows.items():
            assert only(record, part)[name]["settings"] == as_json(asdict(row))
    assert len(finished.said) == len(record["runs"]) and {
        run["seed"] for run in record["runs"]
    } == {0}
    assert list((finished.folder / "checkpoints").iterdir()) == []


def test_every_training_is_told_along_the_way(finished):
    for run in finished.record["runs"]:
        if run["part"] == "rivals":
            assert set(run["scores"]) == RECALLS and run["setting"]["power"] in (1.0, 2.0)
            continue
        row = PhotoRow(**run["settings"])
        assert list(run["curve"]) == [str(n) for n in looks(row)], run["row"]
        last = run["curve"][str(max(looks(row)))]
        beyond = {"search": set(), "eyes": {"hardest", "CIFAR-10 by name"}}
        beyond = beyond.get(run["part"], {"hardest"})
        assert set(last) == FOUND and set(run["scores"]) == FOUND | beyond
        assert last.items() <= run["scores"].items()
        assert all(0 <= run["scores"][name] <= 1 for name in RECALLS | beyond)
        photos = TRAIN * (2 if row.mirrored else 1)
        passes = max(looks(row)) // (2 if row.mirrored else 1)
        assert run["steps"] == passes * (photos // min(row.batch_size, photos))
        assert len(run["losses"]) == passes and all(map(math.isfinite, run["losses"]))


def test_the_search_sees_validation_alone_and_the_rest_is_measured_on_test(finished):
    for run in finished.runs:
        if run.part == "rivals":
            assert run.asked == [TRAIN, VALIDATION]  # their settings are chosen there
        else:
            split = VALIDATION if run.part == "search" else TEST
            assert run.asked == [split] * len(looks(run.row)), run.label


def test_mirrored_photographs_come_beside_the_others(finished):
    for run in finished.runs:
        if run.part == "rivals":
            continue
        tokens, (ids, _) = run.data.tokens, run.data.captions
        eye, bench = run.row.eye, run.bench
        assert torch.equal(tokens[:TRAIN], bench.tokens(eye, "train"))
        if run.label == "not mirrored":
            assert not run.row.mirrored and len(tokens) == len(ids) == TRAIN
            continue
        assert run.row.mirrored and len(tokens) == len(ids) == 2 * TRAIN
        mirrored = bench._look(eye, bench.tables["train"][0][:3].flip(-1))
        torch.testing.assert_close(tokens[TRAIN : TRAIN + 3], mirrored, atol=2e-2, rtol=2e-2)
        assert not torch.equal(tokens[TRAIN:], tokens[:TRAIN])
        assert torch.equal(ids[:TRAIN], ids[TRAIN:])


def test_the_text_encoder_has_its_own_rate(finished):
    for run in finished.runs:
        if run.part == "rivals":
            continue
        (most, text), row = run.optimizer.param_groups, run.row
        own = {id(p) for p in run.module.target_encoder.parameters()}
        assert {id(p) for p in text["params"]} == own
        assert not own & {id(p) for p in most["params"]}
        assert len(own) + len(most["params"]) == len(list(run.module.parameters()))
        assert most["lr"] == row.learning_rate
        assert text["lr"] == pytest.approx(row.learning_rate * row.text_rate)


def test_a_smaller_rate_moves_the_text_encoder_less(finished):
    moved = {}
    for run in finished.runs:
        if (run.part, run.label) in (("changes", "slow text"), ("eyes", "SIGReg")):
            now = run.module.target_encoder.parameters()
            pairs = zip(now, run.drawn, strict=True)
            moved[run.label] = sum((a - b).abs().sum().item() for a, b in pairs)
    assert 0 < moved["slow text"] < 0.3 * moved["SIGReg"]  # of the same passes


def test_a_text_encoder_that_is_frozen_stays_as_it_is_drawn():
    text = nn.Linear(3, 3).requires_grad_(False)
    module = photographs._TwoRates(
        nn.Linear(2, 3), nn.Identity(), target_encoder=text, learning_rate=0.1, text_rate=0.5
    )
    (group,) = module.configure_optimizers().param_groups
    assert len(group["params"]) == 2 and group["lr"] == 0.1


def test_networks_and_words_come_back_and_find_as_they_did(finished, loaded):
    path = weights_of(finished.folder)
    run, card = only(finished.record, "eyes")["SIGReg"], read_card(path)
    assert card["scores"] == run["scores"] and card["row"] == "SIGReg"
    words = card["words"]
    tokenizer = CaptionTokenizer(Vocabulary(tuple(words), tuple(words.values())), max_length=24)
    (made,) = [r for r in finished.runs if (r.part, r.label) == ("eyes", "SIGReg")]
    assert tokenizer == made.bench.tokenizer
    row, tokens = made.row, made.bench.tokens("SIGReg", "test")
    head = ImageHead(
        *tokens.shape[1:], width=row.width, hidden=RECIPE.hidden, embedding=row.embedding
    )
    text = TextEncoder(
        len(tokenizer), dimensions=row.embedding, layers=0, max_length=24, positions=False
    )
    (head, text), _ = load_weights(nn.ModuleList([head, text]), path)
    pair = SimpleNamespace(context_encoder=head, target_encoder=text)
    _, lines = caption_table(loaded[0].data["test"], size=32)
    ids, visible = tokenizer([line for row in lines for line in row])
    sentences = tuple(x.unflatten(0, (TEST, 5)) for x in (ids, visible))
    found = photo_scores(pair, tokens, sentences)
    assert {name: round(x, 4) for name, x in found.items()}.items() <= run["scores"].items()


# ---- going on


def test_an_interrupted_run_ends_with_the_same_scores_and_weights(
    finished, train, tmp_path, monkeypatch
):
    whole = only(finished.record, "eyes")["SIGReg"]
    rest = [run for run in finished.record["runs"] if run is not whole]
    file_of(tmp_path).parent.mkdir(parents=True)
    file_of(tmp_path).write_text(json.dumps(finished.record | {"runs": rest}))
    real, drawn = photographs.CaptionDataModule.batches, []

    def batches(self, epoch, **part):
        if drawn == [0]:
            raise KeyboardInterrupt
        drawn.append(epoch)
        yield from real(self, epoch, **part)

    monkeypatch.setattr(photographs.CaptionDataModule, "batches", batches)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        train(tmp_path, parts=["eyes"])
    assert drawn == [0] and len(list((tmp_path / "checkpoints").iterdir())) == 1
    assert read_record(file_of(tmp_path))["runs"] == rest
    drawn.append("again")
    again, said = train(tmp_path, parts=["eyes"])
    assert drawn == [0, "again", 1] and len(said) == 1
    for key in ("scores", "curve", "losses", "steps", "settings"):
        assert as_json(again["runs"][-1][key]) == whole[key], key
    assert weights_of(tmp_path).read_bytes() == weights_of(finished.folder).read_bytes()
    assert list((tmp_path / "checkpoints").iterdir()) == []
    monkeypatch.setattr(photographs._Bench, "run", lambda *_: pytest.fail("nothing is left to do"))
    assert train(tmp_path)[1] == []


def test_what_cannot_be_done_is_said(finished, train, loaded, eyes, tmp_path):
    with pytest.raises(ValueError, match=r"parts must be some of search.*, got \['magic'\]"):
        train(tmp_path, parts=["search", "magic"])
    for part in PHOTO_PARTS[1:]:
        with pytest.raises(RecordError, match=r"tiny\.json is missing"):
            train(tmp_path, parts=[part])
    assert list(tmp_path.iterdir()) == []
    gone = "untrained, rate 0.001"
    kept = [run for run in finished.record["runs"] if run["row"] != gone]
    file_of(tmp_path).parent.mkdir(parents=True)
    file_of(tmp_path).write_text(json.dumps(finished.record | {"runs": kept}))
    for part in PHOTO_PARTS[1:]:
        with pytest.raises(ValueError, match=f"must hold the whole search, got none of '{gone}'"):
            train(tmp_path, parts=[part])
    with pytest.raises(RecordError, match="was made with other settings"):
        train(finished.folder, replace(RECIPE, hidden=17))
    other = {**eyes, "I-JEPA": eyes["SIGReg"]}  # another eye is other data
    with pytest.raises(RecordError, match="was made with other data"):
        train(finished.folder, eyes=other)
    with pytest.raises((CheckpointError, FileNotFoundError)):
        train(tmp_path / "new", eyes=eyes | {"SIGReg": tmp_path / "none.safetensors"})


# ---- what is run, without running it


def told(best):
    """Runs of a whole search in which these rows found most on validation."""
    page = PhotoRecipe.page()
    return [
        {"part": "search", "row": name, "scores": {"text to image @10": 0.5 + 0.1 * (name in best)}}
        for name in page.rows("search")
    ]


def test_winners_are_what_the_search_found():
    page = PhotoRecipe.page()
    best = [
        f"{name}, rate 0.01" for name in OBJECTIVES if name not in FACTORS and name != "InfoNCE"
    ]
    best += [f"{name}, factor {values[2]:g}" for name, values in FACTORS.items()]
    best += ["InfoNCE, width 16", *(f"{eye}, rate 0.003" for eye in list(EYES)[1:])]
    won = page.winners(told(best))
    assert set(won) == {*OBJECTIVES, *list(EYES)[1:]}
    assert won["InfoNCE"] == PhotoRow(width=16, passes=(page.search_passes,))
    for name, values in FACTORS.items():
        assert won[name].objective == name and won[name].weight == values[2]
        assert won[name].learning_rate == PhotoRow().learning_rate
    assert won["cosine"].learning_rate == 0.01 and won["cosine"].eye == "SIGReg"
    for eye in list(EYES)[1:]:  # the best objective, at the rate that this eye likes
        assert won[eye] == replace(won["InfoNCE"], eye=eye, learning_rate=0.003)
    other = [{**run, "part": "eyes"} for run in told([])]
    with pytest.raises(ValueError, match="got none of 'InfoNCE, rate 0.001'"):
        page.winners(other)  # what other parts found is not asked
    assert page.winners(told(best) + other) == won


def test_every_objective_and_every_eye_has_as_many_rates():
    page = PhotoRecipe.page()
    rows = page.rows("search")
    assert {row.passes for row in rows.values()} == {(page.search_passes,)}
    for name in OBJECTIVES:
        own = [row for row in rows.values() if row.objective == name and row.eye == "SIGReg"]
        assert {row.learning_rate for row in own} >= set(page.rates)
        assert {row.weight for row in own} == set(FACTORS.get(name, (0.0,)))
    for eye in list(EYES)[1:]:
        assert {r.learning_rate for r in rows.values() if r.eye == eye} == set(page.eye_rates)


@pytest.mark.parametrize(
    ("part", "differ"),
    [
        ("temperature", {"temperature"}),
        ("batch size", {"batch_size", "passes"}),
        ("changes", {"text_rate", "mirrored"}),
        ("eyes", {"eye"}),
        ("objectives", {"objective", "weight"}),
    ],
)
def test_rows_change_what_they_are_named_after_and_nothing_else(part, differ):
    page = PhotoRecipe.page()
    won = page.winners(told(["InfoNCE, dropout 0.3"]))
    same = {name: replace(row, learning_rate=7.0) for name, row in won.items()}
    objectives = {
        name: replace(row, dropout=0.3) if name in OBJECTIVES else row for name, row in same.items()
    }
    rows = [asdict(row) for row in page.rows(part, objectives).values()]
    assert len({str(row) for row in rows}) == len(rows) > 1
    assert {key for key in rows[0] if len({str(row[key]) for row in rows}) > 1} == differ
    assert {row["dropout"] for row in rows} == {0.3}


def test_batches_are_compared_at_equal_photographs_and_at_equal_steps():
    page = PhotoRecipe.page()
    rows = page.rows("batch size", page.winners(told([])))
    middle = page.batch_sizes[1]
    for size, row in zip(page.batch_sizes, rows.values(), strict=True):
        assert row.batch_size == size and page.batch_passes in row.passes
        steps = {n * 6000 / size for n in row.passes}
        assert page.batch_passes * 6000 / middle in steps
        assert looks(row) == list(row.passes)  # mirrored, too


def test_a_part_that_is_unknown_or_comes_too_early():
    with pytest.raises(ValueError, match="part must be one of search, .*, got 'magic'"):
        PhotoRecipe.page().rows("magic")
    with pytest.raises(ValueError, match="won must be what the search found, for 'eyes', got None"):
        PhotoRecipe.page().rows("eyes")
    assert PhotoRecipe.page().rows("rivals") == {}


# ---- objectives and eyes


@pytest.mark.parametrize("name", OBJECTIVES)
def test_partners_that_agree_lose_less_than_strangers(name):
    torch.manual_seed(0)
    a = nn.functional.normalize(torch.randn(16, 128), dim=1) * 3
    rule = OBJECTIVES[name](PhotoRow(objective=name, weight=25.0))
    loss = rule["objective"]
    if name == "uniformity":  # which does not see partners, but spread
        assert loss(a, a) < loss(a[:1].expand(16, -1), a[:1].expand(16, -1))
    elif name == "LeVLJEPA":  # whose predictors are only drawn yet
        x, y = a, a.flip(0)
        only_there = nn.functional.mse_loss(loss.from_pictures(x), y)
        only_back = nn.functional.mse_loss(loss.from_sentences(y), x)
        torch.testing.assert_close(loss(x, y), (only_there + only_back) / 2)
    else:
        assert loss(a, a) < loss(a, a.roll(1, 0))
    assert ("regularizer" in rule) == (name.startswith("L2 and") or name == "LeVLJEPA")


def test_cross_predictions_are_searched_by_both_predictions():
    torch.manual_seed(0)
    predict = photographs.CrossPrediction(8)
    module = SimpleNamespace(
        objective=predict, context_encoder=nn.Identity(), target_encoder=nn.Identity()
    )
    sides = photographs._searched(module)
    x, y = torch.randn(3, 8), torch.randn(3, 8)
    unit = lambda z: nn.functional.normalize(z, dim=1)
    there = unit(x) @ unit(predict.from_sentences(y)).T
    back = unit(predict.from_pictures(x)) @ unit(y).T
    found = sides.context_encoder(x) @ sides.target_encoder(y).T
    torch.testing.assert_close(found, there + back)
    plain = SimpleNamespace(objective=nn.functional.mse_loss)
    assert photographs._searched(plain) is plain


def test_tokens_are_all_stages_at_the_size_asked_for(eyes, loaded):
    eye = load_eye(eyes["SIGReg"])
    pictures, _ = caption_table(loaded[0].data["test"], size=48)
    tokens = eye_tokens(eye, pictures, size=32, grid=2)
    assert tokens.shape == (TEST, 4, 24) and tokens.dtype == torch.float16
    torch.testing.assert_close(tokens[4:6], eye_tokens(eye, pictures[4:6], size=32, grid=2))
    wanted = eye.pyramid(normalize(resized(pictures, 32)), 2)
    torch.testing.assert_close(tokens.float(), wanted, atol=2e-2, rtol=2e-2)
