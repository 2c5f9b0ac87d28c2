"""See lga_jax/commands/eval.py."""

from lga_jax.commands.eval import main

if __name__ == "__main__":
    main()
