"""Pools with real servers: PostgreSQL, HTTP and TCP on loopback."""
