"""Real git repositories for these tests."""

from repositories import git

__all__ = ["git"]
