"""Claims: declaring, judging, recording, reading back. Every claim of the book must be able to fail."""

import copy
import math
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
import yaml
from nbformat.v4 import new_code_cell, new_notebook, new_output
from synthetic import CLAIMS, make_tree

from jepa_utils.claims import declare, draw, judge, notebook
from jepa_utils.claims.declare import Claim, ClaimError, Expect
from jepa_utils.claims.judge import ChapterResults, Recorded

ROOT = Path(__file__).resolve().parents[2]
BOOK = ROOT / "book" / "claims.yml"
REAL = [{"name": "toy", "origin": "mirror"}]


def claim(**changes) -> Claim:
    row = dict(
        id="a",
        chapter="01_test",
        source="s",
        says="x",
        why="w",
        profile="laptop",
        needs_real_data=True,
    )
    row["expect"] = Expect(at_least=0.8)
    return Claim(**{**row, **changes})


def recorded(value, spread=0.01, profile="laptop", data=REAL, id="a") -> Recorded:
    return Recorded(id, value, spread, 3, profile, data)


# ----------------------------------------------------------------------------------------------------
# declaring


def rows(**changes) -> str:
    row = yaml.safe_load(CLAIMS)[0]
    row.update(changes)
    return yaml.safe_dump([{key: value for key, value in row.items() if value != "absent"}])


def load(tmp_path: Path, text: str) -> dict[str, Claim]:
    (tmp_path / "claims.yml").write_text(text)
    return declare.load_claims(tmp_path / "claims.yml", chapters=["01_test"])


def test_loads_the_rows_in_order(tmp_path):
    claims = load(tmp_path, CLAIMS)
    assert list(claims) == ["purity", "same-value"]
    assert claims["purity"].expect == Expect(at_least=0.8, direction=0.3)
    assert claims["purity"].verdict == "reproduced"


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"colour": "red"}, "unknown key colour"),
        ({"why": "absent"}, "missing key why"),
        ({"why": " "}, "why is ' '"),
        ({"chapter": "09_none"}, "chapter is '09_none', wants one of 01_test"),
        ({"profile": "cluster"}, "profile is 'cluster'"),
        ({"verdict": "fine"}, "verdict is 'fine'"),
        ({"needs_real_data": "no"}, "needs_real_data is 'no'"),
        ({"id": "Has Space"}, "id is 'Has Space'"),
        ({"reported": -math.inf}, "reported"),
        ({"expect": 0.8}, "expect is 0.8"),
        ({"expect": {}}, "expect: wants at_least, or at_most, or within and of; got []"),
        ({"expect": {"at_least": 0.8, "at_most": 0.9}}, "got ['at_least', 'at_most']"),
        ({"expect": {"within": 0.1}}, "got ['within']"),
        ({"expect": {"minimum": 1}}, "unknown key expect.minimum; known are at_least"),
        ({"expect": {"at_least": "much"}}, "expect.at_least is 'much'"),
        ({"expect": {"at_least": -math.inf}}, "expect.at_least is -inf"),
        ({"expect": {"at_least": True}}, "expect.at_least is True"),
        ({"expect": {"within": 1.5, "of": 1.0}}, "expect.within is 1.5"),
        (
            {"expect": {"at_least": 0.8, "direction": 0.9}},
            "direction wants a bound weaker than at least 0.8",
        ),
        ({"expect": {"at_least": 0.8}, "verdict": "direction only"}, "wants expect.direction"),
    ],
)
def test_a_wrong_row_is_refused_naming_row_and_key(tmp_path, changes, message):
    with pytest.raises(ClaimError) as error:
        load(tmp_path, rows(**changes))
    assert message in str(error.value) and "row 1" in str(error.value)


def test_a_number_that_yaml_takes_for_text_is_read_as_the_number(tmp_path):
    claim = load(tmp_path, rows(expect={"at_most": "4e-4"}, reported="4.2e-4"))["purity"]
    assert (claim.expect.at_most, claim.reported) == (4e-4, 4.2e-4)


def test_a_repeated_id_is_refused(tmp_path):
    with pytest.raises(ClaimError, match="row 2 .*declared twice"):
        load(tmp_path, rows() + rows())


# ------------------------------------------------------------------------------------------------------
# judging


