"""Chapter 2's record: complete, resumable, its ladder adds one change at a time, its search chooses on validation."""

import json
import math
import re
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

import pyarrow
import pytest
import torch
from datasets import Dataset, DatasetDict
from pyarrow import parquet
from torch import nn

from jepa_utils.data.batches import SpanDataModule
from jepa_utils.data.load import LoadedData, load_data
from jepa_utils.data.tokens import STREAMS, article_of_chunks, load_tokenizer, token_chunks
from jepa_utils.evaluation.counted_texts import lsa_vectors, ppmi_vectors, random_vectors
from jepa_utils.experiments import text_measures, texts
from jepa_utils.experiments.run import run_experiments
from jepa_utils.experiments.store import Outcome, RecordError, read_record
from jepa_utils.experiments.text_measures import TextData
from jepa_utils.experiments.texts import (
    LADDER,
    TEXT_PARTS,
    TextRecipe,
    TextRow,
    text_batches,
    text_record,
    text_training,
)
from jepa_utils.models.ema import EMA
from jepa_utils.models.text import TextEncoder
from jepa_utils.objectives.infonce import InfoNCE
from jepa_utils.objectives.sigreg import SIGReg
from jepa_utils.training.baselines import HybridTraining, MaskedLM
from jepa_utils.training.jepa import JEPA
from jepa_utils.training.optimizers import Schedule

PARTS = TEXT_PARTS[:-1]  # all but the stream
BUDGETS = [name for name in asdict(TextRecipe()) if name.endswith("_tokens")]
RECIPE = replace(
    TextRecipe.tiny(),
    **dict.fromkeys(BUDGETS, 1_000) | dict(full_tokens=8_000),
    **dict(length=32, gallery=12, num_slices=8, some=34, labels=(16,), wide=32),
)
HOW = dict(devices=1, nodes=1, progress=False)


@pytest.fixture(scope="module", autouse=True)
def quick():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jepa_utils.training.fit.THREADS", 1)
        patch.setattr("jepa_utils.experiments.store._commit", lambda: "of a test")  # two processes
        probe = text_measures.linear_probe  # one strength to choose among
        patch.setattr(
            text_measures, "linear_probe", lambda *a, strengths: probe(*a, strengths=(1.0,))
        )
        yield


def few(name, **rows):
    whole = load_data(name, source="sample", splits=tuple(rows))
    parts = {
        split: Dataset.from_dict(whole.data[split][:most], whole.data[split].features)
        for split, most in rows.items()
    }
    return LoadedData(DatasetDict(parts), whole.provenance)


@pytest.fixture(scope="module")
def loaded():
    """A few articles, captions and reviews, and the tokenizer."""
    wiki = few("wikitext-2", train=80, validation=60, test=100)
    others = few("flickr8k", test=12), few("rotten-tomatoes", train=24, test=10)
    return wiki, *others, load_tokenizer(source="sample").tokenizer


@pytest.fixture(scope="module")
def data(loaded):
    return TextData.read(*loaded, length=RECIPE.length, gallery=RECIPE.gallery)


@pytest.fixture(scope="module")
def train(loaded):
    def run(folder: Path, recipe=RECIPE, **options):
        places = dict(folder=folder / "results", checkpoints=folder / "checkpoints")
        return text_record(recipe, *loaded, name="tiny", say=lambda line: None, **places, **options)

    return run


@pytest.fixture(scope="module")
def made(train, tmp_path_factory):
    """The folder of a record with all parts that need no stream."""
    folder = tmp_path_factory.mktemp("texts")
    train(folder)
    return folder


def file_of(folder):
    return folder / "results" / "texts" / "tiny.json"


@pytest.fixture(scope="module")
def record(made):
    return read_record(file_of(made))


def runs_of(record, part):
    return {run["row"]: run for run in record["runs"] if run["part"] == part}


def winners(record):
    """The search's settings with the highest score on validation articles, by method."""
    best = {}
    for run in runs_of(record, "search").values():
        method, score = run["row settings"]["method"], run["scores"]["validation"]
        if method not in best or score >= best[method][0]:
            best[method] = score, TextRow(**run["row settings"])
    return {method: row for method, (_, row) in best.items()}


