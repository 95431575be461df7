"""The jepa command: it calls the right thing, says what is wrong, and its exit status tells."""

import hashlib
import shutil
import subprocess
from types import SimpleNamespace

import nbformat
import pytest
from datasets import Dataset
from synthetic import GOOD_CELLS, make_tree
from typer.testing import CliRunner

from jepa_utils.data import load
from jepa_utils.publishing import chapters, cli


@pytest.fixture
def book(tmp_path, monkeypatch):
    """A small book with a chapter that was not run."""
    make_tree(tmp_path, *GOOD_CELLS)
    (tmp_path / "_config.yml").write_text(
        "title: Test\nlaunch_buttons: {}\nhtml:\n  home_page_in_navbar: true\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JEPA_REPOSITORY_URL", raising=False)
    return tmp_path


@pytest.fixture
def runs(monkeypatch):
    """The chapters that were to be run."""
    calls = []

    def run_chapter(name, profile="laptop", seed=None, output=None, root=None, **options):
        calls.append((chapters.chapter_path(name, root).stem, profile, seed, options))
        return output or chapters.chapter_path(name, root)

    monkeypatch.setattr(chapters, "run_chapter", run_chapter)
    return calls


@pytest.fixture
def builds(monkeypatch):
    """The folders that Jupyter Book was started in; its exit status is 0."""
    found = []

    def run(command, cwd):
        assert {"-n", "-W", "--keep-going"} <= set(command)
        found.append(cwd)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", run)
    return found


def jepa(*arguments):
    return CliRunner().invoke(cli.app, arguments)


NOTHING = {"settings": {}, "allow_sample": False}


def test_book_runs_stale_chapters_builds_and_says_where_the_page_is(book, runs, builds):
    result = jepa("book")
    assert result.exit_code == 0 and builds == [book]
    assert runs == [("01_test", "laptop", None, NOTHING)]
    assert (
        "_build/html/index.html" in result.output
        and (book / "_build/html/index.html").as_uri() in result.output
    )


def test_book_runs_nothing_that_is_not_stale(book, runs, builds, monkeypatch):
    monkeypatch.setattr(chapters, "stale_chapters", lambda root=None: {})
    assert jepa("book").exit_code == 0 and runs == [] and builds == [book]


def test_book_without_running_fails_on_a_stale_chapter(book, runs, builds):
    result = jepa("book", "--no-run")
    assert (
        result.exit_code == 1 and "stale: 01_test" in result.output and runs == [] and builds == []
    )


def test_book_fails_when_the_build_fails(book, runs, monkeypatch):
    monkeypatch.setattr(
        subprocess, "run", lambda command, cwd: subprocess.CompletedProcess(command, 1)
    )
    result = jepa("book")
    assert (
        result.exit_code == 1
        and "the build failed" in result.output
        and "The book is at" not in result.output
    )


def test_run_passes_profile_and_seed_and_keeps_smoke_apart(book, runs):
    assert (
        "stored in notebooks/01_test.ipynb"
        in jepa("run", "1", "--profile", "gpu", "--seed", "3").output
    )
    assert (
        "stored in _build/smoke/01_test.ipynb"
        in jepa("run", "01_test", "--profile", "smoke").output
    )
    assert runs == [("01_test", "gpu", 3, NOTHING), ("01_test", "smoke", None, NOTHING)]


def test_run_passes_settings_place_and_leave_to_use_samples(book, runs, tmp_path_factory):
    place = tmp_path_factory.mktemp("mine") / "mine.ipynb"
    shutil.copy(book / "notebooks" / "01_test.ipynb", place)
    arguments = ("--set", "weight=0.1", "--set", "name=a=b", "--allow-sample", "--output", place)
    result = jepa("run", "01", *map(str, arguments))
    assert result.exit_code == 0 and f"stored in {place}\n" in result.output
    settings = {"weight": "0.1", "name": "a=b"}
    assert runs == [("01_test", "laptop", None, {"settings": settings, "allow_sample": True})]


@pytest.mark.parametrize("wrong", ["weight", "=3"])
def test_a_setting_without_name_or_value_is_refused(book, runs, wrong):
    result = jepa("run", "01", "--set", wrong)
    assert result.exit_code == 1 and runs == []
    assert f"--set wants NAME=VALUE, such as weight=0.1, got {wrong}\n" in result.output


