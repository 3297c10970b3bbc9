"""Built-in components: image."""

from collections.abc import Callable

from automm.api import hookimpl
from automm_image.clip import ClipImage, ClipText
from automm_image.descriptors import Descriptors
from automm_image.hf_image import HfImage
from automm_image.image_descriptors import ImageDescriptors
from automm_image.modality import Image
from automm_image.pixels import Pixels
from automm_image.small_cnn import SmallCnn


@hookimpl
def automm_register(register: Callable[[type], type]) -> None:
    """Registers the modality, its processor and its encoders."""
    for component in (Image, Pixels, Descriptors, SmallCnn, ImageDescriptors, HfImage, ClipImage, ClipText):
        register(component)
