"""See lga_jax/commands/predict.py."""

from lga_jax.commands.predict import main

if __name__ == "__main__":
    main()
