"""Chapter 5's record on questions: searched alike, inverted, quantised; complete and resumable."""

from dataclasses import asdict, replace
from functools import partial

import pytest
import torch
from torch import nn

from jepa_utils.data.tokens import CaptionTokenizer
from jepa_utils.data.triples import Questions, object_questions, triples
from jepa_utils.data.words import Vocabulary
from jepa_utils.evaluation.encode import frozen_tokens
from jepa_utils.experiments import questions
from jepa_utils.experiments.questions import (
    QUESTION_PARTS,
    QuestionRecipe,
    QuestionRow,
    folded,
    question_record,
    question_scores,
)
from jepa_utils.experiments.store import RecordError, read_record
from jepa_utils.models.checkpoints import CheckpointError, load_encoder, load_weights, read_card

RECIPE = replace(QuestionRecipe.tiny(), scenes=64, gallery=24, validation=16)
KINDS = ("object", "relation")
SHARES = ("right", "of two", "inverted", "another's")


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
    def run(folder, recipe=RECIPE, **options):
        places = dict(folder=folder / "results", checkpoints=folder / "checkpoints")
        given = dict(encoder=encoder, name="tiny", say=lambda line: None) | places
        return question_record(recipe, **given | options)

    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("questions")


@pytest.fixture(scope="module")
def record(train, folder):
    return train(folder)


def runs_of(record, part):
    return {run["row"]: run for run in record["runs"] if run["part"] == part}


# ---- the record


def test_every_part_has_its_rows(record, folder):
    rows = {part: list(runs_of(record, part)) for part in QUESTION_PARTS}
    kinds = ("tokens", "centres", "causal")
    assert rows == {
        "search": [f"{kind}, 0.004" for kind in kinds],
        "main": ["I-JEPA", "as drawn"],
        "centres": ["8 centres"],
        "attention": ["causal"],
        "relation": ["bidirectional", "causal"],
        "pixels": ["pixels"],
    }
    assert record == read_record(folder / "results" / "questions" / "tiny.json")
    assert list((folder / "checkpoints").iterdir()) == []


def test_a_run_says_what_it_found_and_what_it_took(record):
    sizes = set()
    for run in record["runs"]:
        part = run["part"]
        kinds = KINDS if part == "relation" else KINDS[:1]
        wanted = {f"{kind}, {share}" for kind in kinds for share in SHARES}
        assert set(run["scores"]) - {"lost"} == wanted
        assert all(0 <= share <= 1 for name, share in run["scores"].items() if name != "lost")
        passes = RECIPE.search_passes if part == "search" else 2 * RECIPE.passes
        batches = len(kinds) * RECIPE.scenes // RECIPE.batch_size
        assert run["steps"] == passes * batches and len(run["losses"]) == passes
        assert run["samples"] == run["steps"] * RECIPE.batch_size
        if part == "search":
            assert "half" not in run
        else:
            assert set(run["half"]) == wanted and run["half"] != run["scores"]
        sizes.add((part == "pixels", run["parameters"]))
    assert len(sizes) == 2  # pixels have narrower tokens; all others are equal
    assert 0 < runs_of(record, "centres")["8 centres"]["scores"]["lost"] < 1


def test_each_kind_of_row_takes_the_rate_that_won_its_own_search():
    recipe = replace(RECIPE, rates=(1e-3, 2e-3), centres=(4, 8))
    best = {"tokens": 1e-3, "centres": 2e-3, "causal": 1e-3}
    runs = [
        {
            "part": "search",
            "row": name,
            "scores": {"object, right": row.learning_rate == best[row.kind]},
        }
        for name, row in recipe.rows("search", {}).items()
    ]
    won = {
        name: row
        for part in ("main", "centres", "attention", "pixels")
        for name, row in recipe.rows(part, questions._best(recipe, runs)).items()
    }
    assert {name: row.learning_rate for name, row in won.items()} == {
        "I-JEPA": 1e-3,
        "as drawn": 1e-3,
        "4 centres": 2e-3,
        "8 centres": 2e-3,
        "causal": 1e-3,
        "pixels": 1e-3,
    }
    changed = {
        name: {key for key, value in asdict(row).items() if value != asdict(QuestionRow())[key]}
        - {"learning_rate"}
        for name, row in won.items()
    }
    assert changed == {
        "I-JEPA": set(),
        "as drawn": {"eye"},
        "4 centres": {"centres"},
        "8 centres": {"centres"},
        "causal": {"attention"},
        "pixels": {"eye"},
    }
    both = recipe.rows("relation", questions._best(recipe, runs))
    assert both == {
        "bidirectional": replace(won["I-JEPA"], both=True),
        "causal": replace(won["causal"], both=True),
    }
    with pytest.raises(RecordError, match="the search is not complete: causal, 0.002"):
        questions._best(recipe, runs[:-1])


