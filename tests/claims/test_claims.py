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
        kind="finding",
        chapter="01_test",
        source="s",
        says="x",
        why="w",
        control="c",
        profile="laptop",
        data=("toy",),
        expect=Expect(at_least=0.8),
    )
    if changes.get("kind") == "check":
        row["control"] = None
    return Claim(**{**row, **changes})


def recorded(*values, profile="laptop", data=REAL, id="a", **more) -> Recorded:
    """A value for each seed; of one value, three seeds that have it."""
    values = list(values) * (3 if len(values) == 1 else 1)
    return Recorded(id, values, profile, data, **{"control": [0.0] * 3} | more)


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
    assert [c.verdict for c in claims.values()] == ["reproduced", "passes"]


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"colour": "red"}, "unknown key colour"),
        (
            {"why": "absent"},
            "missing key why; known are chapter, compares, control, data, expect, id",
        ),
        ({"why": " "}, "why is ' '"),
        ({"chapter": "09_none"}, "chapter is '09_none', wants one of 01_test"),
        ({"profile": "cluster"}, "profile is 'cluster'"),
        ({"verdict": "fine"}, "verdict is 'fine'"),
        ({"kind": "rumour"}, "kind is 'rumour'"),
        ({"verdict": "exceeded"}, "wants one of a statement's: reproduced, direction only"),
        ({"kind": "finding", "verdict": "reproduced"}, "wants one of a finding's: supported"),
        ({"kind": "check"}, "a check has no control"),
        ({"kind": "check", "control": "absent"}, "a check compares no trained methods and has no"),
        ({"control": "absent"}, "missing key control: a statement names what has to miss"),
        ({"kind": "finding", "control": "absent"}, "missing key control: a finding names"),
        ({"source": "absent"}, "missing key source: a statement is somebody's"),
        ({"compares": True}, "missing key search: a comparison says how both sides were tuned"),
        ({"compares": "yes", "search": "s"}, "compares is 'yes'"),
        ({"data": "toy"}, "data is 'toy'"),
        ({"records": [""]}, "records.0 is ''"),
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


@pytest.mark.parametrize(
    "text, message",
    [
        ("- id: a\n  kind: check\n  id: b\n", "claims.yml, line 3: key 'id' stands twice"),
        ("- id: a\n  expect: {at_least: 1, at_least: 2}\n", "line 2: key 'at_least' stands twice"),
        ("- id: a\n  says: [open\n", "claims.yml, line 3: "),
        ("- id: a\n\tkind: check\n", "claims.yml, line 2: "),
        ("- id: &x a\n- *y\n", "claims.yml, line 2: found undefined alias"),
        ("a: 1\n", "claims.yml: wants a list of claims, got dict"),
    ],
)
def test_what_is_no_list_in_yaml_is_refused_naming_file_and_line(tmp_path, text, message):
    with pytest.raises(ClaimError) as error:
        load(tmp_path, text)
    assert message in str(error.value)


# ------------------------------------------------------------------------------------------------------
# judging: the verdict


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
def test_verdicts_where_seeds_agree(expect, value, verdict):
    row = claim(kind="statement", expect=expect)
    assert judge.verdict_of(row, recorded(value)) == verdict
    words = {"reproduced": "supported", "direction only": "not supported"}
    found = claim(expect=expect)
    assert judge.verdict_of(found, recorded(value)) == words.get(verdict, "not supported")
    check = claim(kind="check", expect=Expect(**expect.model_dump() | {"direction": None}))
    passes = "passes" if verdict == "reproduced" else "fails"
    assert judge.verdict_of(check, recorded(value)) == passes


def test_the_interval_is_one_sided_by_the_t_distribution():
    # n = 3: t(0.95, 2) = 2.9200, spread 1, so 2.9200 / sqrt(3) = 1.6859
    assert judge.interval([1.0, 2.0, 3.0]) == pytest.approx((0.3141, 3.6859), abs=1e-4)
    # n = 5: t(0.95, 4) = 2.1318, spread sqrt(2.5), so 2.1318 * sqrt(0.5) = 1.5075
    assert judge.interval([1.0, 2, 3, 4, 5]) == pytest.approx((1.4925, 4.5075), abs=1e-4)


