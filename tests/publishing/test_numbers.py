"""Numbers in prose: which may be typed, and which are found."""

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from jepa_utils.claims.declare import Claim
from jepa_utils.publishing.numbers import number_problems, page_number_problems, typed_numbers


@pytest.mark.parametrize(
    "text, found",
    [
        ("The score is 0.999.", ["0.999"]),
        ("So 12.5 % and 40%, or 3 percent.", ["12.5 %", "40%", "3 percent"]),
        ("It falls by 1,262.5 to 4.163e-4", ["1,262.5", "4.163e-4"]),
        ("## A heading with 0.5", ["0.5"]),
        ("- an item, 0.25\n- another, 0.75", ["0.25", "0.75"]),
        ("| 0.5 | 0.25 |", ["0.5", "0.25"]),
        (":::{note}\n:class: x0.5\nInside it is 0.5.\n:::", ["0.5"]),
        ("Here 0.3. Others report 0.5 {cite:p}`boney2026lejepa`. Here 0.4.", ["0.3", "0.4"]),
        ("{cite:t}`x` has\n0.5.\n\nWe have 0.6.", ["0.6"]),
        ("- {cite:t}`x`: 0.5\n- ours: 0.6", ["0.6"]),
        ("The source says 0.5. We have 0.6.", ["0.6"]),
        ("It is 0.5, and 0.6 (of cosines). <!-- typed: 0.5, by theory -->", ["0.6"]),
        ("5 % of 5.0 <!-- typed: 5 %, by law -->", ["5.0"]),
    ],
)
def test_a_typed_number_is_found(text, found):
    assert typed_numbers(text, sources=["the source"]) == found


@pytest.mark.parametrize(
    "text",
    [
        "It is {glue:text}`purity:.2f`, or {glue:text}`share:.1%` of it.",
        "It is $R^2 = 0.9$, `0.9`, ``0.9 ` ``.\n\n$$\n0.9\n$$\n\n\\begin{align}0.9\\end{align}",
        "```python\nx = 0.9\n```\n\n```{math}\n0.9\n```\n\n~~~\n0.9\n~~~",
        "```{figure} a.png\n:width: 50%\n:scale: 0.5\n```",
        "<!-- it was 0.9 --> <svg stroke-width='1.6'></svg>",
        "In 2026, chapter 3, 1,000 rows of CIFAR-10, 50 dimensions; torch 2.13.0, arXiv 2512.10942.",
        "[here](https://example.org/0.9) and https://example.org/0.9",
        'The source reports "0.67 for a healthy one".',
        "**[text]** It prints 0.852.",
        "It is 1.06 <!-- typed: 1.06, the mean of genuine bells -->",
    ],
)
def test_glue_code_formulas_citations_and_counts_are_none(text):
    assert typed_numbers(text, sources=["the source"]) == []


def claim(**values) -> dict[str, Claim]:
    row = dict(id="a", kind="finding", chapter="01_test", says="s", why="w", control="c")
    return {"a": Claim(**row | dict(profile="laptop") | values)}


NOTEBOOK = [
    new_markdown_cell("# T\n\n**Source.** {cite:p}`x`, called *the notes* below."),
    new_code_cell("%matplotlib inline\nweight = 0.01\nshare, n = 0.15, 7"),
]


@pytest.mark.parametrize(
    "text, found",
    [
        ("A weight of 0.01 hides 15 %.", []),  # settings
        ("The notes have 0.9.", []),
        ("The bound is 0.25, reported 67 %.", []),  # the claim's
        ("It is 0.015, 7.0 and 16 %.", ["0.015", "7.0", "16 %"]),
        ("The source has 0.9.", ["0.9"]),  # this chapter calls its own otherwise
    ],
)
def test_settings_and_what_claims_expect_may_stand_in_a_chapter(text, found):
    notebook = new_notebook(cells=[*NOTEBOOK, new_markdown_cell(text)])
    claims = claim(expect={"at_least": 0.25}, reported=0.67)
    problems = number_problems(notebook, "01_test", claims)
    assert [p.split(" is typed")[0] for p in problems] == [
        f"01_test: cell 3: the number {number}" for number in found
    ]


def test_what_claims_of_another_chapter_expect_may_not(tmp_path):
    text, claims = "It is 0.25.", claim(expect={"within": 0.1, "of": 0.25})
    notebook = new_notebook(cells=[new_markdown_cell(text)])
    assert number_problems(notebook, "01_test", claims) == []
    assert len(number_problems(notebook, "02_other", claims)) == 1
    (tmp_path / "page.md").write_text(f"{text} And 0.26. A paragraph\n\n0.5 here.{{cite:p}}`a`")
    (problem,) = page_number_problems(tmp_path / "page.md", claims)
    assert problem.startswith("page: the number 0.26 is typed: make it a {glue} reference")
