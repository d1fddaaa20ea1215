"""The table of losses, by the names that torch gives their criteria. To add one: a function in its family's file."""

CRITERIA = ("CrossEntropyLoss",)