@pytest.mark.parametrize(
    "expect, value, verdict",
    [
        (Expect(at_least=0.8), 0.8, "reproduced"),
        (Expect(at_least=0.8), 0.79, "not reproduced"),
        (Expect(at_least=0.8, direction=0.3), 0.79, "direction only"),
        (Expect(at_least=0.8, direction=0.3), 0.3, "not reproduced"),
        (Expect(at_most=0.2), 0.2, "reproduced"),
        (Expect(at_most=0.2, direction=0.5), 0.4, "direction only"),
        (Expect(at_most=0.2, direction=0.5), 0.6, "not reproduced"),
        (Expect(within=0.05, of=-2.0), -2.09, "reproduced"),
        (Expect(within=0.05, of=-2.0), -2.11, "not reproduced"),
        (Expect(within=0.0, of=25), 25, "reproduced"),
        (Expect(within=0.0, of=25), 24, "not reproduced"),
        (Expect(within=0.05, of=1.0, direction=3.0), 2.0, "direction only"),
        (Expect(at_least=0.8), math.nan, "not reproduced"),
        (Expect(at_most=0.8), -math.inf, "not reproduced"),
        (Expect(at_least=1), True, "reproduced"),
    ],
)
def test_verdicts(expect, value, verdict):
    assert judge.verdict_of(claim(expect=expect), recorded(value)) == verdict


def test_exceeded_is_past_the_reported_value_by_more_than_the_spread():
    high = claim(expect=Expect(at_least=0.5), reported=0.7)
    assert judge.verdict_of(high, recorded(0.72, spread=0.01)) == "exceeded"
    assert judge.verdict_of(high, recorded(0.72, spread=0.03)) == "reproduced"
    assert judge.verdict_of(high, recorded(0.72, spread=None)) == "reproduced"
    low = claim(expect=Expect(at_most=0.5), reported=0.3)
    assert judge.verdict_of(low, recorded(0.28, spread=0.01)) == "exceeded"
    assert judge.verdict_of(low, recorded(0.32, spread=0.01)) == "reproduced"


def test_a_run_satisfies_claims_of_its_own_and_lower_profiles_only():
    attempted = {
        (run, wants): judge.verdict_of(claim(profile=wants), recorded(1.0, profile=run))
        != "not attempted"
        for run in declare.PROFILES
        for wants in declare.PROFILES
    }
    assert {pair for pair, yes in attempted.items() if yes} == {
        ("smoke", "smoke"), ("laptop", "smoke"), ("gpu", "smoke"), ("laptop", "laptop"), ("gpu", "laptop"), ("gpu", "gpu"),
    }  # fmt: skip


@pytest.mark.parametrize(
    "data", [[], [{"name": "toy", "origin": "sample"}], [*REAL, {"name": "b", "origin": "sample"}]]
)
def test_without_real_data_a_claim_that_needs_it_is_not_attempted(data):
    assert judge.verdict_of(claim(), recorded(1.0, data=data)) == "not attempted"
    assert judge.verdict_of(claim(needs_real_data=False), recorded(1.0, data=data)) == "reproduced"


def results(*values: Recorded, profile="laptop") -> ChapterResults:
    return ChapterResults("01_test", profile, REAL, list(values), {}, [])


def test_check_chapter_finds_missing_unknown_and_repeated_ids():
    claims = {"a": claim()}
    assert judge.check_chapter(claims, results(recorded(0.9))) == []
    for wrong, message in [
        (results(), "never recorded"),
        (results(recorded(0.9), recorded(0.9)), "recorded 2 times"),
        (results(recorded(0.9), recorded(0.9, id="b")), "'b' is not one of its claims"),
        (results(recorded(0.9), profile="smoke"), "smoke run"),
        (results(recorded(0.9, data=[])), "not attempted, declared reproduced"),
    ]:
        assert [message in problem for problem in judge.check_chapter(claims, wrong)] == [True]
    assert judge.check_chapter({"a": claim(verdict="not attempted")}, results()) == []


def test_a_rerun_need_not_attempt_claims_of_a_higher_profile():
    claims = {"a": claim(profile="gpu")}
    assert judge.check_chapter(claims, results(recorded(0.1)), rerun=True) == []
    assert judge.check_chapter(claims, results(recorded(0.1))) != []


