"""`upnext simulate`: a streaming service with a known truth, as source files."""

from collections.abc import Sequence
from pathlib import Path

from upnext.base.artifacts import Artifact, Draft, Workspace
from upnext.base.configuration import apply_override, parse_config, read_toml
from upnext.base.errors import BadConfig
from upnext.simulation.files import write
from upnext.simulation.settings import SimulationConfig
from upnext.simulation.world import simulate

__all__ = ["into_folder", "into_workspace", "settings_of"]


def into_workspace(config: SimulationConfig, workspace: Workspace) -> Artifact:
    """Simulate into a workspace, where `kind = "simulated"` finds it; up to date files are kept."""

    def make(draft: Draft) -> None:
        draft.metrics["num_events"] = into_folder(config, draft.folder)

    return workspace.ensure("simulation", "simulation", config.model_dump(mode="json"), [], make)


def into_folder(config: SimulationConfig, folder: Path) -> int:
    """Write events, items and users as Parquet and, apart, `truth.npz`; returns the number of events."""
    if folder.exists() and not folder.is_dir():
        raise BadConfig(f"{folder} is a file; give --out a folder")
    simulation = simulate(config)
    write(simulation, folder)
    return len(simulation.events)


def settings_of(file: Path | None, overrides: Sequence[str]) -> SimulationConfig:
    """The table [simulate] of a file, or the defaults; overrides as in `--set simulate.num_users=100`.

    Raises:   BadConfig: an unknown key or a bad value.
    """
    data = read_toml(file) if file is not None else {}
    for override in overrides:
        apply_override(data, override)
    if file is None and (unknown := data.keys() - {"simulate"}):
        raise BadConfig(f"--set {sorted(unknown)[0]}: keys begin with `simulate.` here, as in --set simulate.seed=1")
    return parse_config(SimulationConfig, data.get("simulate", {}), str(file or "--set"))
