"""One image file as an array: oriented, 8 or 16 bits per sample, grey or RGB, of the requested size."""

import struct
import sys

import numpy as np

from .errors import DatasetFileError

# Pillow keeps the upper 8 of 16 bits of a colour sample; its decoder of the other byte order gives the lower 8.
_OTHER_BYTE_ORDER = {";16B": ";16L", ";16L": ";16B"}
_LUMA = (19595, 38470, 7471)  # of 65536: Pillow's weights of red, green and blue


def formats():
    """The formats that Pillow reads by itself; without EPS, for which it would run Ghostscript on an untrusted file."""
    from PIL import Image

    Image.init()
    return sorted(set(Image.OPEN) - {"EPS"})


def white_of(image):
    """The stored value that corresponds to 1.0."""
    return np.iinfo(image.dtype).max


def read_image(path, color):
    """One image, "gray", "rgb" or (None) as stored, oriented by its EXIF data; uint16 where the file has 16 bits per
    sample, else uint8.

    Raises DatasetFileError if the file is damaged, has transparent pixels, or pixels whose white is not known.
    """
    from PIL import Image

    try:
        pixels = _opaque(*_decode(path), path)
    except DatasetFileError:
        raise
    # Pillow's decoders raise many kinds of exceptions.
    except (
        OSError,
        ValueError,
        SyntaxError,
        LookupError,
        EOFError,
        TypeError,
        struct.error,
        Image.DecompressionBombError,
    ) as error:
        raise DatasetFileError(
            f"{path} cannot be read as an image: it is truncated, damaged or of another format ({error}). Replace or "
            "remove it."
        ) from error
    return _colored(pixels, color)