def test_the_kept_networks_answer_as_the_record_says(record, folder, encoder):
    path = folder / "results" / "questions" / "tiny_main.safetensors"
    words = read_card(path)["words"]
    reader = CaptionTokenizer(Vocabulary(tuple(words), tuple(words.values())))
    networks = nn.ModuleList(RECIPE.networks(QuestionRow(), len(reader)))
    (predictor, text), card = load_weights(networks, path)
    run = runs_of(record, "main")["I-JEPA"]
    assert card["row"] == "I-JEPA" and card["scores"] == run["scores"]
    bench = questions._Bench(RECIPE, load_encoder(encoder)[0], {})
    world = triples(RECIPE.gallery, split="test", seed=2)
    tokens = folded(frozen_tokens(bench.encoder, world.images))
    asked = object_questions(world)
    found = question_scores(predictor, text, reader, tokens, asked, bench.choices["object"])
    for name, share in found.items():
        assert run["scores"][f"object, {name}"] == pytest.approx(share, abs=1e-3)


def test_a_run_that_was_killed_goes_on_to_the_same_end(train, record, tmp_path, monkeypatch):
    real, asked = questions.train_pair, []

    def until(*args, **how):
        asked.append(how["seed"])
        if len(asked) == 2:
            raise KeyboardInterrupt
        return real(*args, **how)

    train(tmp_path, parts=["search"])
    monkeypatch.setattr(questions, "train_pair", until)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        train(tmp_path, parts=["attention"])
    assert len(list((tmp_path / "checkpoints").iterdir())) == 1
    monkeypatch.setattr(questions, "train_pair", real)
    resumed = runs_of(train(tmp_path, parts=["attention"]), "attention")["causal"]
    whole = runs_of(record, "attention")["causal"]
    for key in ("scores", "half", "losses"):
        assert resumed[key] == whole[key]


def test_what_cannot_be_run(train, tmp_path):
    with pytest.raises(ValueError, match=r"parts must be some of search, .*, got \['magic'\]"):
        train(tmp_path, parts=["magic"])
    with pytest.raises(CheckpointError, match=r"none\.json is missing"):
        train(tmp_path, encoder=tmp_path / "none.safetensors")
    with pytest.raises(RecordError, match="no record"):
        train(tmp_path, parts=["main"])
    for change in (dict(eye="mine"), dict(attention="none")):
        with pytest.raises(ValueError, match=f"{next(iter(change))} must be one of"):
            QuestionRow(**change)


# ---- parts


def test_folding_loses_nothing_and_keeps_neighbours_together():
    tokens = torch.arange(64).view(1, 64, 1).float()
    assert folded(tokens)[0, 0].tolist() == [0, 1, 8, 9]
    assert folded(tokens)[0, -1].tolist() == [54, 55, 62, 63]
    assert sorted(folded(tokens).flatten().tolist()) == list(range(64))
    with pytest.raises(ValueError, match=r"tokens must have shape \(N, 64, D\), got \(2, 16, 4\)"):
        folded(torch.zeros(2, 16, 4))


def test_tokens_become_their_nearest_centres():
    table = questions._table(torch.cat([torch.zeros(50, 3), torch.ones(50, 3)]), 2)
    tokens = torch.tensor([[[0.1, 0.2, 0.0], [0.9, 0.8, 1.0]]])
    found = questions._nearest(tokens, table)
    torch.testing.assert_close(found.float(), torch.tensor([[[0.0] * 3, [1.0] * 3]]))


ASKED = Questions(["p", "q"], ["left", "right"], ["q", "p"], ["right", "left"])


def scored(answer):
    """Scores of a predictor that answers p and q by the two given vectors."""
    vocabulary = Vocabulary(("<unk>", "p", "q", "left", "right"), (0, 1, 1, 1, 1))
    axes = torch.eye(5)

    def predictor(tokens, ids, visible):
        return torch.stack([axes[answer[int(row[0])]] for row in ids])

    reader = CaptionTokenizer(vocabulary)
    text = partial(lambda ids, visible: axes[ids[:, 0]])
    return question_scores(predictor, text, reader, torch.zeros(2, 1, 1), ASKED, ["left", "right"])


def test_scores_of_who_reads_the_question_and_of_who_does_not():
    assert scored({1: 3, 2: 4}) == {"right": 1, "of two": 1, "inverted": 0, "another's": 0}
    deaf = scored({1: 3, 2: 3})
    assert deaf["of two"] == deaf["inverted"] == 0.5
    silent = scored({1: 0, 2: 0})  # at a right angle to both answers: a guess
    assert silent["of two"] == silent["inverted"] == 0.5
