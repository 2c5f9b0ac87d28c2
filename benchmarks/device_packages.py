"""Lists the packages that a machine for benchmarks/device_run.sh needs beside those it has, one `name==version` a line.

    python -m benchmarks.device_packages --has jax,jaxlib,flax,optax,torch,torchvision > missing.txt
    pip download --no-deps --python-version 3.12 --only-binary=:all: --dest wheels -r missing.txt

They are the packages of all modules that the parts import here.
"""

import argparse
import importlib
import importlib.metadata
import sys

MODULES = ("benchmarks.device_parts", "benchmarks.timing", "orbax.checkpoint", "lga_jax.training.run")


def needed() -> dict[str, str]:
    """Name -> version."""
    for module in MODULES:
        importlib.import_module(module)
    packages = importlib.metadata.packages_distributions()
    imported = {name.partition(".")[0] for name in sys.modules}
    names = {distribution for module in imported for distribution in packages.get(module, ())}
    return {name: importlib.metadata.version(name) for name in sorted(names - {"lga_jax"}, key=str.lower)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--has", default="", help="Names of packages that the machine has.")
    has = {name.strip().lower() for name in parser.parse_args().has.split(",")}
    for name, version in needed().items():
        if name.lower() not in has:
            print(f"{name}=={version}")


if __name__ == "__main__":
    main()