@pytest.mark.parametrize(
    "expect, values, verdict",
    [
        (Expect(at_least=0.3), [1, 2, 3], "supported"),  # lower limit 0.314
        (Expect(at_least=0.32), [1, 2, 3], "inconclusive"),
        (Expect(at_least=3.68), [1, 2, 3], "inconclusive"),
        (Expect(at_least=3.69), [1, 2, 3], "not supported"),  # upper limit 3.686
        (Expect(at_most=3.69), [1, 2, 3], "supported"),
        (Expect(at_most=3.68), [1, 2, 3], "inconclusive"),
        (Expect(at_most=0.31), [1, 2, 3], "not supported"),
        (Expect(within=0.9, of=2.0), [1, 2, 3], "supported"),  # 0.2 to 3.8
        (Expect(within=0.8, of=2.0), [1, 2, 3], "inconclusive"),  # 0.4 to 3.6
        (Expect(within=0.1, of=2.0), [1, 2, 3], "inconclusive"),  # the band within the interval
        (Expect(within=0.1, of=5.0), [1, 2, 3], "not supported"),
    ],
)
def test_the_interval_is_judged_and_not_the_mean(expect, values, verdict):
    assert judge.verdict_of(claim(expect=expect), recorded(*values)) == verdict


def test_a_weaker_bound_that_the_interval_straddles_gives_no_direction():
    row = claim(kind="statement", expect=Expect(at_least=5, direction=0.3))
    assert judge.verdict_of(row, recorded(1, 2, 3)) == "direction only"
    row = claim(kind="statement", expect=Expect(at_least=5, direction=0.5))
    assert judge.verdict_of(row, recorded(1, 2, 3)) == "not reproduced"


@pytest.mark.parametrize("values", [[0.9], [0.9, 0.9], [0.1, 0.1]])
def test_fewer_than_three_seeds_are_inconclusive(values):
    few = Recorded("a", values, "laptop", REAL, control=[0.0])
    assert judge.judge(claim(), few) == ("inconclusive", "fewer than 3 seeds")
    assert judge.verdict_of(claim(kind="check"), few) != "inconclusive"


BUDGET = {"ours": [10, 100, 1.0], "theirs": [10, 100, 2.0]}


@pytest.mark.parametrize(
    "half, budget, verdict",
    [
        ([0.9] * 3, BUDGET, "supported"),
        (None, BUDGET, "inconclusive"),
        ([0.9] * 3, None, "inconclusive"),
        ([0.1] * 3, BUDGET, "depends on budget"),
        ([0.1, 0.8, 1.5], BUDGET, "depends on budget"),  # open at half
        ([0.9, 0.9], BUDGET, "inconclusive"),  # half has to be as strong as the whole
        ([0.1], BUDGET, "inconclusive"),
    ],
)
def test_a_comparison_needs_the_same_verdict_at_half_the_budget(half, budget, verdict):
    row = claim(compares=True, search="the same grid for both")
    assert judge.verdict_of(row, recorded(0.9, half=half, budget=budget)) == verdict
    straddles = recorded(0.1, 0.8, 1.5, half=half, budget=budget)
    assert judge.verdict_of(row, straddles) == "inconclusive"


# ------------------------------------------------------------------------------------------------------
# judging: the control


@pytest.mark.parametrize(
    "control, message",
    [
        ([0.1] * 3, None),
        ([0.79] * 3, None),
        ([0.79], None),
        (None, "its control (c) is not recorded"),
        ([0.8] * 3, "its control (c) does not miss the bound: 0.8 ± 0 (3 seeds), wants"),
        ([0.81], "its control (c) does not miss the bound: 0.81, wants at least 0.8 to fail"),
        ([0.1, 0.5, 0.9], "does not miss the bound"),  # one draw in three would pass
    ],
)
def test_a_control_that_does_not_clearly_miss_the_bound_breaks_the_build(control, message):
    found = recorded(0.9, control=control)
    problem = judge.control_problem(claim(), found)
    assert (problem is None) if message is None else (message in problem)
    wrong = judge.check_chapter({"a": claim()}, results(found))
    assert wrong == ([f"01_test: claim 'a': {problem}"] if problem else [])


def test_a_claim_that_is_not_attempted_needs_no_control():
    assert judge.control_problem(claim(), recorded(0.9, control=None, data=[])) is None


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
def test_without_all_of_its_real_data_a_claim_is_not_attempted(data):
    both = claim(data=("toy", "b"))
    assert judge.verdict_of(both, recorded(1.0, data=data)) == "not attempted"
    assert judge.verdict_of(claim(data=()), recorded(1.0, data=data)) == "supported"
    assert judge.verdict_of(both, recorded(1.0, data=[*REAL, {"name": "b", "origin": "hub"}])) == (
        "supported"
    )


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
        (results(recorded(0.9, data=[])), "not attempted, declared supported"),
    ]:
        assert [message in problem for problem in judge.check_chapter(claims, wrong)] == [True]
    assert judge.check_chapter({"a": claim(verdict="not attempted")}, results()) == []


