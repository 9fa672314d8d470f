"""Connection pools."""
