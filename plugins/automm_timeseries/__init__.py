"""Built-in components: timeseries."""

from collections.abc import Callable

from automm.api import hookimpl
from automm_timeseries.hf_series import HfSeries
from automm_timeseries.inception_time import InceptionTime
from automm_timeseries.modality import Series
from automm_timeseries.patch_tst import PatchTst
from automm_timeseries.rocket import Rocket
from automm_timeseries.rocket_vector import RocketVector
from automm_timeseries.values import Values


@hookimpl
def automm_register(register: Callable[[type], type]) -> None:
    """Registers the modality, its processor and its encoders."""
    for component in (Series, Values, Rocket, RocketVector, InceptionTime, PatchTst, HfSeries):
        register(component)