@pytest.mark.parametrize(
    "row, more, message",
    [
        (claim(), dict(values=[0.9, 0.9]), "inconclusive (fewer than 3 seeds), declared supported"),
        (claim(), dict(values=[0.7, 0.8, 0.95]), "inconclusive (the bound lies within the 95 %"),
        (claim(), dict(control=[0.9]), "its control (c) does not miss the bound"),
        (claim(), dict(control=None), "its control (c) is not recorded"),
        (claim(compares=True, search="s"), dict(half=None), "compared at one budget only"),
        (claim(compares=True, search="s"), dict(budget=None), "compared at one budget only"),
        (
            claim(compares=True, search="s"),
            dict(half=[0.1] * 3),
            "depends on budget (not supported at half, supported at the whole), declared supported",
        ),
    ],
)
def test_the_build_breaks_where_a_row_declares_more_than_the_rules_allow(row, more, message):
    good = dict(values=[0.9] * 3, control=[0.1], half=[0.9] * 3, budget=BUDGET)
    for given, problems in ((good, 0), (good | more, 1)):
        found = Recorded("a", profile="laptop", data=REAL, **given)
        wrong = judge.check_chapter({"a": row}, results(found))
        assert len(wrong) == problems and all(message in problem for problem in wrong)


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
    assert "supported as stored, not supported when run again" in verdicts[0]


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
    if claim.verdict in ("reproduced", "supported", "passes"):
        return met, [*past, *missed, math.nan]
    if claim.verdict == "direction only":
        return between, [*met, *missed, math.nan]
    if claim.verdict in ("not reproduced", "not supported", "fails"):
        return missed, met
    return [], [*met, *missed]


def failing(claim: Claim) -> Claim:
    """The same claim, declared to fail: its right values are a control's."""
    verdict = "not reproduced" if claim.kind == "statement" else "not supported"
    return claim.model_copy(update={"verdict": verdict})


