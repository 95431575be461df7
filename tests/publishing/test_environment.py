"""One lock for everyone: pip, conda, the Makefile and CI install the same packages."""

import os
import re
import shutil
import subprocess
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from jepa_utils.publishing import pdf


@pytest.fixture(scope="module")
def project(root):
    return tomllib.loads((root / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def lock(root) -> dict[str, Version]:
    pins = {}
    for line in (root / "requirements.lock").read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            name, version = re.fullmatch(
                r"([\w.-]+)==([\w.!]+)", line.strip()
            ).groups()  # nothing but exact, public versions
            pins[canonicalize_name(name)] = Version(version)
    return pins


def outside_the_lock(requirements: list[str], lock: dict[str, Version]) -> list[str]:
    """The requirements that the lock does not satisfy."""
    wanted = map(Requirement, requirements)
    return [
        str(r)
        for r in wanted
        if (v := lock.get(canonicalize_name(r.name))) is None or not r.specifier.contains(v)
    ]


def test_lock_satisfies_every_dependency(project, lock):
    extras = [r for group in project["optional-dependencies"].values() for r in group]
    assert outside_the_lock(project["dependencies"] + extras, lock) == []


def test_lock_check_can_fail(lock):
    assert outside_the_lock(["torch<1", "no-such-package", "numpy>=1.26"], lock) == [
        "torch<1",
        "no-such-package",
    ]


def test_lock_holds_the_build_tools(root, lock):
    """The package is installed without build isolation, so that the last step of the install downloads nothing."""
    build = tomllib.loads((root / "pyproject.toml").read_text())["build-system"]["requires"]
    assert outside_the_lock(build, lock) == []


def test_an_installed_package_holds_its_scripts_and_styles(root):
    settings = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]
    patterns, package = settings["package-data"]["jepa_utils"], root / "jepa_utils"
    beside = {f.relative_to(package) for f in package.rglob("*.*") if f.suffix in (".js", ".css")}
    assert beside and {f for f in beside if not any(map(f.match, patterns))} == set()


def conda_problems(environment: dict, requires_python: str) -> list[str]:
    """Where environment.yml installs anything but Python, pip, the lock and this package."""
    problems = []
    plain = [d for d in environment["dependencies"] if isinstance(d, str)]
    pip = [line for d in environment["dependencies"] if isinstance(d, dict) for line in d["pip"]]
    if pip != ["-r requirements.lock", "-e ."]:
        problems.append(f"pip installs {pip}")
    if sorted(re.match(r"[\w-]+", d).group() for d in plain) != ["pip", "python"]:
        problems.append(f"conda installs {plain}")
    python = [SpecifierSet(d.removeprefix("python")) for d in plain if d.startswith("python")]
    if python != [SpecifierSet(requires_python)]:
        problems.append(f"conda takes Python {python}, the package {requires_python}")
    return problems


def test_conda_installs_the_lock_and_nothing_else(root, project):
    environment = yaml.safe_load((root / "environment.yml").read_text())
    assert conda_problems(environment, project["requires-python"]) == []


@pytest.mark.parametrize(
    "dependencies",
    [
        ["python>=3.11", "pip", {"pip": ["-r requirements.txt", "-e ."]}],
        ["python>=3.11", "pip", {"pip": ["-r requirements.lock", "-e .", "torch==2.6"]}],
        ["python>=3.11", "pip", "numpy", {"pip": ["-r requirements.lock", "-e ."]}],
        ["python>=3.12", "pip", {"pip": ["-r requirements.lock", "-e ."]}],
    ],
)
def test_conda_check_can_fail(dependencies):
    assert conda_problems({"dependencies": dependencies}, ">=3.11")


def stub(path, script: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n" + script)
    path.chmod(0o755)


@pytest.fixture
def checkout(root, tmp_path):
    """What the Makefile needs, and a Python whose virtual environments only note what pip is told.

    Where a file `fail` lies beside it, the step that it names fails."""
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(root / name, tmp_path)
    note = 'echo "$@" >> calls\nif [ -e fail ] && echo "$@" | grep -q -f fail; then exit 1; fi\n'
    stub(tmp_path / "pip-python", note)
    make_venv = "mkdir -p .venv/bin && cp pip-python .venv/bin/python"
    stub(tmp_path / "python", f'if [ "$1" = -m ]; then {make_venv}; fi\n')
    return tmp_path


def make(folder, *arguments) -> subprocess.CompletedProcess:
    command = ["make", "--no-print-directory", "PYTHON=./python", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_make_installs_the_lock_then_the_package_once(checkout):
    for _ in range(2):
        assert make(checkout, ".venv/.installed").returncode == 0
    lock, package = (line.split() for line in (checkout / "calls").read_text().splitlines())
    assert lock[:3] == package[:3] == ["-m", "pip", "install"]
    assert lock[lock.index("-r") + 1] == "requirements.lock" and "." not in lock
    assert {"--no-deps", "--no-build-isolation"} < set(package)
    assert package[-1] == "." and "-r" not in package


@pytest.mark.parametrize("step", ["requirements.lock", "no-deps"])
def test_an_install_that_fails_says_that_it_needs_a_network(checkout, step):
    (checkout / "fail").write_text(step)
    done = make(checkout, "book")
    assert done.returncode != 0 and not (checkout / ".venv" / ".installed").exists()
    line = "Installing failed. It needs a network (or an index that pip is set to), once; the same command tries again."
    assert done.stdout.splitlines()[-1] == line


def test_an_install_that_failed_is_done_again(checkout):
    (checkout / "fail").write_text("no-deps")
    assert make(checkout, ".venv/.installed").returncode != 0
    (checkout / "fail").unlink()
    assert make(checkout, ".venv/.installed").returncode == 0
    assert len((checkout / "calls").read_text().splitlines()) == 4


def test_make_lists_its_targets(checkout):
    listed = re.findall(r"make (\w+)", make(checkout).stdout)
    assert {"book", "test", "verify", "bench", "lock", "clean"} <= set(listed)


def workflow(root, name: str) -> dict:
    parsed = yaml.safe_load((root / ".github" / "workflows" / name).read_text())
    return {"on": parsed.pop(True), **parsed}  # YAML 1.1 reads the key `on` as true


def steps(flow: dict) -> list[dict]:
    return [step for job in flow["jobs"].values() for step in job["steps"]]


def commands(flow: dict) -> list[str]:
    return [step["run"] for step in steps(flow) if "run" in step]


def run_ci(root, folder, fail: str) -> tuple[bool, list[str]]:
    """Whether the CI script passes, and what it makes, where the step `fail` fails."""
    script = folder / ".ci" / "run"
    script.parent.mkdir()
    shutil.copy(root / ".ci" / "run", script)
    stub(folder / "bin" / "make", f'echo "$@" >> calls\n[ "$*" != "{fail}" ]\n')
    stub(folder / "bin" / "chromium", "")
    path = f"{folder / 'bin'}:{os.environ['PATH']}"
    done = subprocess.run([script], capture_output=True, env=os.environ | {"PATH": path})
    return done.returncode == 0, (folder / "calls").read_text().splitlines()


@pytest.mark.parametrize("fail", ["nothing", "test", "verify", "book"])
def test_ci_script_tests_verifies_and_builds_and_stops_at_a_failure(root, tmp_path, fail):
    passed, made = run_ci(root, tmp_path, fail)
    steps = [target for target in made if not target.startswith(".venv")]
    expected = ["test", "verify", "book"]
    assert steps == expected[: expected.index(fail) + 1 if fail in expected else None]
    assert passed == (fail == "nothing")


def test_ci_workflow_runs_the_ci_script_on_the_oldest_and_the_newest_python(root, project):
    flow = workflow(root, "ci.yml")
    assert {"push", "pull_request"} <= set(flow["on"])
    assert commands(flow) == [".ci/run"]
    oldest = project["requires-python"].removeprefix(">=")
    assert flow["jobs"]["run"]["strategy"]["matrix"]["python"] == [oldest, "3.x"]


def test_weekly_workflow_takes_newest_dependencies_and_reports_failure(root):
    flow = workflow(root, "weekly.yml")
    assert flow["on"]["schedule"]
    newest = [step["run"] for step in flow["jobs"]["newest"]["steps"] if "run" in step]
    assert 'python -m pip install -U -e ".[book,run,test]"' in newest
    assert "jepa verify" in newest
    assert not any("requirements.lock" in c or "make" in c for c in newest)
    report = flow["jobs"].pop("report")
    assert report["if"] == "failure()"
    assert set(report["needs"]) == set(flow["jobs"])  # no job fails unseen


def test_weekly_workflow_breaks_functions_of_every_room(root):
    job = workflow(root, "weekly.yml")["jobs"]["mutants"]
    rooms = {path.parent.name for path in (root / "jepa_utils").glob("*/__init__.py")}
    assert set(job["strategy"]["matrix"]["room"]) == rooms
    (command,) = [step["run"] for step in job["steps"] if "mutate" in step.get("run", "")]
    assert "tests/mutate.py ${{ matrix.room }}" in command


def test_hooks_lay_the_lines_as_make_test_wants_them(root):
    """The ruff of the lock, so that a commit that the hooks let pass is not refused later."""
    repos = yaml.safe_load((root / ".pre-commit-config.yaml").read_text())["repos"]
    hooks = {hook["entry"].split()[1]: hook for repo in repos for hook in repo["hooks"]}
    assert set(hooks) == {"check", "format"}
    for hook in hooks.values():
        assert hook["entry"].startswith(".venv/bin/ruff ") and hook["language"] == "system"
        assert {"python", "jupyter"} <= set(hook["types_or"])


def test_citation_names_this_version_and_licence(root, project):
    citation = yaml.safe_load((root / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["version"] == project["version"]
    assert citation["license"] == project["license"]["text"]


def test_publish_workflow_builds_what_ci_passed_and_gives_the_address(root):
    flow = workflow(root, "publish.yml")
    assert flow["on"]["workflow_run"]["workflows"] == [workflow(root, "ci.yml")["name"]]
    assert "conclusion == 'success'" in flow["jobs"]["build"]["if"]
    assert flow["permissions"] == {"contents": "read"}
    (book,) = [s for s in steps(flow) if s.get("run") == "make pdf"]  # which makes the book first
    assert {"JEPA_REPOSITORY_URL", "JEPA_SITE_URL"} <= set(book["env"])
    (stored,) = [s for s in steps(flow) if s.get("uses", "").startswith("actions/upload-artifact@")]
    assert stored["with"]["path"] == f"_build/html/{pdf.NAME}"
    assert [s for s in steps(flow) if s.get("uses", "").startswith("actions/deploy-pages@")]


def test_the_pdf_is_of_a_book_just_built(root):
    rules = (root / "Makefile").read_text(encoding="utf-8")
    assert re.search(r"^pdf: book\b.*\n\t\$\(BIN\)/jepa pdf$", rules, re.MULTILINE)
