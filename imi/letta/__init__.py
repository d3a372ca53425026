"""The hand-off: BMAD's requests become agents of another runtime, which is Letta."""
