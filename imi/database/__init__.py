"""PostgreSQL: where it is, how it is made ready, and the pools to it."""


class DatabaseError(Exception):
    """The database cannot be used, as one sentence for a person."""


def said(error: BaseException) -> str:
    """Answer what an error says on one line; asyncpg's hold DETAIL and HINT on lines of their own."""
    return " ".join(str(error).split()) or type(error).__name__
