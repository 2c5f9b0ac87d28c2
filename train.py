"""See lga_jax/commands/train.py."""

from lga_jax.commands.__main__ import start

if __name__ == "__main__":
    start("train")
