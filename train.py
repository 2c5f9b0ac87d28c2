"""See lga_jax/commands/train.py."""

import sys

from lga_jax.commands.__main__ import main

if __name__ == "__main__":
    sys.argv.insert(1, "train")
    main()
