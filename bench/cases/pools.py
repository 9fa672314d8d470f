"""The pools, beside psycopg_pool, SQLAlchemy and DBUtils; see ``bench/pools.py``, which also runs alone."""

from bench.pools import rows as run

__all__ = ["run"]