def test_compare_finds_numbers_beyond_their_tolerance():
    def glued(**values):
        return ChapterResults("01_test", "laptop", REAL, [], values, [])

    stored = glued(a=(1.0, 0.25), b=(3.0, None), c=("romeo", None))
    assert judge.compare({}, stored, glued(a=(1.2, 0.25), b=(9.0, None), c=("juliet", None))) == []
    assert (
        "'a' is 1.0 as stored, 1.5"
        in judge.compare({}, stored, glued(a=(1.5, 0.25), b=(3.0, None), c=("", None)))[0]
    )
    assert (
        "'c' is not recorded when run again"
        in judge.compare({}, stored, glued(a=(1.0, 0.25), b=(3.0, None)))[0]
    )
    assert judge.compare({}, glued(a=(1.0, 0.25)), glued(a=(math.nan, 0.25))) != []
    verdicts = judge.compare({"a": claim()}, results(recorded(0.9)), results(recorded(0.1)))
    assert "reproduced as stored, not reproduced when run again" in verdicts[0]


# ----------------------------------------------------------------------------------------- no claim
# cannot fail


def values_for(claim: Claim) -> tuple[list[float], list[float]]:
    """Values just on the right side for the declared verdict, and values just past it."""
    expect = claim.expect
    reach = (expect.within or 0) * abs(expect.target)
    step = max(1e-3 * abs(expect.target), 1e-9)
    past = {
        "at_least": [expect.target - step],
        "at_most": [expect.target + step],
        "within": [expect.target - reach - step, expect.target + reach + step],
    }[next(key for key in ("at_least", "at_most", "within") if getattr(expect, key) is not None)]
    met = [expect.target]
    if expect.direction is None:
        between, missed = [], past
    else:
        between = [
            (expect.direction + min(past, key=lambda value: abs(value - expect.direction))) / 2
        ]
        missed = [expect.direction, 2 * expect.direction - expect.target]
    if claim.verdict in ("reproduced", "exceeded"):
        return met, [*past, *missed, math.nan]
    if claim.verdict == "direction only":
        return between, [*met, *missed, math.nan]
    if claim.verdict == "not reproduced":
        return missed, met
    return [], met


def check_can_fail(claim: Claim) -> None:
    def problems(value):
        found = recorded(value, spread=None, profile=claim.profile, id=claim.id)
        # A claim declared to be out of reach has no wrong value under a lower profile, so it is
        # tried under its own.
        return judge.check_chapter(
            {claim.id: claim}, ChapterResults(claim.chapter, "gpu", REAL, [found], {}, [])
        )

    right, wrong = values_for(claim)
    assert wrong
    assert [problems(value) for value in right] == [[] for _ in right]
    assert all(problems(value) for value in wrong), [
        value for value in wrong if not problems(value)
    ]


@pytest.mark.parametrize(
    "claim",
    declare.load_claims(BOOK).values() if BOOK.is_file() else [],
    ids=lambda claim: claim.id,
)
def test_every_claim_of_the_book_can_fail(claim):
    check_can_fail(claim)


@pytest.mark.parametrize(
    "verdict", ["reproduced", "not reproduced", "direction only", "not attempted"]
)
@pytest.mark.parametrize(
    "expect",
    [
        Expect(at_least=0.8, direction=0.3),
        Expect(at_most=-2.0, direction=5.0),
        Expect(at_least=0, direction=-1),
        Expect(within=0.05, of=4.163e-4, direction=1e-2),
        Expect(within=0.0, of=25, direction=5),
    ],
)
def test_every_kind_of_claim_can_fail(expect, verdict):
    check_can_fail(claim(expect=expect, verdict=verdict))


def test_a_claim_that_cannot_fail_is_found(monkeypatch):
    monkeypatch.setattr(Expect, "met", lambda self, value: True)
    with pytest.raises(AssertionError):
        check_can_fail(claim())


# ------------------------------------------------------------------------------------------
# recording, reading


class Source:
    """Stands for data with provenance."""

    def __init__(self, origin="mirror"):
        self.origin = origin

    def to_dict(self):
        return {"name": "toy", "origin": self.origin}

    def __str__(self):
        return f"toy from the {self.origin}"


@pytest.fixture
def shown(tmp_path, monkeypatch):
    """The outputs of a notebook in a small book, as they would be stored."""
    make_tree(tmp_path)
    monkeypatch.chdir(tmp_path / "notebooks")
    monkeypatch.setattr(notebook, "_run", None)
    outputs = []
    monkeypatch.setattr(notebook, "_show", lambda data, metadata: outputs.append((data, metadata)))
    return outputs


