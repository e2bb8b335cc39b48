"""One small service, simulated once for all tests of the room."""

import pytest

from upnext.simulation.settings import SimulationConfig
from upnext.simulation.world import Simulation, simulate

SMALL = SimulationConfig(seed=3, num_users=250, num_items=300, num_events=24_000, days=14)


@pytest.fixture(scope="session")
def service() -> Simulation:
    return simulate(SMALL)