# ---- the record


def test_every_part_has_its_rows(record):
    assert {run["part"] for run in record["runs"]} == set(PARTS)
    won = winners(record)
    for part in PARTS:
        rows, runs = RECIPE.rows(part, won), runs_of(record, part)
        assert list(runs) == list(rows)
        for name, row in rows.items():
            assert runs[name]["row settings"] == asdict(row), name
    assert len(record["runs"]) == sum(len(RECIPE.rows(part, won)) for part in PARTS)


def test_scores_have_names_and_are_shares(record):
    common = {f"recall@{k}" for k in (1, 5, 10)} | {"validation", "article", "captions"}
    common |= {"reviews, 16", "reviews, all"}
    for run in record["runs"]:
        row, scores = TextRow(**run["row settings"]), dict(run["scores"])
        wanted = set(common)
        if row.method != "TF-IDF":  # too many numbers for a rank
            wanted.add("effective rank")
            assert 0 <= scores.pop("effective rank") <= row.dimensions
        if row.method in ("masked", "hybrid"):
            wanted |= {"nats", "unigram nats"}
            assert all(0 < scores.pop(name) < 20 for name in ("nats", "unigram nats"))
        if row.method in texts.TRAINED and not row.span:
            wanted.add("share of the cut")
        assert set(run["scores"]) == wanted, run["row"]
        assert all(0 <= score <= 1 for score in scores.values()), run["row"]
        assert scores["recall@1"] <= scores["recall@5"] <= scores["recall@10"]
        assert all(round(score, 4) == score for score in scores.values())


def test_a_training_says_what_it_took(record, data):
    for part in PARTS[1:]:
        for name, run in runs_of(record, part).items():
            row, curves = TextRow(**run["row settings"]), run["curves"]
            length = 2 * row.span if row.span else RECIPE.length
            epochs = len(curves["losses"]["loss"])
            batch = run["samples"] // run["steps"]
            assert run["steps"] % epochs == 0 and batch <= row.batch_size, name
            per_epoch = run["samples"] * length // epochs
            assert epochs == max(1, round(row.tokens / per_epoch)), name
            text = texts._text(RECIPE, row, data)
            assert run["passes"] == round(run["samples"] * length / text.numel(), 2)
            steps, every = curves["step"], math.ceil(epochs / RECIPE.looks)
            per_look = every * run["steps"] // epochs
            assert steps == sorted({*range(0, run["steps"] + 1, per_look), run["steps"]}), name
            assert len(steps) <= RECIPE.looks + 1
            looked = {"validation", "test", "effective rank", "std", "target std"}
            masked, both = row.method == "masked", row.method == "hybrid"
            looked |= {"nats"} if masked else {"validation loss"}
            assert set(curves) == looked | ({"nats"} if both else set()) | {"step", "losses"}
            assert all(len(curves[key]) == len(steps) for key in looked)
            assert curves["validation"][-1] <= 1 and curves["std"][0] > 0
    assert all("curves" not in run for run in runs_of(record, "counts").values())
    longest = runs_of(record, "full")["LeJEPA, bag"]["curves"]["step"]
    assert len(longest) > 2  # else the looks between show nothing


def test_the_record_is_read_back_and_a_second_call_adds_nothing(train, made, record, monkeypatch):
    before = file_of(made).read_bytes()
    monkeypatch.setattr(texts, "_run", lambda *_: pytest.fail("nothing is left to do"))
    assert train(made) == record
    assert file_of(made).read_bytes() == before
    assert list((made / "checkpoints").iterdir()) == []


def test_the_full_runs_take_what_won_on_validation(record):
    won, full = winners(record), runs_of(record, "full")
    assert set(won) == {"LeJEPA", "InfoNCE", "EMA", "masked"}
    named = {"LeJEPA": "weight", "InfoNCE": "temperature", "EMA": "decay"}
    for method, setting in named.items():
        found = full[f"{method}, bag"]["row settings"]
        assert found[setting] == getattr(won[method], setting)
        assert found["tokens"] == RECIPE.full_tokens
    masked = full["masked, transformer"]["row settings"]
    assert masked["learning_rate"] == won["masked"].learning_rate


