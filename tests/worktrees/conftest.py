"""Real git repositories for these tests."""

from tests.repositories import git

__all__ = ["git"]
