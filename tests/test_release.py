"""What users get: the sdist and the wheel, built and installed in an environment of their own, with torch alone."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import torch_featurelayer as tl

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
# Each in the clean environment: it answers with torch alone, and says what to install for more.
USE = """
import sys
import torch
import torch_featurelayer as tl


model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU(inplace=True), torch.nn.Linear(3, 2))
assert tl.get_layer_candidates(model) == ["0", "1", "2"]
feat, output = tl.FeatureLayer(model, "0")(torch.ones(1, 4))
feats, output = tl.FeatureLayers(model, ["0", "1"])(torch.ones(1, 4))
assert torch.equal(feat.relu(), feats["1"])
with tl.edit(model, {"1": 0.0}):
    assert torch.equal(model(torch.ones(1, 4)), model[2].bias[None])
assert str(tl.layers(model, torch.ones(1, 4)))
assert not {"numpy", "PIL", "matplotlib", "torchvision", "pyarrow"} & {name.partition(".")[0] for name in sys.modules}
try:
    tl.figures
except tl.MissingExtraError as error:
    assert 'pip install "matplotlib>=' in str(error), error
else:
    raise SystemExit("matplotlib is not here, and nothing said so")
print(tl.__version__)
"""


def run(*command: object, folder: Path) -> str:
    done = subprocess.run([*map(str, command)], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The sdist, and the wheel that is made from it alone."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", folder, folder=ROOT)
    (sdist,) = folder.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "source", filter="data")
    (source,) = (folder / "source").iterdir()
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, folder=source)
    (wheel,) = folder.glob("*.whl")
    return sdist, wheel


def test_the_sdist_is_the_whole_repository(built: tuple[Path, Path]) -> None:
    """Who packages it can run the tests from it."""
    with tarfile.open(built[0]) as archive:
        names = {member.name.partition("/")[2] for member in archive if member.isfile()}
    assert set(run("git", "ls-files", folder=ROOT).splitlines()) <= names


def test_the_wheel_holds_the_package_and_nothing_else(built: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(built[1]) as archive:
        names = set(archive.namelist())
    tracked = run("git", "ls-files", "src/torch_featurelayer", folder=ROOT).splitlines()
    metadata = {name for name in names if ".dist-info/" in name}
    assert names - metadata == {name.removeprefix("src/") for name in tracked}
    assert any(name.endswith("licenses/LICENSE") for name in metadata)


def distributions(*needed: Requirement) -> set[str]:
    """The names of distributions and of all that they require, with their extras."""
    found: set[str] = set()
    for requirement in needed:
        each = map(Requirement, metadata.requires(requirement.name) or [])
        extras = [{"extra": extra} for extra in ("", *requirement.extras)]
        asked = [other for other in each if not other.marker or any(map(other.marker.evaluate, extras))]
        found |= {requirement.name} | distributions(*asked)
    return found


def link(name: str, folder: Path) -> None:
    """Links a distribution of this environment into a folder, which takes no time."""
    files = metadata.distribution(name).files or []
    for top in {file.parts[0] for file in files} - {"..", "__pycache__"}:
        place = folder / top
        if not place.exists():  # packages of NVIDIA share a folder
            place.symlink_to(Path(str(metadata.distribution(name).locate_file(top))))


def test_a_clean_environment_with_torch_alone(built: tuple[Path, Path], tmp_path: Path) -> None:
    """The torch that is there is enough for the wheel: no other is installed, without an index."""
    run(sys.executable, "-m", "venv", tmp_path / "clean", folder=tmp_path)
    python = tmp_path / "clean" / "bin" / "python"
    (packages,) = (tmp_path / "clean").glob("lib/python*/site-packages")
    # That of Python 3.11 is too old for torch.
    run(python, "-m", "pip", "uninstall", "--quiet", "--yes", "setuptools", folder=tmp_path)
    (tmp_path / "torch").mkdir()
    # Beside the environment, and not in it: pip removes what it replaces there, through links too.
    (packages / "torch.pth").write_text(str(tmp_path / "torch"))
    for name in distributions(Requirement("torch")):
        link(name, tmp_path / "torch")
    run(python, "-m", "pip", "install", "--quiet", "--no-index", built[1], folder=tmp_path)
    assert not [*packages.glob("torch-*")]
    warned = ["-W", "error", "-W", "ignore:Failed to initialize NumPy"]  # torch's own, where it is alone
    assert run(python, *warned, "-c", USE, folder=tmp_path).strip() == tl.__version__
    run(python, "-m", "pip", "check", folder=tmp_path)
    asked = subprocess.run([python.with_name("featurelayer"), "--help"], capture_output=True, text=True, check=False)
    assert asked.returncode != 0
    assert 'typer is not installed: pip install "' in asked.stdout + asked.stderr
    assert "Traceback" not in asked.stderr


def test_the_version_is_one() -> None:
    """It stands in the package; whatever repeats it says the same."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["dynamic"] == ["version"]
    citation = dict(re.findall(r"^([\w-]+): (.+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE))
    assert citation["version"] == tl.__version__
    assert citation["license"] == project["project"]["license"]
    assert f"## [{tl.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_the_floor_is_the_one_that_is_tested() -> None:
    """The oldest torch of the project's metadata is the one the workflow runs."""
    (floor,) = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    workflow = (ROOT / ".github" / "workflows" / "test.yml").read_text()
    assert f"benchmarks.versions {floor.removeprefix('torch>=')}." in workflow
