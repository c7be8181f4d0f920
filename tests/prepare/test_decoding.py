from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from spin.core.buckets import Size
from spin.core.rejecting import NOT_FINITE, TOO_MANY_PIXELS, UNREADABLE, Rejected
from spin.diffusion.decoding import to_rgb
from spin.prepare.decoding import crop_place, decode, fit

LIMIT = 89_478_485


def photo(width: int = 48, height: int = 40) -> Image.Image:
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([x * 5 % 256, y * 6 % 256, (x + y) * 3 % 256], axis=2).astype(np.uint8))


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def rejection(data: bytes, limit: int = LIMIT) -> Rejected:
    with pytest.raises(Rejected) as caught:
        decode(data, max_image_pixels=limit)
    return caught.value


def decoded_or_reason(data: bytes) -> Image.Image | str:
    try:
        return decode(data, max_image_pixels=LIMIT)
    except Rejected as error:
        return error.reason


def png_header(width: int, height: int) -> bytes:
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    header = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    return b"\x89PNG\r\n\x1a\n" + header + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP"])
def test_a_picture_cut_anywhere_is_unreadable_or_lost_nothing(form: str) -> None:
    data = encoded(photo(), form)
    whole = np.asarray(decode(data, max_image_pixels=LIMIT))
    for length in range(0, len(data) - 1, max(1, len(data) // 60)):
        cut = decoded_or_reason(data[:length])
        if not isinstance(cut, str):  # only a trailer after the last pixel was lost
            assert len(data) - length <= 32
            assert np.array_equal(np.asarray(cut), whole)
        else:
            assert cut == UNREADABLE


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.9, 0.99])
def test_a_truncated_jpeg_is_unreadable(share: float) -> None:
    data = encoded(photo(200, 200), "JPEG", quality=95)
    assert rejection(data[: int(share * len(data))]).reason == UNREADABLE


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\xff\xd8\xff", b"GIF89a", b"\x00" * 1000])
def test_bytes_that_are_no_picture_are_unreadable_and_described_the_same_each_time(content: bytes) -> None:
    assert rejection(content).reason == UNREADABLE
    assert rejection(content).detail == rejection(content).detail
    assert "0x" not in rejection(content).detail


def test_random_damage_never_escapes_as_another_error() -> None:
    rng = np.random.default_rng(0)
    for form in ("JPEG", "PNG", "WEBP", "TIFF", "GIF"):
        data = np.frombuffer(encoded(photo(), form), np.uint8)
        for _ in range(60):
            damaged = data.copy()
            damaged[rng.integers(len(data), size=8)] = rng.integers(256, size=8)
            found = decoded_or_reason(damaged.tobytes())
            assert found in {UNREADABLE, TOO_MANY_PIXELS} if isinstance(found, str) else found.mode == "RGB"


def test_a_bomb_is_refused_from_its_header_before_a_pixel_is_decoded() -> None:
    found = rejection(png_header(100_000, 100_000))  # would be 30 GB of pixels; the file holds none
    assert found.reason == TOO_MANY_PIXELS
    assert "10000000000" in found.detail


def test_the_pixel_limit_is_exact_and_leaves_no_trace() -> None:
    data, before = encoded(photo(50, 40), "PNG"), Image.MAX_IMAGE_PIXELS
    assert decode(data, max_image_pixels=2000).size == (50, 40)
    assert rejection(data, 1999).reason == TOO_MANY_PIXELS
    assert rejection(data, 10).reason == TOO_MANY_PIXELS
    assert before == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "La", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"]
)
def test_every_mode_becomes_rgb(mode: str) -> None:
    source = {"PA": "P", "RGBa": "RGBA", "La": "LA"}.get(mode, mode)
    if mode == "LAB":
        image = Image.new("LAB", (6, 4), (128, 0, 0))
    else:
        image = photo(6, 4).convert(source)
        image = image if source == mode else image.convert(mode)
    assert to_rgb(image).mode == "RGB"
    assert to_rgb(image).size == (6, 4)


@pytest.mark.parametrize("form", ["TIFF", "JPEG"])
def test_cmyk_keeps_its_colours(form: str) -> None:
    picture = Image.new("RGB", (16, 16), (200, 40, 60)).convert("CMYK")
    options = {} if form == "TIFF" else {"quality": 100}
    pixels = np.asarray(decode(encoded(picture, form, **options), max_image_pixels=LIMIT)).astype(int)
    assert np.abs(pixels - (200, 40, 60)).max() <= 4


def test_transparency_lies_on_white() -> None:
    image = Image.new("RGBA", (2, 1), (255, 0, 0, 0))
    image.putpixel((1, 0), (255, 0, 0, 128))
    assert np.asarray(decode(encoded(image, "PNG"), max_image_pixels=LIMIT)).tolist() == [
        [[255, 255, 255], [255, 127, 127]]
    ]


