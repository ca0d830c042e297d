"""What is odd about the bytes of a picture that can be decoded all the same."""

import cv2
import numpy as np

from yolojax.data.store import jpeg, png

DARK = 64  # levels of 256; a picture of 16 bits that stays below may have used fewer


def oddity(data: np.ndarray, image: np.ndarray) -> tuple[str, str]:
    """Returns a code and a text for people of what is odd about a picture, or "", "".

    Args:
        data: [n] uint8, content of the file.
        image: [h, w, 3] uint8, as it was decoded.
    """
    if jpeg.is_jpeg(data):
        complaint = jpeg.complaint(data)
        if complaint:
            return "damaged_jpeg", f"parts of the picture are damaged: {complaint}"
    elif image.max(initial=0) < DARK:
        needed = png.essence(data) if png.is_png(data) else data
        whole = None if needed is None else cv2.imdecode(needed, cv2.IMREAD_UNCHANGED)
        if whole is not None and whole.dtype == np.uint16 and whole.max():
            text = (
                f"16-bit values end at {whole.max()} of 65535: read as nearly black,"
                f" with levels 0 to {image.max()} of 255"
            )
            return "dark_16_bit", text
    return "", ""
