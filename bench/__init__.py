"""Benchmarks: ``python -m bench`` runs them all, ``python -m bench --quick`` in a few minutes."""
