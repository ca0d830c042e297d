"""What is odd about the bytes of a picture that can be decoded all the same."""

import cv2
import numpy as np
import simplejpeg

DARK = 64  # levels of 256; a picture of 16 bits that stays below may have used fewer


def oddity(data: np.ndarray, image: np.ndarray) -> tuple[str, str]:
    """Returns a code and a text for people of what is odd about a picture, or "", "".

    Args:
        data: [n] uint8, content of the file.
        image: [h, w, 3] uint8, as it was decoded.
    """
    if data[:2].tobytes() == b"\xff\xd8":
        complaint = jpeg_complaint(data.tobytes())
        if complaint:
            return "damaged_jpeg", f"parts of the picture are damaged: {complaint}"
    elif image.max(initial=0) < DARK:
        whole = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
        if whole is not None and whole.dtype == np.uint16 and whole.max():
            text = (
                f"16-bit values end at {whole.max()} of 65535: read as nearly black,"
                f" with levels 0 to {image.max()} of 255"
            )
            return "dark_16_bit", text
    return "", ""


def jpeg_complaint(content: bytes) -> str:
    """Returns what a strict decoder says of a JPEG, "" if nothing.

    Other decoders paint something into the holes of a file and go on.
    """
    try:
        *_, colours, _ = simplejpeg.decode_jpeg_header(content)
        simplejpeg.decode_jpeg(
            content,
            colorspace="CMYK" if colours in ("CMYK", "YCCK") else "GRAY",
            fastdct=True,
            fastupsample=True,
            min_height=1,  # the smallest that it can make: the entropy code is read
            min_width=1,
            min_factor=1,
        )
    except ValueError as error:
        return str(error)
    return ""