def test_a_run_says_what_moved_and_how_to_take_it_back(ran, tmp_path, monkeypatch):
    root = shutil.copytree(ran, tmp_path / "book")
    path = root / "notebooks" / "01_test.ipynb"
    monkeypatch.chdir(root)

    def run_chapter(name, *_, output=None, **__):
        """Stores other values of two claims and two glued numbers."""
        values = {"purity": [0.6, 0.6, 0.6], "same-value": [True]}
        glued = {"count": 100, "seconds": 99}
        notebook = nbformat.read(path, as_version=4)
        for cell in notebook.cells:
            for shown in cell.get("outputs", ()):
                note = shown.get("metadata", {}).get("jepa", {})
                if note.get("claim") in values:
                    note["values"] = values[note["claim"]]
                if note.get("glue") in glued:
                    note["value"] = glued[note["glue"]]
        chapters.write_notebook(notebook, path)
        return path

    monkeypatch.setattr(chapters, "run_chapter", run_chapter)
    lines = jepa("run", "1").output.splitlines()
    assert lines == [
        "stored in notebooks/01_test.ipynb",
        "  moved: 01_test: claim 'purity' is reproduced as stored, direction only when run again",
        "  moved: 01_test: number 'count' is 25 as stored, 100 when run again (tolerance 2 %)",
        "to take it back: git checkout -- notebooks/01_test.ipynb",
    ]
    assert "no verdict is another, and no glued number moved" in jepa("run", "1").output


def test_the_first_run_has_nothing_to_be_compared_with(book, runs):
    assert jepa("run", "1").output.splitlines() == [
        "stored in notebooks/01_test.ipynb",
        "there was no run before, to compare it with",
    ]


@pytest.mark.parametrize(
    "command, target, line",
    [
        (("run", "1"), "run_chapter", "stopped; nothing was stored, and what was stored before is"),
        (("verify",), "verify", "stopped; nothing was stored, and what was stored before is"),
        (("book",), "run_chapter", "stopped; what was stored before is as it was"),
    ],
)
def test_ctrl_c_is_one_clear_line(book, monkeypatch, command, target, line):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(chapters, target, interrupt)
    result = jepa(*command)
    assert result.exit_code == 130 and f"\njepa: {line}" in result.output
    assert "Traceback" not in result.output


def test_run_names_the_chapters_when_it_is_given_another(book):
    result = jepa("run", "09")
    assert result.exit_code == 1 and "chapter is '09', wants one of: 01_test" in result.output


def test_stale_lists_chapters_and_tells_by_its_status(book, monkeypatch):
    result = jepa("stale")
    assert (result.exit_code, result.output) == (1, "01_test: never run\n")
    monkeypatch.setattr(chapters, "stale_chapters", lambda: {})
    assert (jepa("stale").exit_code, jepa("stale").output) == (0, "")


@pytest.mark.parametrize("problems, status", [([], 0), (["a claim"], 1)])
def test_verify_tells_by_its_status(book, monkeypatch, problems, status):
    calls = []
    monkeypatch.setattr(
        chapters, "verify", lambda names, jobs: calls.append((names, jobs)) or problems
    )
    assert jepa("verify", "01_test", "--jobs", "2").exit_code == status
    assert calls == [(["01_test"], 2)]


@pytest.mark.parametrize("held, status", [(True, 0), (False, 1)])
def test_bench_writes_below_the_root_and_fails_on_a_missed_bound(book, monkeypatch, held, status):
    from jepa_utils.publishing import bench

    outputs = []
    monkeypatch.setattr(bench, "run_benchmark", lambda output: outputs.append(output) or held)
    assert jepa("bench").exit_code == status and outputs == [book / "results" / "bench.json"]


def test_outside_the_book_the_error_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("jepa_utils.claims.declare.__file__", str(tmp_path / "a" / "b" / "c.py"))
    result = jepa("stale")
    assert result.exit_code == 1 and "not in the book's tree" in result.output


def test_data_commands(monkeypatch):
    found = {"mirror": "ok: train", "hub": "missing: no file"}
    monkeypatch.setattr(load, "check_data", lambda name: found)
    monkeypatch.setattr(
        load, "load_data", lambda name, source: SimpleNamespace(provenance=f"{name} from {source}")
    )
    listed = jepa("data", "list").output
    assert "cifar10" in listed and "mirror" in listed
    assert jepa("data", "fetch", "cifar10").output == "cifar10 from hub\n"
    assert jepa("data", "check", "cifar10").exit_code == 0
    found["mirror"] = "damaged: a.parquet"
    result = jepa("data", "check", "cifar10")
    assert result.exit_code == 1 and "a.parquet" in result.output