def stored(outputs) -> nbformat.NotebookNode:
    cell = new_code_cell(
        "x",
        outputs=[new_output("display_data", data=d, metadata=copy.deepcopy(m)) for d, m in outputs],
    )
    return nbformat.reads(nbformat.writes(new_notebook(cells=[cell])), as_version=4)


def test_recorded_values_are_read_back(shown):
    notebook.open_chapter("01_test", "laptop", [Source()])
    notebook.record("purity", [0.9, 0.92, 0.94], unit="share")
    notebook.record("same-value", True)
    notebook.glue("count", np.int64(25))
    notebook.glue("seconds", 1.5, rtol=None)
    notebook.glue("name", "romeo")
    found = judge.read_results(stored(shown), "01_test")
    assert (found.profile, found.data) == ("laptop", [{"name": "toy", "origin": "mirror"}])
    purity, same = found.recorded
    assert (
        purity.value == pytest.approx(0.92)
        and purity.spread == pytest.approx(0.02)
        and purity.seeds == 3
    )
    assert purity.text() == "0.92 ± 0.02 share (3 seeds)"
    assert same.value is True and same.spread is None and same.text() == "yes"
    assert found.glued == {"count": (25, 0.25), "seconds": (1.5, None), "name": ("romeo", None)}
    assert found.keys == ["purity", "same-value", "count", "seconds", "name"]
    assert judge.check_chapter(declare.load_claims(), found) == []


@pytest.mark.parametrize("value", [math.nan, math.inf, [1.0, math.nan]])
def test_a_value_that_is_no_number_is_stored_as_valid_json_and_not_reproduced(shown, value):
    notebook.open_chapter("01_test", "laptop", Source())
    notebook.record("purity", value)
    assert "NaN" not in nbformat.writes(stored(shown)) and "Infinity" not in nbformat.writes(
        stored(shown)
    )
    found = judge.read_results(stored(shown), "01_test").recorded[0]
    assert judge.verdict_of(declare.load_claims()["purity"], found) == "not reproduced"


@pytest.mark.parametrize(
    "value", [torch.tensor(0.9), np.float32(0.9), torch.tensor([0.9, 0.9]), [torch.tensor(0.9)] * 2]
)
def test_numpy_and_torch_values_are_taken(shown, value):
    notebook.open_chapter("01_test", "laptop", Source())
    notebook.record("purity", value)
    assert judge.read_results(stored(shown)).recorded[0].value == pytest.approx(0.9)


def test_the_box_is_generated_from_the_claim(shown):
    notebook.open_chapter("01_test", "laptop", Source())
    notebook.record("purity", [0.9, 0.92, 0.94])
    box = shown[1][0]
    words = (
        "Neighbours share a class.",
        "0.5, Test (2026), section 1",
        "at least 0.8",
        "a third above the base rate",
        "exceeded",
    )
    for text in words:
        assert text in box["text/html"] and text in box["text/plain"]
    assert (
        'id="claim-purity"' in box["text/html"]
        and 'class="claim-box claim-exceeded"' in box["text/html"]
    )
    assert "style=" not in box["text/html"]
    notebook.record("same-value", True)
    assert "Expected: yes: they are the same formula" in shown[3][0]["text/plain"]


@pytest.mark.parametrize(
    "value, text",
    [
        (25671, "25,671"),
        (25671.4, "25,671"),
        (4.163e-4, "0.0004163"),
        (0.123456, "0.1235"),
        (1.0, "1"),
        (math.nan, "nan"),
        (False, "no"),
    ],
)
def test_numbers_are_written_for_readers(value, text):
    assert recorded(value, spread=None).text() == f"{text} (3 seeds)"


def test_text_of_a_claim_is_escaped():
    box = draw.claim_box(claim(says="a < b & <b>c</b>"), recorded(1.0))
    assert "a &lt; b &amp; &lt;b&gt;c" in box["text/html"]


def test_a_smoke_run_is_marked_as_no_result(shown):
    notebook.open_chapter("01_test", "smoke", Source("sample"))
    notebook.record("purity", 0.99)
    assert "smoke run: not a result" in shown[0][0]["text/plain"]
    assert (
        "smoke run: not a result" in shown[1][0]["text/html"]
        and "not attempted" in shown[1][0]["text/html"]
    )


