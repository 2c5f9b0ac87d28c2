"""See lga_jax/commands/train.py."""

from lga_jax.commands.train import main

if __name__ == "__main__":
    main()
