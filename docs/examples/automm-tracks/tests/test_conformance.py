"""Every component passes automm's conformance kit."""

from automm_tracks.encoders import TrackFigures, TrackNetwork
from automm_tracks.figures import Figures
from automm_tracks.modality import Track
from automm_tracks.steps import Steps

from automm.testing import parametrize


@parametrize(Track)
def test_modality(check):
    check()


@parametrize(Steps)
def test_steps(check):
    check()


@parametrize(Figures)
def test_figures(check):
    check()


@parametrize(TrackFigures)
def test_track_figures(check):
    check()


@parametrize(TrackNetwork)
def test_track_network(check):
    check()
