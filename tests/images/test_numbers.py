"""Numbers of 16 bits and more as grey from 0 to 255: by their type and by what the file declares."""

import numpy as np
import pytest
from PIL import Image

from tests.helpers.image_files import DOUBLE, FLOAT, SHORT, write_png, write_tiff
from thaw.images.read import ReadImage, UnreadableImage, read_image

MAX_SAMPLE_VALUE, S_MIN, S_MAX, PHOTOMETRIC = 281, 340, 341, 262


def steps(*numbers: float, dtype: type) -> np.ndarray:
    """An image of 32 x 32 with a stripe for each number."""
    return np.repeat(np.array([numbers], dtype), 32 // len(numbers), axis=1).repeat(32, axis=0)


def stripes(image: ReadImage, count: int) -> list[int]:
    """What the stripes have become."""
    assert (image.pixels == image.pixels[:1, :, :1]).all(), "grey, and alike in each row"
    return image.pixels[0, :: 32 // count, 0].tolist()


@pytest.fixture
def tiff(tmp_path):
    """What becomes of a TIFF of these values and tags."""

    def read(values: np.ndarray, tags: dict | None = None, **options) -> ReadImage:
        write_tiff(tmp_path / "a.tif", values, tags or {}, **options)
        return read_image(tmp_path / "a.tif", 32)

    return read


def refused(tiff, values: np.ndarray, tags: dict | None = None, **options) -> str:
    with pytest.raises(UnreadableImage) as caught:
        tiff(values, tags, **options)
    return caught.value.why


def test_16_bits_of_a_png_are_scaled_by_65535(tmp_path):
    write_png(tmp_path / "a.png", steps(0, 40_000, 65_535, 300, dtype=np.uint16))
    found = read_image(tmp_path / "a.png", 32)
    assert stripes(found, 4) == [0, 156, 255, 1]
    assert found.converted == ("16 bits, 0 to 65535, scaled to 8",)


@pytest.mark.parametrize("largest", [200, 306])
def test_no_rule_depends_on_the_largest_number(tmp_path, largest):
    write_png(tmp_path / "a.png", steps(0, largest, dtype=np.uint16))
    assert stripes(read_image(tmp_path / "a.png", 32), 2) == [0, 1]


def test_16_bits_of_a_png_in_colour_are_scaled(tmp_path):
    colour = (10_000, 40_000, 65_535)
    write_png(tmp_path / "a.png", np.full((32, 32, 3), colour, np.uint16))
    found = read_image(tmp_path / "a.png", 32)
    np.testing.assert_allclose(found.pixels.mean(axis=(0, 1)), np.array(colour) / 257, atol=1)
    assert found.converted == ("16 bits, 0 to 65535, scaled to 8",)


def test_a_transparent_number_of_16_bits_is_white(tmp_path):
    write_png(tmp_path / "a.png", steps(0, 500, 501, 40_000, dtype=np.uint16), transparent=(500,))
    found = read_image(tmp_path / "a.png", 32)
    assert stripes(found, 4) == [0, 255, 2, 156]
    assert found.converted[1] == "on white"
    colours = np.zeros((32, 32, 3), np.uint16)
    colours[:, 16:] = (60_000, 0, 300)
    write_png(tmp_path / "a.png", colours, transparent=(60_000, 0, 300))
    found = read_image(tmp_path / "a.png", 32).pixels
    assert (found[:, 20:] == 255).all() and not found[:, :12].any()


@pytest.mark.parametrize("largest", [65_535, 1000])
def test_a_pgm_declares_its_white(tmp_path, largest):
    values = steps(0, largest // 2, largest, 0, dtype=np.uint16)
    (tmp_path / "a.pgm").write_bytes(b"P5 32 32 %d\n" % largest + values.astype(">u2").tobytes())
    assert stripes(read_image(tmp_path / "a.pgm", 32), 4) == [0, 127 + (largest == 1000), 255, 0]


@pytest.mark.parametrize("declared", [None, 4095, 1023, 3000, 65_535])
def test_a_tiff_declares_how_many_of_its_16_bits_it_uses(tiff, declared):
    tags = {} if declared is None else {MAX_SAMPLE_VALUE: (SHORT, [declared])}
    found = tiff(steps(0, 500, 1023, 65_535, dtype=np.uint16), tags)
    white = declared if declared in (4095, 1023) else 65_535  # 3000 is a statistic
    assert stripes(found, 4) == [round(min(number, white) / white * 255) for number in (0, 500, 1023, 65_535)]
    assert found.converted == (f"{white.bit_length()} bits, 0 to {white}, scaled to 8",)


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32, np.float32])
def test_where_white_is_zero_the_image_is_inverted(tiff, dtype):
    """Pillow inverts numbers of 8 bits only; of 32 it refuses whole ones."""
    white = 1 if dtype is np.float32 else np.iinfo(dtype).max
    values = steps(0, white, dtype=dtype)
    if dtype is np.uint32:
        assert refused(tiff, values, {PHOTOMETRIC: (SHORT, [0])}) == "not a readable image"
    else:
        assert stripes(tiff(values, {PHOTOMETRIC: (SHORT, [0])}), 2) == [255, 0]
    assert stripes(tiff(values), 2) == [0, 255]


def test_12_bits_are_scaled_by_4095(tmp_path):
    packed = np.packbits(np.unpackbits(steps(0, 4095, dtype=">u2").view(np.uint8).reshape(-1, 2), axis=1)[:, 4:])
    write_tiff(tmp_path / "a.tif", packed.reshape(32, 48), {256: (SHORT, [32]), 258: (SHORT, [12])})
    found = read_image(tmp_path / "a.tif", 32)
    assert stripes(found, 2) == [0, 255]
    assert found.converted == ("12 bits, 0 to 4095, scaled to 8",)


def test_floating_point_is_0_to_1(tiff):
    found = tiff(steps(0, 0.2, 0.5, 1, dtype=np.float32))
    assert stripes(found, 4) == [0, 51, 128, 255]
    assert found.converted == ("floating point, 0 to 1, scaled to 8",)
    assert stripes(tiff(steps(0, 0.2, dtype=np.float32)), 2) == [0, 51], "whatever the largest is"


@pytest.mark.parametrize("number", [1.02, -1, 65_535, np.inf, np.nan])
def test_floating_point_beyond_what_is_declared_is_refused(tiff, number):
    values = steps(0.5, number, 0, 1, dtype=np.float32)
    said = f"has the floating-point number {number:g}; accepted: "
    assert refused(tiff, values) == said + "0 to 1, or TIFF SMinSampleValue and SMaxSampleValue"
    tags = {S_MIN: (FLOAT, [-1.0]), S_MAX: (DOUBLE, [3.0])}
    if np.isnan(number) or np.isinf(number):
        assert refused(tiff, values, tags) == said + "finite ones"
    else:
        found = tiff(values, tags)
        assert stripes(found, 4) == [96, {1.02: 129, -1: 0, 65_535: 255}[number], 64, 128]
        assert found.converted == ("floating point, -1 to 3, scaled to 8",)


@pytest.mark.parametrize("dtype", [np.int16, np.int32])
def test_signed_numbers_need_a_declared_range(tiff, dtype):
    values = steps(-1000, 0, 1000, 3000, dtype=dtype)
    said = "TIFF with signed numbers, but without SMinSampleValue and SMaxSampleValue"
    assert refused(tiff, values) == said
    assert refused(tiff, values, {S_MIN: (DOUBLE, [-1000])}) == said
    found = tiff(values, {S_MIN: (DOUBLE, [-1000]), S_MAX: (DOUBLE, [1000])})
    assert stripes(found, 4) == [0, 128, 255, 255]
    assert found.converted == (f"{dtype().itemsize * 8} bits, signed, -1000 to 1000, scaled to 8",)


def test_signed_numbers_of_8_bits_are_refused(tiff):
    assert "which Pillow reads as unsigned ones" in refused(tiff, steps(-1, 1, dtype=np.int8))


@pytest.mark.parametrize("packed", [False, True])
def test_planes_of_8_bits_are_read_and_of_16_are_refused(tiff, packed):
    values = np.full((32, 32, 3), (10, 100, 200), np.uint8)
    assert (tiff(values, planar=True, packed=packed).pixels == values).all()
    said = refused(tiff, values.astype(np.uint16) * 257, planar=True, packed=packed)
    assert said == "TIFF of 16 bits with a plane for each channel, which Pillow reads wrong"


def test_16_bits_of_a_tiff_in_colour_are_scaled_unless_fewer_are_used(tiff):
    values = np.full((32, 32, 3), (10, 100, 200), np.uint16) * 257
    found = tiff(values)
    assert (found.pixels == (10, 100, 200)).all()
    assert found.converted == ("16 bits, 0 to 65535, scaled to 8",)
    said = refused(tiff, values, {MAX_SAMPLE_VALUE: (SHORT, [4095] * 3)})
    assert said == "TIFF in colour with 12 of 16 bits used, of which Pillow reads the upper 8"


def test_other_formats_do_not_say_what_is_white(tmp_path):
    header = "".join(
        f"{name:8}= {value:>20}".ljust(80)
        for name, value in (("SIMPLE", "T"), ("BITPIX", "16"), ("NAXIS", "2"), ("NAXIS1", "32"), ("NAXIS2", "32"))
    )
    (tmp_path / "a.fits").write_bytes((header + "END").ljust(2880).encode() + bytes(2880))
    with pytest.raises(UnreadableImage, match="FITS of more than 8 bits, whose black and white are not declared"):
        read_image(tmp_path / "a.fits", 32)
    Image.fromarray(steps(0, 25, dtype=np.float32)).save(tmp_path / "a.pfm", format="PPM")
    with pytest.raises(UnreadableImage, match="has the floating-point number 25; accepted: 0 to 1"):
        read_image(tmp_path / "a.pfm", 32)
