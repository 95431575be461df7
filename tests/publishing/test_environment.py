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


def test_makefile_installs_the_lock_and_lists_its_targets(root):
    makefile = (root / "Makefile").read_text()
    assert "pip install --disable-pip-version-check -r requirements.lock" in makefile
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    listed = subprocess.run(
        ["make", "--no-print-directory"], cwd=root, capture_output=True, text=True, check=True
    ).stdout
    assert {"book", "test", "verify", "bench", "lock", "clean"} <= set(
        re.findall(r"make (\w+)", listed)
    )


def workflow(root, name: str) -> dict:
    parsed = yaml.safe_load((root / ".github" / "workflows" / name).read_text())
    return {"on": parsed.pop(True), **parsed}  # YAML 1.1 reads the key `on` as true


def steps(flow: dict) -> list[dict]:
    return [step for job in flow["jobs"].values() for step in job["steps"]]


def commands(flow: dict) -> list[str]:
    return [step["run"] for step in steps(flow) if "run" in step]


def test_ci_script_is_sound(root):
    script = root / ".ci" / "run"
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", script], check=True)
    assert re.findall(r"^step (.*)$", script.read_text(), re.M) == [
        "make test",
        "make verify",
        "make book",
    ]


def test_ci_workflow_runs_the_ci_script_on_the_oldest_and_the_newest_python(root, project):
    flow = workflow(root, "ci.yml")
    assert {"push", "pull_request"} <= set(flow["on"])
    assert commands(flow) == [".ci/run"]
    oldest = project["requires-python"].removeprefix(">=")
    assert flow["jobs"]["run"]["strategy"]["matrix"]["python"] == [oldest, "3.x"]


def test_weekly_workflow_takes_newest_dependencies_and_reports_failure(root):
    flow = workflow(root, "weekly.yml")
    assert flow["on"]["schedule"]
    assert 'python -m pip install -U -e ".[book,run,test]"' in commands(flow)
    assert "jepa verify" in commands(flow)
    assert not any("requirements.lock" in c or "make" in c for c in commands(flow))
    assert [s for s in steps(flow) if s.get("if") == "failure()"]


def test_publish_workflow_builds_what_ci_passed_and_gives_the_address(root):
    flow = workflow(root, "publish.yml")
    assert flow["on"]["workflow_run"]["workflows"] == [workflow(root, "ci.yml")["name"]]
    assert "conclusion == 'success'" in flow["jobs"]["build"]["if"]
    assert flow["permissions"] == {"contents": "read"}
    (book,) = [s for s in steps(flow) if s.get("run") == "make book"]
    assert "JEPA_REPOSITORY_URL" in book["env"]
    assert [s for s in steps(flow) if s.get("uses", "").startswith("actions/deploy-pages@")]