# ---- what is run, without running it


@pytest.fixture
def pretended(monkeypatch):
    """Runs whose scores are told, by row; at first all are 0."""
    scores = {}

    def run(recipe, row, data, how, seed, states):
        found = scores.get((row.method, row.weight, row.temperature, row.decay, row.learning_rate))
        entry = {"scores": {"validation": 0.0, "recall@10": 0.0} | (found or {}), "seconds": 0.0}
        return Outcome(entry | {"row settings": asdict(row)})

    monkeypatch.setattr(texts, "_run", run)
    monkeypatch.setattr(TextData, "read", lambda *_, **__: None)
    return scores


def test_the_search_is_won_on_validation_whatever_the_test_says(train, pretended, tmp_path):
    rows = RECIPE.rows("search", {})
    wanted = {"LeJEPA": 0.03, "InfoNCE": 0.1, "EMA": 0.998, "masked": 3e-3}
    for name, row in rows.items():
        best = name == f"{row.method}, {wanted[row.method]:g}"
        key = (row.method, row.weight, row.temperature, row.decay, row.learning_rate)
        pretended[key] = {"validation": 0.5 + 0.1 * best, "recall@10": 0.9 - 0.5 * best}
    record = train(tmp_path, parts=["stream", "scaling", "full", "scale", "search"])  # any order
    assert record["runs"][0]["part"] == "search"
    row = {name: TextRow(**run["row settings"]) for name, run in runs_of(record, "full").items()}
    assert row["LeJEPA, bag"].weight == row["LeJEPA, transformer"].weight == 0.03
    assert row["LeJEPA, bag, wide"].weight == row["hybrid, transformer"].weight == 0.03
    assert row["LeJEPA, bag, reviews"].weight == 0.03
    assert row["InfoNCE, bag"].temperature == 0.1 and row["EMA, bag"].decay == 0.998
    words = row["masked, transformer"], row["hybrid, transformer"]
    assert [(row.learning_rate, row.layer_rate) for row in words] == [(3e-3, None)] * 2
    for part in ("scale", "scaling", "stream"):
        runs = runs_of(record, part).values()
        assert {run["row settings"]["weight"] for run in runs} == {0.03}


def test_each_method_is_searched_as_often_as_the_others():
    rows = TextRecipe.page().rows("search", {})
    assert Counter(row.method for row in rows.values()) == dict.fromkeys(
        ("LeJEPA", "InfoNCE", "EMA", "masked"), 4
    )
    for method in ("LeJEPA", "InfoNCE", "EMA", "masked"):
        own = [asdict(row) for row in rows.values() if row.method == method]
        differ = {key for key in own[0] if len({str(row[key]) for row in own}) > 1}
        named = {"LeJEPA": {"weight"}, "InfoNCE": {"temperature"}, "EMA": {"decay"}}
        assert differ == named.get(method, {"learning_rate"})
    bags = [row for row in rows.values() if row.method != "masked"]
    assert len({(row.tokens, row.learning_rate, row.batch_size, row.text) for row in bags}) == 1


def test_each_rung_changes_what_it_says_and_nothing_else():
    recipe = TextRecipe.page()
    rows = recipe.rows("ladder", {})
    assert list(rows) == [*LADDER, "no layers"]
    before = TextRow(text="some", tokens=recipe.ladder_tokens)  # else the source's
    for name, change in LADDER.items():
        row = rows[name]
        now, was = asdict(row), asdict(before)
        assert {key: now[key] for key in now if now[key] != was[key]} == change, name
        before = row
    assert rows["no layers"] == replace(before, layers=0, span=64)
    at_the_top = replace(before, text="all", tokens=TextRow().tokens)
    assert at_the_top == texts.TRANSFORMER


