"""What an ARGUS is: its form, its size, and what it reads."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from upnext.base.configuration import Config
from upnext.base.views import ALL
from upnext.models.recent import RecentConfig
from upnext.nn.embeddings import EmbeddingsConfig, HashedConfig

__all__ = ["SIZES", "ARGUSConfig"]

SIZES = {"mini": (4, 256), "small": (6, 512), "medium": (10, 1024), "large": (20, 2048)}
"""Layers and width of the source's models."""


class ARGUSConfig(Config):
    """Size and reading of an ARGUS."""

    kind: Literal["argus"] = "argus"
    view: str = ALL
    """The events it reads. It is made to read all of them: what was skipped is signal too."""
    contexts: list[str] | None = None
    """The contexts that it reads; the time since the last event is always read. Unset: all that the log has."""
    form: Literal["simplified", "full"] = "simplified"
    """One token per event and small networks on top, or three tokens per event."""
    target_attention: bool = False
    """In the simplified form: before its feedback is predicted, an item looks at the history for events like itself. In
    the full form it always does."""
    size: Literal["mini", "small", "medium", "large"] | None = None
    """A named size of the source; sets width, layers and heads."""
    width: Annotated[int, Field(ge=1, le=65_536)] = 64
    """Width of states and item vectors; a multiple of `heads`."""
    layers: Annotated[int, Field(ge=1, le=1000)] = 2
    """Transformer layers."""
    heads: Annotated[int, Field(ge=1)] = 1
    """Attention heads."""
    max_length: Annotated[int, Field(ge=1, le=1_000_000)] = 256
    """The longest history it reads, in events of its view."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of activations dropped in training, where sublayers join the residual stream."""
    embeddings: EmbeddingsConfig = HashedConfig()
    """How ids and other values of high cardinality become vectors."""
    recent: RecentConfig | None = None
    """What was chosen lately as the prior of the next item: the model then learns what differs from it. Unset: none."""

    @model_validator(mode="before")
    @classmethod
    def _named_size(cls, data: Any) -> Any:
        if not isinstance(data, dict) or data.get("size") not in SIZES:
            return data
        layers, width = SIZES[data["size"]]
        sizes = {"layers": layers, "width": width, "heads": width // 64}
        for name, value in sizes.items():
            if data.get(name, value) != value:
                raise ValueError(
                    f"{name} = {data[name]} contradicts size = {data['size']!r} ({value}); give one of them"
                )
        return data | sizes

    @model_validator(mode="after")
    def _heads_divide_width(self) -> "ARGUSConfig":
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is no multiple of heads {self.heads}; change one of them")
        if self.target_attention and self.form == "full":
            raise ValueError(
                "target_attention has no effect on form = 'full', whose items attend to the history; remove it"
            )
        return self
