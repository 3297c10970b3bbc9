"""Built-in components: image."""

from automm.api import hookimpl
from automm_image.hf_image import HfImage
from automm_image.modality import Image
from automm_image.pixels import Pixels
from automm_image.small_cnn import SmallCnn


@hookimpl
def automm_register(register):  # noqa: ANN001, ANN201, D103
    for component in (Image, Pixels, SmallCnn, HfImage):
        register(component)
