"""iMi: the shared memory and traffic control of a team of people and coding agents."""

__version__ = "3.0.0"