@pytest.mark.parametrize(
    "part, rows, change",
    [
        ("scale", ["it learns", "it is fixed"], {"fixed_scale"}),
        (
            "scaling",
            [*(f"share {x}" for x in ("0.0625", "0.125", "0.25", "0.5", "1"))]
            + [f"width {x}" for x in (16, 32, 128)],
            {"share", "dimensions"},
        ),
        ("stream", ["LeJEPA, bag"], {"text"}),
    ],
)
def test_what_follows_the_search_changes_what_it_says_and_nothing_else(part, rows, change):
    recipe, won = TextRecipe.page(), {"LeJEPA": replace(texts.BAG, weight=0.77)}
    found = recipe.rows(part, won)
    assert list(found) == rows
    for name, row in found.items():
        now, was = asdict(row), asdict(won["LeJEPA"])
        differ = {key for key in now if now[key] != was[key]} - {"tokens"}
        assert differ <= change and len(differ) == (name not in ("it learns", "share 1")), name
        said = name.split()[-1]
        assert said in {"learns", "fixed", "bag", f"{row.share:g}", str(row.dimensions)}
    assert len({row.tokens for row in found.values()}) == 1
    assert {row.text for row in found.values()} == {"stream" if part == "stream" else "all"}
    assert [row.fixed_scale for row in found.values()].count(True) == (part == "scale")


def test_depths_differ_in_their_layers_alone():
    recipe, won = TextRecipe.page(), {method: TextRow(method) for method in texts.TRAINED}
    rows = recipe.rows("depth", won)
    assert [(name, row.layers) for name, row in rows.items()] == [
        (f"layers {depth}", depth) for depth in (0, 1, 4)
    ]
    shallow = recipe.rows("full", won)["LeJEPA, transformer, 3 times"]
    assert {replace(row, layers=2) for row in rows.values()} == {shallow}


def test_five_trainings_differ_in_what_keeps_from_collapse_alone():
    rows = TextRecipe.page().rows("five", {})
    change = {"regularizer", "stop_gradient"}
    seen = {(row.regularizer, row.stop_gradient) for row in rows.values()}
    assert len(seen) == len(rows) == 5
    rest = {str({k: v for k, v in asdict(row).items() if k not in change}) for row in rows.values()}
    assert len(rest) == 1


@pytest.mark.parametrize(
    "seeds, wanted",
    [(None, dict(five=[0, 1], ladder=[0, 1, 2])), ([7], dict(five=[7], ladder=[7]))],
)
def test_ladder_and_search_have_seeds_of_their_own_number(
    train, pretended, tmp_path, seeds, wanted
):
    recipe = replace(RECIPE, num_seeds=2, ladder_seeds=3)
    wanted |= dict(search=[0])
    record = train(tmp_path, recipe, seeds=seeds, parts=list(wanted))
    for part in wanted:
        found = Counter((r["row"], r["seed"]) for r in record["runs"] if r["part"] == part)
        assert set(found.values()) == {1}
        assert sorted({seed for _, seed in found}) == wanted[part]
        assert len(found) == len(runs_of(record, part)) * len(wanted[part])


def test_what_cannot_be_done_is_said(train, pretended, tmp_path):
    with pytest.raises(ValueError, match=r"parts must be some of counts.*, got \['worst'\]"):
        train(tmp_path, parts=["counts", "worst"])
    for part in ("full", "scale", "scaling", "stream"):
        with pytest.raises(RecordError, match="is missing"):
            train(tmp_path, parts=[part])
    assert not file_of(tmp_path).exists()
    train(tmp_path, parts=["search"])
    record = read_record(file_of(tmp_path))
    kept = [run for run in record["runs"] if run["row"] not in ("EMA, 0.99", "masked, 0.01")]
    file_of(tmp_path).write_text(json.dumps(record | {"runs": kept}))
    with pytest.raises(RecordError, match="the search is not complete: EMA, 0.99, masked, 0.01$"):
        train(tmp_path, parts=["full"])
    with pytest.raises(RecordError, match="other settings"):
        train(tmp_path, replace(RECIPE, gallery=11), parts=["counts"])


