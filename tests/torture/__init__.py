"""Damages runs and their files on purpose and counts what is lost: `make torture`, docs/reliability.md."""
