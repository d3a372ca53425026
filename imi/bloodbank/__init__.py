"""Bloodbank, the bus: what follows the log, and what brings events into it."""
