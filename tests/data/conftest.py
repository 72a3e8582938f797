"""What the tests of this room share."""

import hypothesis
import pytest

hypothesis.settings.register_profile("data", deadline=None)  # a busy machine is no fault
hypothesis.settings.load_profile("data")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory):
    """The user's caches stay as they are; every test begins with empty ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield
