"""What all tests share: shapes checked at run time, and how a test that needs something outside asks for it."""

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from jaxtyping import install_import_hook

if TYPE_CHECKING:
    from tests.serving.projects import Published

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does, before torch is loaded

# Shapes in signatures are checked while tests run; the rooms of pure tensor code carry them.
install_import_hook(["upnext.nn", "upnext.losses", "upnext.models", "upnext.metrics"], "beartype.beartype")


def skip_or_fail(reason: str) -> None:
    """Skip loudly on a bare machine; fail where everything is promised to be there (UPNEXT_REQUIRE=all)."""
    if os.environ.get("UPNEXT_REQUIRE") == "all":
        pytest.fail(f"UPNEXT_REQUIRE=all, but {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of published data sets."""
    folder = Path(os.environ.get("UPNEXT_DATA", "data"))
    if not folder.is_dir():
        skip_or_fail(f"there is no data folder {folder}; set UPNEXT_DATA")
    return folder


@pytest.fixture(scope="session")
def compiler() -> str:
    """The C++ compiler that students are compiled with."""
    found = shutil.which(os.environ.get("CXX", "g++"))
    if found is None:
        skip_or_fail("there is no C++ compiler; install g++")
    return str(found)


# Small releases, made once through the real stages. What they import comes after the hook above.


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> "Published":
    """A simulated service."""
    from tests.serving.projects import publish_tiny

    return publish_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def strange(tmp_path_factory: pytest.TempPathFactory) -> "Published":
    """Ids and titles that need quoting."""
    from tests.serving.projects import publish_strange

    return publish_strange(tmp_path_factory.mktemp("strange"))


@pytest.fixture(scope="session")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> "Published":
    """Integer ids above 2^53, in a log without a clock."""
    from tests.serving.projects import publish_numbers

    return publish_numbers(tmp_path_factory.mktemp("numbers"))


@pytest.fixture(scope="session")
def shelves(tmp_path_factory: pytest.TempPathFactory) -> "Published":
    """Many collections and titles that burst a poster."""
    from tests.serving.projects import publish_shelves

    return publish_shelves(tmp_path_factory.mktemp("shelves"))


@pytest.fixture(scope="session")
def hours(tmp_path_factory: pytest.TempPathFactory) -> "Published":
    """A service whose taste depends on the hour, ranked by expected utility."""
    from tests.serving.projects import publish_hours

    return publish_hours(tmp_path_factory.mktemp("hours"))


@pytest.fixture(scope="session")
def towers(tmp_path_factory: pytest.TempPathFactory, hours: "Published") -> "Published":
    """The same service with two towers."""
    from tests.serving.projects import publish_towers

    return publish_towers(tmp_path_factory.mktemp("towers") / "workspace", hours)


@pytest.fixture(scope="session")
def counts(tmp_path_factory: pytest.TempPathFactory) -> "Published":
    """A service ranked by trees over counts."""
    from tests.serving.counts import publish_counts

    return publish_counts(tmp_path_factory.mktemp("counts"))