def test_wrong_use_is_refused(shown, tmp_path):
    with pytest.raises(ClaimError, match="no chapter is open"):
        notebook.record("purity", 1)
    with pytest.raises(ClaimError, match="name is '02_none'"):
        notebook.open_chapter("02_none", "laptop")
    with pytest.raises(ClaimError, match="profile is 'big'"):
        notebook.open_chapter("01_test", "big")
    notebook.open_chapter("01_test", "laptop")
    notebook.record("purity", 1)
    notebook.glue("count", 1)
    for call, message in [
        (lambda: notebook.record("purity", 1), "'purity' is recorded twice"),
        (lambda: notebook.glue("count", 2), "'count' is recorded twice"),
        (lambda: notebook.glue("purity", 2), "is the id of a claim"),
        (lambda: notebook.glue("a b", 2), "key is 'a b'"),
        (lambda: notebook.glue("list", [1]), "value of 'list'"),
        (lambda: notebook.glue("nan", math.nan), "value of 'nan'"),
        (
            lambda: notebook.record("purities", 1),
            "claim_id is 'purities', wants one of .*purity, same-value",
        ),
        (lambda: notebook.record("same-value", "text"), "value of 'same-value'"),
        (lambda: notebook.record("same-value", []), "value of 'same-value'"),
        (lambda: notebook.record("same-value", [[1.0]]), "value of 'same-value'"),
    ]:
        with pytest.raises(ClaimError, match=message):
            call()
    notebook.record("same-value", 1)  # a refused call takes no key


def test_another_chapters_claim_is_refused(shown, tmp_path):
    (tmp_path / "notebooks" / "02_other.ipynb").write_text(
        (tmp_path / "notebooks" / "01_test.ipynb").read_text()
    )
    notebook.open_chapter("02_other", "laptop")
    with pytest.raises(ClaimError, match="belongs to chapter 01_test"):
        notebook.record("purity", 1)


def test_a_reader_may_run_the_same_cell_again_but_not_record_in_two(shown, monkeypatch):
    notebook.open_chapter("01_test", "laptop", Source())
    monkeypatch.setattr(notebook, "_cell_id", lambda: "cell-1")
    notebook.record("purity", 0.9)
    notebook.record("purity", 0.8)
    monkeypatch.setattr(notebook, "_cell_id", lambda: "cell-2")
    with pytest.raises(ClaimError, match="recorded twice"):
        notebook.record("purity", 0.9)


def test_the_glued_output_is_the_one_myst_nb_reads(shown):
    from myst_nb.core.variables import format_plain_text
    from myst_nb.ext.glue import extract_glue_data_cell

    notebook.open_chapter("01_test", "laptop", Source())
    notebook.record("purity", [0.9, 0.92])
    notebook.glue("name", "romeo")
    cell = stored(shown).cells[0]
    found = {key: output["data"]["text/plain"] for key, output in extract_glue_data_cell(cell)}
    assert (
        format_plain_text(found["purity"], ".3f") == "0.910"
        and format_plain_text(found["name"], "s") == "romeo"
    )
    assert len(cell.outputs) == 2  # what is glued is not shown beside the box


def test_the_table_and_boxes_are_drawn_anew_when_a_claim_is_reworded(shown, tmp_path):
    notebook.open_chapter("01_test", "laptop", Source())
    notebook.record("purity", 0.9)
    notebook.record("same-value", 1)
    notebook.claims_table()
    kept = stored(shown)
    assert not draw.redraw(kept, declare.load_claims())
    path = tmp_path / "book" / "claims.yml"
    path.write_text(
        path.read_text()
        .replace("share a class", "look alike")
        .replace("at_least: 0.8", "at_least: 0.95")
    )
    assert draw.redraw(kept, declare.load_claims())
    box, table = (kept.cells[0].outputs[n]["data"] for n in (1, -1))
    for text in ("look alike", "direction only", "at least 0.95"):
        assert all(text in drawn[kind] for drawn in (box, table) for kind in drawn)
    assert not draw.redraw(kept, declare.load_claims())


def test_outside_the_book_the_error_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(declare, "__file__", str(tmp_path / "a" / "b" / "c.py"))
    with pytest.raises(ClaimError, match="not in the book's tree"):
        declare.find_root(tmp_path)