def test_a_palette_with_a_transparent_colour_lies_on_white() -> None:
    image = Image.new("P", (2, 1), 0)
    image.putpalette([0, 0, 0, 10, 200, 30])
    image.putpixel((1, 0), 1)
    data = encoded(image, "PNG", transparency=0)
    assert np.asarray(decode(data, max_image_pixels=LIMIT)).tolist() == [[[255, 255, 255], [10, 200, 30]]]


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    grey = Image.fromarray(np.array([[0, 257 * 100, 65535]], np.uint16))
    assert np.asarray(decode(encoded(grey, "PNG"), max_image_pixels=LIMIT))[0, :, 0].tolist() == [0, 100, 255]


@pytest.mark.parametrize("scale", [1.0, 255.0])
def test_float_pictures_are_read_as_shares_or_as_bytes(scale: float) -> None:
    picture = Image.fromarray(np.array([[0.0, 0.4, 1.0]], np.float32) * np.float32(scale))
    assert np.asarray(decode(encoded(picture, "TIFF"), max_image_pixels=LIMIT))[0, :, 0].tolist() == [0, 102, 255]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_float_pictures_with_values_that_are_no_numbers_are_rejected(value: float) -> None:
    picture = Image.fromarray(np.array([[0.0, 0.4, 1.0, value]], np.float32))
    assert rejection(encoded(picture, "TIFF")).reason == NOT_FINITE


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    upright = photo(8, 4)
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    stored = upright.transpose(undo[orientation]) if orientation in undo else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert np.array_equal(
        np.asarray(decode(encoded(stored, "PNG", exif=exif), max_image_pixels=LIMIT)), np.asarray(upright)
    )


def test_a_moving_picture_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decode(data, max_image_pixels=LIMIT).getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize(("width", "height"), [(96, 32), (32, 96), (128, 64), (64, 320)])
def test_fit_is_the_shorter_side_resized_and_the_centre_cropped(width: int, height: int) -> None:
    side = min(width, height)
    resized = photo(width, height).resize((width * 16 // side, height * 16 // side), Image.Resampling.LANCZOS)
    left, top = (resized.width - 16) // 2, (resized.height - 16) // 2
    expected = np.asarray(resized.crop((left, top, left + 16, top + 16))).astype(int)
    assert np.abs(fit(photo(width, height), Size(16, 16)) - expected).max() <= 1


def test_fit_leaves_a_picture_of_the_right_size_alone() -> None:
    assert np.array_equal(fit(photo(32, 32), Size(32, 32)), np.asarray(photo(32, 32)))


def test_fit_enlarges_a_thread_without_a_gigantic_picture_between() -> None:
    assert fit(Image.new("RGB", (1, 1_000_000), "blue"), Size(512, 512)).shape == (512, 512, 3)


def test_a_square_is_cut_where_it_is_asked_for() -> None:
    wide = Image.fromarray(np.repeat(np.arange(0, 240, 2, dtype=np.uint8)[None, :, None], 40, 0).repeat(3, 2))
    left, middle, right = (fit(wide, Size(40, 40), place=(x, 0.3))[20, :, 0] for x in (0.0, 0.5, 1.0))
    assert left.tolist() == list(range(0, 80, 2))
    assert middle.tolist() == list(range(80, 160, 2))
    assert right.tolist() == list(range(160, 240, 2))
    assert np.array_equal(fit(wide, Size(40, 40)), fit(wide, Size(40, 40), place=(0.5, 0.9)))
    tall = wide.transpose(Image.Transpose.ROTATE_270)
    assert np.array_equal(fit(tall, Size(40, 40), place=(0.3, 0.0))[:, 20, 0], left)


def test_the_place_of_a_crop_is_a_function_of_identity() -> None:
    assert crop_place("a", "center") == (0.5, 0.5)
    places = [crop_place(str(number), "random") for number in range(400)]
    assert places == [crop_place(str(number), "random") for number in range(400)]
    for values in zip(*places, strict=True):
        assert 0 <= min(values) < 0.05
        assert 0.95 < max(values) < 1
        assert np.mean(values) == pytest.approx(0.5, abs=0.05)
    across, down = zip(*places, strict=True)
    assert abs(np.corrcoef(across, down)[0, 1]) < 0.15


def test_a_picture_is_fitted_to_an_oblong_size():
    found = fit(photo(90, 64), Size(48, 80))
    assert found.shape == (48, 80, 3)
    height = 90 * 48 / 80  # 54 of 64 lines are kept, 5 above and below are not
    box = (0, (64 - height) / 2, 90, (64 + height) / 2)
    expected = np.asarray(photo(90, 64).resize((80, 48), Image.Resampling.LANCZOS, box=box))
    assert np.abs(found.astype(int) - expected).max() <= 1
