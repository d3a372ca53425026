"""PostgreSQL: where it is, how it is made ready, and the pools to it."""


class DatabaseError(Exception):
    """The database cannot be used, as one sentence for a person."""