@pytest.mark.parametrize(
    "change, words",
    [
        (dict(method="BERT"), "method must be one of LeJEPA, .*, got 'BERT'"),
        (dict(method="lejepa"), "method.*got 'lejepa'"),
        (dict(weights="log"), "weights must be equal or idf, got 'log'"),
        (dict(text="most"), "text must be all, some, reviews or stream, got 'most'"),
    ],
)
def test_a_row_refuses_what_it_does_not_know(change, words):
    with pytest.raises(ValueError, match=words):
        TextRow(**change)


def test_the_command_hands_on_data_and_parts(monkeypatch, tmp_path):
    calls, given = [], {}

    def data(name, *, source, splits=None):
        calls.append((name, source, splits))
        return LoadedData(name, f"about {name}")

    lines = []
    monkeypatch.setattr("jepa_utils.experiments.run.load_data", data)
    monkeypatch.setattr(
        "jepa_utils.experiments.run.load_tokenizer", lambda source: LoadedDataTokenizer(source)
    )
    monkeypatch.setattr(texts, "text_record", lambda *a, **k: given.update(a=a, k=k))
    run_experiments(["texts/ladder", "texts/five"], tmp_path, recipe="tiny", say=lines.append)
    recipe, *loaded, tokenizer = given["a"]
    assert recipe == TextRecipe.tiny() and tokenizer == "tokens of sample"
    assert [part.data for part in loaded] == ["wikitext-2", "flickr8k", "rotten-tomatoes"]
    assert {source for _, source, _ in calls} == {"sample"}
    assert lines == [f"about {part.data}" for part in loaded]
    assert given["k"]["parts"] == ["ladder", "five"] and given["k"]["name"] == "tiny"
    run_experiments(["texts"], tmp_path, say=lines.append)
    assert given["a"][0] == TextRecipe.page() and "parts" not in given["k"]


class LoadedDataTokenizer:
    def __init__(self, source):
        self.tokenizer = f"tokens of {source}"


# ---- what is read


def test_articles_and_halves_are_those_of_the_chunks(loaded, data):
    lines, tokenizer = loaded[0].data["test"]["text"], loaded[3]
    chunks = token_chunks(lines, tokenizer, length=32, progress=False)
    assert torch.equal(data.articles["test"], article_of_chunks(lines, tokenizer, 32)[:12])
    assert torch.equal(torch.cat(data.sides["test"], dim=1), chunks[:12])


def test_a_row_reads_its_text(data):
    number = len(data.train)
    assert number > 2 * RECIPE.some
    for row, rows in (
        (TextRow(), number),
        (TextRow(text="some"), RECIPE.some),
        (TextRow(share=0.5), round(number / 2)),
        (TextRow(share=1e-9), 2),  # one batch of one, and one to shift
    ):
        assert torch.equal(texts._text(RECIPE, row, data), data.train[:rows])
    reviews = texts._text(RECIPE, TextRow(text="reviews", span=12), data)
    ids, visible = data.reviews["train"]
    long = visible.sum(dim=1) >= 24
    assert 0 < long.sum() < len(ids) and torch.equal(reviews, ids[long, :24])
    assert not (reviews == data.mask_id).any()


# ---- batches

CHUNKS = torch.arange(10 * 16).view(10, 16)  # every token tells its place


def drawn(data, epoch=0):
    return [(ids, target) for (ids, _), (_, target) in data.batches(epoch)]


@pytest.mark.parametrize("change", [{}, dict(cut="batch", either_side=True)])
def test_chunks_are_cut_as_the_row_says(change):
    row = TextRow(batch_size=4, **change)
    plain = SpanDataModule(CHUNKS, batch_size=4, min_length=3, shift=True, seed=5, **change)
    for epoch in (0, 1):
        found = drawn(text_batches(row, CHUNKS, min_length=3, seed=5), epoch)
        for pair, expected in zip(found, drawn(plain, epoch), strict=True):
            assert all(map(torch.equal, pair, expected))
    assert text_batches(row, CHUNKS, min_length=3).seed == 0
    assert text_batches(TextRow(batch_size=1), CHUNKS.repeat(1, 4)).min_length == 32