def resized(image, size, how):
    """`image` resized to (height, width) by "crop", "pad" or "stretch", with Pillow's bilinear filter, which averages
    when it shrinks.
    """
    height, width = image.shape[:2]
    if (height, width) == size:
        return image
    box, inner = (0, 0, width, height), size
    if how == "crop":
        scale = min(height / size[0], width / size[1])
        top, left = (max(0.0, n - scale * side) / 2 for n, side in zip((height, width), size, strict=True))
        box = (left, top, min(width, left + scale * size[1]), min(height, top + scale * size[0]))
    elif how == "pad":
        scale = min(size[0] / height, size[1] / width)
        inner = tuple(min(side, max(1, round(scale * n))) for side, n in zip(size, (height, width), strict=True))
    planes = [_scaled(plane, inner, box) for plane in np.moveaxis(np.atleast_3d(image), -1, 0)]
    scaled = np.stack(planes, axis=-1).reshape(*inner, *image.shape[2:])
    result = np.zeros((*size, *image.shape[2:]), image.dtype)  # uncovered pixels are black
    top, left = ((side - n) // 2 for side, n in zip(size, inner, strict=True))
    result[top : top + inner[0], left : left + inner[1]] = np.rint(scaled)
    return result


def _scaled(plane, size, box):
    from PIL import Image

    return np.asarray(Image.fromarray(plane.astype(np.float32)).resize(size[::-1], Image.Resampling.BILINEAR, box=box))


def _decode(path):
    """Pixels as stored, with alpha if there is one, and the grey or colour that means transparent, or None."""
    from PIL import Image

    with Image.open(path, formats=formats()) as image:
        rawmode = _rawmode(image)
        if image.format == "PPM" and image.mode == "RGB" and _largest_sample(image) > 255:
            raise DatasetFileError(f"{path} is a colour PPM of more than 8 bits per sample. Save it as PNG or TIFF.")
        if rawmode[-4:] in _OTHER_BYTE_ORDER and not rawmode.startswith("I;"):
            return _decode_16_bit_colour(path, image, rawmode)
        upright = _upright(image)
        key = upright.info.get("transparency")
        if upright.mode in ("P", "PA"):
            return np.asarray(upright.convert("RGBA")), None
        if upright.mode in ("YCbCr", "CMYK"):
            return np.asarray(upright.convert("RGB")), None
        if upright.mode in ("1", "L"):
            # PNG stores the transparent grey in the file's own bits, of which Pillow's 8-bit values are a multiple.
            step = {"L;2": 85, "L;4": 17}.get(rawmode, 1)
            return np.asarray(upright.convert("L")), None if key is None else np.uint8(step * key)
        if upright.mode in ("LA", "RGB", "RGBA"):
            return np.asarray(upright), key
        if upright.mode.startswith("I;16") and _has_16_bits(image):
            return np.asarray(upright).astype(np.uint16), key
        if image.format == "PPM" and upright.mode == "I":  # Pillow has scaled it to 16 bits
            return np.asarray(upright).astype(np.uint16), None
        raise DatasetFileError(
            f"{path} has pixels of Pillow's mode {image.mode!r}, whose white is not known. Convert it to grey or RGB "
            "of 8 or 16 bits."
        )


def _decode_16_bit_colour(path, image, rawmode):
    from PIL import Image

    key = image.info.get("transparency")
    if rawmode == "LA;16B":
        # Four bytes per pixel: two of grey and two of alpha.
        image.tile = [_with_rawmode(tile, "RGBA") for tile in image.tile]
        halves = np.asarray(_upright(image)).astype(np.uint16)
        return 256 * halves[..., ::2] + halves[..., 1::2], key
    if image.mode not in ("RGB", "RGBA"):
        raise DatasetFileError(f"{path} has 16-bit pixels of Pillow's mode {image.mode!r}. Convert it to RGB.")
    high = np.asarray(_upright(image)).astype(np.uint16)
    with Image.open(path, formats=[image.format]) as lower:
        other = rawmode[:-4] + _OTHER_BYTE_ORDER[rawmode[-4:]]
        lower.tile = [_with_rawmode(tile, other) for tile in lower.tile]
        return 256 * high + np.asarray(_upright(lower)), key


def _upright(image):
    from PIL import ImageOps

    image.load()  # Pillow already rotates TIFF while it loads
    return ImageOps.exif_transpose(image)


def _rawmode(image):
    """Pillow's name of the layout of samples that its decoder reads, with the actual byte order."""
    args = image.tile[0][3] if image.tile else None
    name = (args[0] if args else "") if isinstance(args, tuple) else args
    name = name if isinstance(name, str) else ""
    return name.removesuffix("N") + ("L" if sys.byteorder == "little" else "B") if name.endswith(";16N") else name


def _with_rawmode(tile, rawmode):
    args = (rawmode, *tile[3][1:]) if isinstance(tile[3], tuple) else rawmode
    changed = (*tile[:3], args)
    return tile._make(changed) if hasattr(tile, "_make") else changed  # Pillow 10 has plain tuples


def _largest_sample(image):
    """The largest sample that a PPM file declares."""
    args = image.tile[0][3]
    return args[1] if isinstance(args, tuple) and len(args) == 2 else 255


def _has_16_bits(image):
    """Whether a grey image of Pillow's 16-bit mode uses all of them, from black to white."""
    if image.format == "TIFF":
        return image.tag_v2.get(258) == (16,) and image.tag_v2.get(262) == 1
    return image.format == "PNG"


def _opaque(pixels, key, path):
    """Grey or RGB without alpha; raises an error for images with transparent pixels."""
    if key is not None:
        transparent = (np.atleast_3d(pixels) == np.asarray(key)).all(axis=-1).any()
    elif pixels.ndim == 3 and pixels.shape[-1] in (2, 4):
        transparent = pixels[..., -1].min() < white_of(pixels)
        pixels = pixels[..., :-1]
    else:
        transparent = False
    if transparent:
        raise DatasetFileError(f"{path} has transparent pixels: put it on a background and save it as RGB.")
    return pixels[..., 0] if pixels.ndim == 3 and pixels.shape[-1] == 1 else pixels


def _colored(pixels, color):
    if color == "rgb" and pixels.ndim == 2:
        return np.stack([pixels] * 3, axis=-1)
    if color == "gray" and pixels.ndim == 3:
        return ((pixels.astype(np.uint64) @ np.array(_LUMA, np.uint64) + 0x8000) >> 16).astype(pixels.dtype)
    return pixels