def test_data_commands_on_a_data_set_of_the_hub(tmp_path, monkeypatch):
    name, parquet = (
        "cornell-movie-review-data/rotten_tomatoes/test.parquet",
        tmp_path / "test.parquet",
    )
    Dataset.from_dict({"text": ["good"], "label": [1]}).to_parquet(parquet)
    (tmp_path / "mirror" / name).parent.mkdir(parents=True)
    parquet.rename(tmp_path / "mirror" / name)
    digest = hashlib.sha256((tmp_path / "mirror" / name).read_bytes()).hexdigest()
    (tmp_path / "mirror" / "SHA256SUMS").write_text(f"{digest}  ./{name}\n")
    monkeypatch.setenv("JEPA_DATA_MIRROR", str(tmp_path / "mirror"))
    monkeypatch.setenv("JEPA_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(load, "HUB", "http://127.0.0.1:9")  # nobody listens
    monkeypatch.setenv("COLUMNS", "200")
    rows = {
        line.split()[1]: line for line in jepa("data", "list").output.splitlines() if "│" in line
    }
    assert "ok: test" in rows["rotten-tomatoes"] and "mirror" in rows["rotten-tomatoes"]
    assert "hub" in rows["wikitext-2"] and "without network the sample" in rows["wikitext-2"]
    assert "Flickr8k" in rows["flickr8k"] and "to be downloaded" in rows["flickr8k"]
    assert jepa("data", "check").exit_code == 0
    (tmp_path / "mirror" / name).write_bytes(b"changed")
    result = jepa("data", "check", "rotten-tomatoes")
    assert result.exit_code == 1 and "test.parquet is not what its checksum says" in result.output
    result = jepa("data", "fetch", "rotten-tomatoes")
    assert (
        result.exit_code == 1
        and "cannot be had from the hub" in result.output
        and "Traceback" not in result.output
    )


def test_unknown_data_is_an_error_without_a_traceback():
    result = jepa("data", "fetch", "no-such-data")
    assert (
        result.exit_code == 1
        and "no-such-data" in result.output
        and "Traceback" not in result.output
    )


@pytest.fixture
def trained(monkeypatch):
    """What the experiments were asked to do; none is done."""
    from jepa_utils.experiments import cifar10, photographs, run

    calls, data = {}, SimpleNamespace(provenance="some data")
    monkeypatch.setattr(
        run, "load_data", lambda name, source=None: calls.update({name: source}) or data
    )
    for module, name in ((cifar10, "pretrain_record"), (photographs, "photo_record")):
        monkeypatch.setattr(module, name, lambda *a, name=name, **k: calls.update({"does": (a, k)}))
    return calls


@pytest.mark.parametrize(
    "recipe, source, folder", [("tiny", "sample", "_build/tiny"), ("five_passes", None, "results")]
)
def test_train_hands_on_recipe_methods_seeds_and_places(book, trained, recipe, source, folder):
    from jepa_utils.experiments.cifar10 import VisionRecipe

    names = ("cifar10/I-JEPA", "cifar10/views")
    assert jepa("train", *names, "--recipe", recipe, "--seeds", "1,2").exit_code == 0
    (settings, _), options = trained["does"]
    assert settings == getattr(VisionRecipe, recipe)() and trained["cifar10"] == source
    assert options["methods"] == ["I-JEPA", "views"] and options["seeds"] == [1, 2]
    assert options["folder"] == book / folder and options["checkpoints"] == book / "checkpoints"
    assert (options["devices"], options["nodes"]) == (1, 1)


def test_train_takes_all_parts_and_the_largest_recipe_by_default(book, trained):
    from jepa_utils.experiments.photographs import PhotoRecipe

    result = jepa("train", "photographs", "--devices", "4", "--nodes", "2")
    assert result.exit_code == 0 and result.output.count("some data") == 2
    (settings, _, _), options = trained["does"]
    assert settings == PhotoRecipe.page() and {"flickr8k", "cifar10"} < set(trained)
    assert options["eyes"] == {
        "SIGReg": book / "results/eyes/page_eye.safetensors",
        "I-JEPA": book / "results/cifar10/five_passes_ijepa.safetensors",
    }
    assert options["folder"] == book / "results"
    assert "parts" not in options and options["seeds"] is None
    assert (options["devices"], options["nodes"]) == (4, 2)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("magic",), "experiment must be one of cifar10, captions, eyes, "),
        (("cifar10/magic", "--recipe", "tiny"), "methods must be some of I-JEPA"),
        (("captions/magic", "--recipe", "tiny"), "experiments must be some of scenes"),
        (("cifar10", "--recipe", "huge"), "recipe of cifar10 must be one of tiny, one_pass"),
        (("captions/scenes", "--recipe", "tiny"), "five_passes_ijepa.json is missing"),
        (("cifar10", "--seeds", "one"), "seeds must be whole numbers, such as 0,1,2, got 'one'"),
    ],
)
def test_train_names_what_is_wrong(book, arguments, message):
    result = jepa("train", *arguments)
    assert result.exit_code == 1 and message in result.output and "Traceback" not in result.output