def test_spans_are_neighbours_wherever_chunks_end():
    row = TextRow(batch_size=8, span=5, either_side=True)
    data = text_batches(row, CHUNKS)
    assert data.chunks.flatten().tolist() == [*range(160)] and data.chunks.shape == (16, 10)
    assert data.steps == 1  # a chunk is left to shift
    sides, starts = set(), set()
    for epoch in range(4):
        ((ids, target),) = drawn(data, epoch)
        assert (ids.diff(dim=1) == 1).all() and ids.shape == (8, 10)
        assert (target.sum(dim=1) == 5).all() and target[0].unique_consecutive().tolist() in (
            [False, True],
            [True, False],
        )
        sides.add(bool(target[0, 0]))
        starts.add(int(ids[0, 0]) % 10)
    assert sides == {True, False} and len(starts) > 1
    assert text_batches(replace(row, span=7), CHUNKS).chunks.shape == (11, 14)  # the rest is left


def test_a_batch_is_no_larger_than_the_text():
    data = text_batches(TextRow(batch_size=64), CHUNKS, min_length=2)
    assert (data.batch_size, data.steps) == (9, 1)
    with pytest.raises(ValueError, match="passages must fill two chunks of 160 tokens, got 1"):
        text_batches(TextRow(span=80), CHUNKS)
    with pytest.raises(ValueError, match="min_length must be between 1 and half a chunk, 8, got 9"):
        text_batches(TextRow(), CHUNKS, min_length=9)


def test_reviews_are_not_shifted_into_each_other():
    data = text_batches(TextRow(text="reviews", span=8, batch_size=4), CHUNKS)
    assert not data.shift and data.steps == 2
    assert {
        int(i) % 16 for epoch in range(3) for ids, _ in drawn(data, epoch) for i in ids[:, 0]
    } == {0}


def test_a_stream_is_read_in_its_order():
    row = TextRow(text="stream", span=8, batch_size=3)
    data = text_batches(row, lambda rank, size: iter(CHUNKS), chunks_per_epoch=6)
    assert data.steps == 2 and data.min_length == 8
    found = torch.cat([ids for ids, _ in drawn(data)])
    assert torch.equal(found, CHUNKS[:6])
    with pytest.raises(ValueError, match="chunks_per_epoch must be given for a stream"):
        text_batches(row, lambda rank, size: iter(CHUNKS))


# ---- trainings

V, MASK = 12, 11
TEXT = torch.randint(2, 11, (9, 8), generator=torch.Generator().manual_seed(0))
BASE = TextRow(dimensions=8, weights="idf", positions=False, learning_rate=0.02)


def training(**change):
    torch.manual_seed(0)
    return text_training(replace(BASE, **change), TEXT, V, MASK, num_slices=5)


def test_lejepa_is_made_as_its_row_says():
    module = training(
        weight=0.3,
        regularize="both",
        stop_gradient=False,
        linear=True,
        layer_rate=0.5,
        falling=True,
    )
    assert type(module) is JEPA and module.target_encoder is module.context_encoder
    assert type(module.regularizer) is SIGReg and module.regularizer.num_slices == 5
    assert (module.weight, module.regularize, module.stop_gradient) == (0.3, "both", False)
    assert module.learning_rate == 0.02 and module.schedule == Schedule(True, 0.0, 0.01, 0.5)
    assert type(module.predictor) is nn.Linear and module.predictor.weight.shape == (8, 8)
    line, norm = training().predictor
    assert (type(line), type(norm)) == (nn.Linear, nn.LayerNorm) and training().stop_gradient


def test_the_encoder_is_made_as_its_row_says():
    encoder = training(layers=1, norm_first=True, token_std=0.01).context_encoder
    assert encoder.positions is None and encoder.tokens.weight.std() < 0.02
    assert len(encoder.layers) == 1 and encoder.layers[0].norm_first and encoder.dropout.p == 0
    halves = TEXT.view(-1, 4)
    idf = [
        math.log(19 / (1 + sum(token in half for half in halves.tolist()))) + 1
        for token in range(V)
    ]
    weights = encoder.weights.weight.exp().flatten()
    assert weights.tolist() == pytest.approx(idf, rel=1e-5)
    plain = training(weights="equal", positions=True).context_encoder
    assert plain.weights is None and plain.positions is not None


