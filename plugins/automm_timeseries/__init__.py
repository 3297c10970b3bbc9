"""Built-in components: timeseries."""

from automm.api import hookimpl
from automm_timeseries.inception_time import InceptionTime
from automm_timeseries.modality import Series
from automm_timeseries.values import Values


@hookimpl
def automm_register(register):  # noqa: ANN001, ANN201, D103
    for component in (Series, Values, InceptionTime):
        register(component)
