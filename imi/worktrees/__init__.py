"""Worktrees: what iMi knows of git, by running git."""