def test_layers_may_start_as_the_identity():
    for start in (True, False):
        module = training(identity_start=start, norm_first=True)
        added = [layer.linear2.weight.any() for layer in module.context_encoder.layers]
        assert added == [not start] * 2


@pytest.mark.parametrize("method", texts.TRAINED)
def test_a_fixed_scale_is_the_last_normalisations_alone(method):
    for fixed in (True, False):
        module = training(method=method, fixed_scale=fixed, weights="equal")
        encoder = module.masked.encoder if method == "hybrid" else None
        encoder = encoder or getattr(module, "encoder", None) or module.context_encoder
        still = {id(p) for p in module.parameters() if not p.requires_grad}
        if method == "EMA":
            still -= {id(p) for p in module.target_encoder.parameters()}
        assert still == ({id(p) for p in encoder.norm.parameters()} if fixed else set())


def test_rivals_are_made_as_their_rows_say():
    module = training(method="InfoNCE", temperature=0.07)
    assert type(module.objective) is InfoNCE and "temperature=0.07" in repr(module.objective)
    assert module.weight == 0 and module.regularizer is None and not module.stop_gradient
    module = training(method="EMA", decay=0.9)
    assert type(module.target_encoder) is EMA and module.target_encoder.decay == 0.9
    assert module.weight == 0 and module.regularizer is None


def test_masked_models_know_the_tokens_of_the_text_and_how_often_they_come():
    module, counts = training(method="masked", warmup=0.2), Counter(TEXT.flatten().tolist())
    assert type(module) is MaskedLM and module.mask_id == MASK
    assert module.candidates.tolist() == sorted(counts) and module.schedule.warmup == 0.2
    expected = [math.log(counts[token] / TEXT.numel()) for token in sorted(counts)]
    assert module.bias.tolist() == pytest.approx(expected, rel=1e-5)
    assert not module.encoder.weights.weight.requires_grad
    assert training(method="masked", weights="equal").encoder.weights is None
    both = training(method="hybrid", weight=0.3)
    assert type(both) is HybridTraining and both.jepa.weight == 0.3
    assert both.masked.encoder is both.jepa.context_encoder
    assert both.masked.encoder.weights.weight.requires_grad
    assert both.masked.bias.tolist() == pytest.approx(expected, rel=1e-5)


def test_the_regulariser_can_be_left_out_or_standardised():
    module = training(regularizer="none", weight=0.3)
    assert module.regularizer is None and module.weight == 0
    values, h = [], torch.randn(50, 8, generator=torch.Generator().manual_seed(1))
    for kind in ("standardised SIGReg", "SIGReg"):
        for same in (h, 5 * h + 3):
            torch.manual_seed(2)
            values.append(float(training(regularizer=kind).regularizer(same)))
    assert values[0] == pytest.approx(values[1], rel=1e-3) and values[3] > 2 * values[2]


@pytest.mark.parametrize("method", [*texts.COUNTED, "untrained"])
def test_what_is_not_trained_has_no_training(method):
    words = f"method must be one of LeJEPA, .*, hybrid, got '{re.escape(method)}'"
    with pytest.raises(ValueError, match=words):
        training(method=method)


def test_rows_name_every_method():
    recipe, won = TextRecipe.page(), {method: TextRow(method) for method in texts.TRAINED}
    used = {row.method for part in TEXT_PARTS for row in recipe.rows(part, won).values()}
    assert used == {*texts.METHODS}


# ---- what is measured


