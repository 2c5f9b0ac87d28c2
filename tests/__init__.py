"""Tests, and the slow, readable oracles they compare with (tests.reference)."""