def check_can_fail(claim: Claim) -> None:
    data = [{"name": name, "origin": "mirror"} for name in claim.data]
    control = None if claim.control is None else [values_for(failing(claim))[0][-1]]

    def problems(value):
        given = dict(control=control, half=[value] * 3, budget=BUDGET)
        # A claim declared to be out of reach has no wrong value under a lower profile, so it is
        # tried under its own.
        found = recorded(value, profile=claim.profile, data=data, id=claim.id, **given)
        return judge.check_chapter(
            {claim.id: claim}, ChapterResults(claim.chapter, "gpu", data, [found], {}, [])
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
    "kind, verdict",
    [(kind, verdict) for kind, many in declare.VERDICTS.items() for verdict in many],
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
def test_every_kind_of_claim_can_fail(expect, kind, verdict):
    if kind == "check":
        expect = Expect(**expect.model_dump() | {"direction": None})
    check_can_fail(claim(kind=kind, expect=expect, verdict=verdict))


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
    given = dict(control=[0.1, 0.3], half=[0.8] * 3, budget={"ours": np.array([3, 6, 0.5])})
    notebook.record("purity", [0.9, 0.92, 0.94], unit="share", **given)
    notebook.record("same-value", True)
    notebook.glue("count", np.int64(25))
    notebook.glue("seconds", 1.5, rtol=None)
    notebook.glue("name", "romeo")
    found = judge.read_results(stored(shown), "01_test")
    assert (found.profile, found.data) == ("laptop", [{"name": "toy", "origin": "mirror"}])
    purity, same = found.recorded
    assert purity.values == [0.9, 0.92, 0.94] and purity.value == pytest.approx(0.92)
    assert (purity.control, purity.half, purity.budget) == (
        [0.1, 0.3],
        [0.8] * 3,
        {"ours": [3, 6, 0.5]},
    )
    assert purity.text() == "0.920 ± 0.020 share (3 seeds)"
    assert purity.data == [{"name": "toy", "origin": "mirror"}] and same.data == []
    assert same.value is True and same.control is None and same.text() == "yes"
    assert found.glued == {"count": (25, 0.02), "seconds": (1.5, None), "name": ("romeo", None)}
    assert found.keys == ["purity", "same-value", "count", "seconds", "name"]
    assert judge.check_chapter(declare.load_claims(), found) == []


@pytest.mark.parametrize("value", [math.nan, math.inf, [1.0, math.nan]])
def test_a_value_that_is_no_number_is_stored_as_valid_json_and_not_reproduced(shown, value):
    notebook.open_chapter("01_test", "laptop", Source())
    notebook.record("purity", value, control=value)
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
    notebook.record("purity", value, control=value)
    found = judge.read_results(stored(shown)).recorded[0]
    assert found.value == pytest.approx(0.9) and found.control == found.values


def test_the_row_is_generated_from_the_claim(shown):
    notebook.open_chapter("01_test", "laptop", Source())
    given = dict(control=[0.1, 0.2], half=[0.85, 0.87, 0.86], budget={"ours": [1200, 4800, 2.5]})
    notebook.record("purity", [0.9, 0.92, 0.94], **given)
    row = shown[1][0]
    words = (
        "A source's statement",
        "Neighbours share a class.",
        "Test (2026), section 1",
        "0.5",
        "at least 0.8",
        "a third above the base rate",
        "0.920 ± 0.020 (3 seeds)",
        "shuffled vectors",
        "0.150 ± 0.071 (2 seeds)",
        "0.860 ± 0.010 (3 seeds)",
        "ours 1,200 steps, 4,800 samples, 2.5 s",
        "this run, profile laptop, data toy (mirror)",
        "reproduced",
    )
    for text in words:
        assert text in row["text/plain"] and text in row["text/html"].replace("&#x27;", "'")
    assert "(3 seeds), 95 % limits 0.886 and 0.954" in row["text/plain"]
    assert "(3 seeds) [0.886, 0.954]" in row["text/html"]
    assert '<tr id="claim-purity" class="claim-reproduced">' in row["text/html"]
    assert '<a href="../book/scoreboard.html#row-purity">' in row["text/html"]
    assert "style=" not in row["text/html"]
    notebook.record("same-value", True)
    line = shown[3][0]
    assert line["text/plain"] == "Check [passes]: The two formulas agree. yes, wants yes"
    assert '<li id="claim-same-value" class="claim-passes"' in line["text/html"]


@pytest.mark.parametrize("between", ["A word in between.", "## Another section"])
def test_claims_of_one_section_are_drawn_together_where_its_last_is(shown, between):
    notebook.open_chapter("01_test", "laptop", Source())
    notebook.record("same-value", True)
    notebook.record("purity", [0.9] * 3, control=0.1)
    kept = stored(shown)
    first, second = copy.deepcopy(kept.cells[0]), kept.cells[0]
    first.outputs, second.outputs = first.outputs[:-2], second.outputs[-2:]  # a claim in each
    kept.cells = [first, nbformat.v4.new_markdown_cell(between), second]
    draw.redraw(kept, declare.load_claims())
    drawn = [
        output["data"]
        for cell in (first, second)
        for output in cell.outputs
        if "claim" in draw._note(output)
    ]
    assert len(drawn) == 2
    if between.startswith("#"):
        assert "claim-same-value" in drawn[0]["text/html"]
        assert "claim-same-value" not in drawn[1]["text/html"]
    else:
        assert drawn[0]["text/plain"] == "drawn below"
        html = drawn[1]["text/html"]
        assert html.index('"claim-purity"') < html.index('"claim-same-value"')  # checks below
    assert not draw.redraw(kept, declare.load_claims())


def test_a_box_names_the_record_that_its_number_comes_from_and_only_its_own_data():
    row = claim(records=("toy/long", "toy/short"), search="a grid of three rates")
    text = draw.claim_box(row, recorded(0.9))["text/plain"]
    assert "Made with: the record toy/long and toy/short, profile laptop, data toy (mirror)" in text
    assert "Chosen by: a grid of three rates" in text
    text = draw.claim_box(claim(data=()), recorded(0.9, data=[]))["text/plain"]
    assert "Made with: this run, profile laptop, data generated" in text


def test_a_box_says_why_it_gives_no_verdict():
    text = draw.claim_box(claim(), recorded(0.7, 0.8, 0.9))["text/plain"]
    assert "[inconclusive]" in text and "the bound lies within the 95 % limits 0.6314 and" in text


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
    assert Recorded("a", [value], "laptop").text() == text


def test_text_of_a_claim_is_escaped():
    box = draw.claim_box(claim(says="a < b & <b>c</b>"), recorded(1.0))
    assert "a &lt; b &amp; &lt;b&gt;c" in box["text/html"]


def test_a_smoke_run_is_marked_as_no_result(shown):
    notebook.open_chapter("01_test", "smoke", Source("sample"))
    notebook.record("purity", 0.99, control=0.1)
    assert "smoke run: not a result" in shown[0][0]["text/plain"]
    assert (
        "smoke run: not a result" in shown[1][0]["text/html"]
        and "not attempted" in shown[1][0]["text/html"]
    )


def test_wrong_use_is_refused(shown, tmp_path):
    with pytest.raises(ClaimError, match="no chapter is open"):
        notebook.record("purity", 1, control=0)
    with pytest.raises(ClaimError, match="name is '02_none'"):
        notebook.open_chapter("02_none", "laptop")
    with pytest.raises(ClaimError, match="profile is 'big'"):
        notebook.open_chapter("01_test", "big")
    notebook.open_chapter("01_test", "laptop", Source())
    notebook.record("purity", 1, control=0)
    notebook.glue("count", 1)
    budget = {"ours": [1, 2]}
    for call, message in [
        (lambda: notebook.record("purity", 1, control=0), "'purity' is recorded twice"),
        (lambda: notebook.record("purity", 1), "'purity' wants control, of 'shuffled vectors'"),
        (lambda: notebook.record("purity", None, control=0), "value of 'purity' is None, wants"),
        (lambda: notebook.record("purity", 1, control="c"), "control of 'purity' is 'c', wants a"),
        (lambda: notebook.record("purity", 1, control=0, half=[]), r"half of 'purity' is \[\]"),
        (
            lambda: notebook.record("purity", 1, control=0, budget=budget),
            r"budget of 'ours' is \[1, 2\], wants steps, samples, seconds",
        ),
        (lambda: notebook.record("same-value", 1, control=0), "'same-value' takes no control"),
        (lambda: notebook.record("same-value", None), "value of 'same-value' is None"),
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
    notebook.open_chapter("01_test", "laptop")
    with pytest.raises(ClaimError, match=r"'purity' is made of data not opened here: \['toy'\]"):
        notebook.record("purity", 1, control=0)


def test_another_chapters_claim_is_refused(shown, tmp_path):
    (tmp_path / "notebooks" / "02_other.ipynb").write_text(
        (tmp_path / "notebooks" / "01_test.ipynb").read_text()
    )
    notebook.open_chapter("02_other", "laptop")
    with pytest.raises(ClaimError, match="belongs to chapter 01_test"):
        notebook.record("purity", 1, control=0)


def test_a_reader_may_run_the_same_cell_again_but_not_record_in_two(shown, monkeypatch):
    notebook.open_chapter("01_test", "laptop", Source())
    monkeypatch.setattr(notebook, "_cell_id", lambda: "cell-1")
    notebook.record("purity", 0.9, control=0.1)
    notebook.record("purity", 0.8, control=0.1)
    monkeypatch.setattr(notebook, "_cell_id", lambda: "cell-2")
    with pytest.raises(ClaimError, match="recorded twice"):
        notebook.record("purity", 0.9, control=0.1)


def test_the_glued_output_is_the_one_myst_nb_reads(shown):
    from myst_nb.core.variables import format_plain_text
    from myst_nb.ext.glue import extract_glue_data_cell

    notebook.open_chapter("01_test", "laptop", Source())
    notebook.record("purity", [0.9, 0.92], control=0.1)
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
    notebook.record("purity", [0.9] * 3, control=0.1)
    notebook.record("same-value", 1)
    notebook.claims_table()
    kept = stored(shown)
    draw.redraw(kept, declare.load_claims())
    assert not draw.redraw(kept, declare.load_claims())
    path = tmp_path / "book" / "claims.yml"
    path.write_text(
        path.read_text()
        .replace("share a class", "look alike")
        .replace("at_least: 0.8", "at_least: 0.95")
    )
    assert draw.redraw(kept, declare.load_claims())
    box, table = (kept.cells[0].outputs[n]["data"] for n in (3, -1))
    for text in ("look alike", "direction only", "at least 0.95"):
        assert all(text in drawn[kind] for drawn in (box, table) for kind in drawn)
    assert not draw.redraw(kept, declare.load_claims())


def test_outside_the_book_the_error_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(declare, "__file__", str(tmp_path / "a" / "b" / "c.py"))
    with pytest.raises(ClaimError, match="not in the book's tree"):
        declare.find_root(tmp_path)