@pytest.mark.parametrize("method", ["LSA", "random", "PPMI + SVD", "untrained"])
def test_rivals_count_as_their_rows_say(data, method):
    text, row = data.train[:40], TextRow(method, dimensions=8, norm_first=True)
    ids, visible = data.sides["test"][0], torch.rand(12, 16) < 0.9
    documents, how = text.view(-1, 16), dict(dimensions=8, seed=3)
    torch.manual_seed(5)
    expected = {
        "LSA": lambda: lsa_vectors(documents, **how),
        "random": lambda: random_vectors(documents, data.vocabulary, **how),
        "PPMI + SVD": lambda: ppmi_vectors(documents, data.vocabulary, **how),
        "untrained": lambda: TextEncoder(
            data.vocabulary, dimensions=8, norm_first=True, dropout=0.0
        ),
    }[method]()
    torch.manual_seed(5)
    vectors = texts._counted(row, text, data.vocabulary, 3)
    torch.testing.assert_close(vectors(ids, visible), expected(ids, visible))


def test_an_untrained_encoder_does_not_read_padding(data):
    row = TextRow("untrained", dimensions=8)
    vectors, ids = texts._counted(row, data.train[:40], data.vocabulary, 0), data.train[40:44]
    alone = vectors(ids, torch.ones_like(ids, dtype=torch.bool))
    assert len(alone) == 4 and alone.std(dim=0).min() > 0
    padded = torch.cat([ids, torch.full((4, 9), data.mask_id)], dim=1)
    visible = torch.arange(41).expand(4, 41) < 32
    torch.testing.assert_close(vectors(padded, visible), alone, rtol=1e-4, atol=1e-5)


def test_a_training_that_was_killed_goes_on_to_the_same_end(data, tmp_path, monkeypatch):
    row = RECIPE.rows("search", {})["LeJEPA, 0.1"]
    row, recipe = replace(row, dimensions=16, tokens=20_000), replace(RECIPE, looks=4)
    real, looks = texts.look, []

    def until_killed(*args):
        looks.append(1)
        if len(looks) == 3:  # the looks are fewer than the passes
            raise KeyboardInterrupt
        return real(*args)

    def run(name):
        return texts._run(recipe, row, data, HOW, 0, [tmp_path / name]).entry

    monkeypatch.setattr(texts, "look", until_killed)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        run("killed.ckpt")
    assert (tmp_path / "killed.ckpt").exists()
    monkeypatch.setattr(texts, "look", real)
    resumed, whole = run("killed.ckpt"), run("whole.ckpt")
    steps = whole["curves"]["step"]
    assert len(whole["curves"]["losses"]["loss"]) > len(steps) > 3
    assert resumed | {"seconds": 0} == whole | {"seconds": 0}


def test_a_stream_is_what_a_training_reads(data, tmp_path, monkeypatch):
    lines, place = ["the river was wide and", "it ran to the sea"] * 500, STREAMS["fineweb-edu"]
    shard = tmp_path / "mirror" / place.name / place.files["train"][0]
    shard.parent.mkdir(parents=True)
    parquet.write_table(pyarrow.table({"text": lines}), shard)
    monkeypatch.setenv("JEPA_DATA_MIRROR", str(tmp_path / "mirror"))
    monkeypatch.setenv("JEPA_CACHE_DIR", str(tmp_path / "cache"))
    real, made = texts.text_training, []

    def kept(*args, **options):
        made.append(real(*args, **options))
        made.append(made[0].context_encoder.tokens.weight.detach().clone())
        return made[0]

    monkeypatch.setattr(texts, "text_training", kept)
    (row,) = RECIPE.rows("stream", {"LeJEPA": texts.BAG}).values()
    row = replace(row, dimensions=8, span=8, batch_size=8, tokens=4_000)
    run = texts._run(RECIPE, row, data, HOW, 0, [tmp_path / "run.ckpt"]).entry
    module, before = made
    changed = (module.context_encoder.tokens.weight != before).any(dim=1).nonzero().flatten()
    read = {i for ids in data.tokenizer(lines[:2])["input_ids"] for i in ids}
    assert set(changed.tolist()) == read and len(read) < len(before) / 10
    assert run["samples"] == 8 * run["steps"] and "passes" not in run
    assert run["samples"] * 16 == pytest.approx(row.tokens, rel=0.1)
    losses = run["curves"]["losses"]["loss"]
    assert len(losses) == RECIPE.looks and losses[-1] < losses[0]
