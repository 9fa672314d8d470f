"""Segments as files and as mappings. Knows no lock and no name."""
