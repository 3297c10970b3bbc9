"""Geographic tracks as inputs of automm."""

from collections.abc import Callable

from automm.api import hookimpl
from automm_tracks.encoders import TrackFigures, TrackNetwork
from automm_tracks.figures import Figures
from automm_tracks.modality import Track
from automm_tracks.steps import Steps

AUTOMM_API = 1


@hookimpl
def automm_register(register: Callable[[type], type]) -> None:
    """Registers the modality, its processors and its encoders."""
    for component in (Track, Steps, Figures, TrackNetwork, TrackFigures):
        register(component)
