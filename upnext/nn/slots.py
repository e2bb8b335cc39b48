"""Where a module keeps what belongs to a column of the log, whatever that column is called."""

__all__ = ["slot"]


def slot(name: str) -> str:
    """A name that `nn.ModuleDict` takes: no attribute's, as `forward` or `type` are, and without dots.

    Different columns have different slots: `play.seconds` -> `column_play%2Eseconds`.
    """
    return "column_" + name.replace("%", "%25").replace(".", "%2E")
