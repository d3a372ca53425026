"""Bloodbank, the bus: what follows the log, and what brings events into it."""

TYPE_CHECKING = False  # as typing has it, without its 10 ms
if TYPE_CHECKING:
    from imi.bloodbank.publish import PublishError, publish_event
else:

    def __getattr__(name):
        """What publishers import from here, when they do: importing the package itself costs nothing."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module("imi.bloodbank.publish"), name)


__all__ = ["PublishError", "publish_event"]
