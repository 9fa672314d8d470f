"""Scopes: cleanup that always happens."""
