"""What a server pulled does not pile up: the served one and the latest before it stay, and all that came otherwise."""

import pytest

from tests.repository.test_exchange import as_it_is, publish
from tests.serving.server import ProviderProcess
from upnext.base.artifacts import Workspace
from upnext.base.origins import origin_of
from upnext.repository.provider import Provider
from upnext.repository.transfer import PulledReleases


@pytest.mark.parametrize("keep", [1, 2, None])
def test_the_latest_pulled_releases_stay(tmp_path, keep):
    there, here = Workspace(tmp_path / "there"), Workspace(tmp_path / "here")
    own = publish(here, 100)
    made = [publish(there, number) for number in range(4)]
    with ProviderProcess(there.root) as process:
        source = PulledReleases(here, Provider(process.address), as_it_is, keep)
        for release in made:
            source.took(source.fetch(release.name))
        source.took(source.fetch(made[2].name))  # rolled back to, once it is there again
    left = [made[2].name, *([] if keep == 1 else [made[3].name])] if keep else [one.name for one in made]
    assert sorted(folder.name for folder in here.folders("release")) == sorted([own.name, *left])
    assert here.in_use()["release"] == made[2].name
    gone = [one.name for one in made if one.name not in left]
    assert all(origin_of(here.root, name) is None for name in gone)
    assert [one.name for one in here.used("release")][:2] == (
        [made[2].name, own.name] if keep == 1 else [made[2].name, made[3].name]
    )


def test_one_that_came_and_was_never_served_goes_first(tmp_path):
    there, here = Workspace(tmp_path / "there"), Workspace(tmp_path / "here")
    (tmp_path / "here").mkdir()
    made = [publish(there, number) for number in range(3)]
    with ProviderProcess(there.root) as process:
        source = PulledReleases(here, Provider(process.address), as_it_is, 2)
        source.took(source.fetch(made[0].name))
        source.fetch(made[1].name)  # and could not be loaded
        source.took(source.fetch(made[2].name))
    assert {folder.name for folder in here.folders("release")} == {made[0].name, made[2].name}
