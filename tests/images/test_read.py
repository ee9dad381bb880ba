"""Image files of any format, mode and size, files that are no images, and the messages about them.

The numbers of 16 bits and more are in test_numbers.py.
"""

import gc
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers.image_files import SHORT, empty_png, write_png, write_tiff
from tests.helpers.project import ROOT
from thaw.images import decoding
from thaw.images.read import UnreadableImage, find_images, read_image, read_images, read_upright
from thaw.runtime.installed import install_command

# What silences Pillow is dropped with the filters of the first test.
pytestmark = [pytest.mark.filterwarnings("ignore::UserWarning"), pytest.mark.filterwarnings("ignore::RuntimeWarning")]

SUFFIXES = [".jpg", ".jpeg", ".JPG", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".avif", ".jp2", ".tga"]
LOSSY = (".jpg", ".jpeg", ".JPG", ".webp", ".avif", ".gif")


def gradient(width: int = 64, height: int = 64) -> Image.Image:
    """Red grows to the right, green to the bottom; no turn of it looks the same."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, np.full_like(x, 128)], axis=-1).astype(np.uint8))


def pixels(file: Path, side: int = 32, **options) -> np.ndarray:
    return read_image(file, side, **options).pixels.astype(int)


def saved(image: Image.Image, file: Path, **options) -> Path:
    image.save(file, **options)
    return file


def why_not(file: Path, **options) -> str:
    """The message of a refusal, one line that begins with the file's name, without that name."""
    with pytest.raises(UnreadableImage) as caught:
        read_image(file, 32, **options)
    assert str(caught.value) == f"{file}: {caught.value.why}"
    assert caught.value.why.isprintable()
    return caught.value.why


def in_a_process(code: str, *arguments: object) -> subprocess.CompletedProcess:
    """Run Python code with what reads images, in a process that has read none."""
    start = "import sys; from pathlib import Path; from thaw.images.read import *\n"
    command = [sys.executable, "-c", start + code, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)


# What is read


def test_an_image_of_the_networks_size_stays_as_it_is(tmp_path):
    image = gradient(32, 32)
    found = read_image(saved(image, tmp_path / "a.png"), 32)
    np.testing.assert_array_equal(found.pixels, np.asarray(image))
    assert (found.pixels.dtype, found.converted) == (np.uint8, ())


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (700, 1), (33, 31), (640, 480)])
@pytest.mark.parametrize("side", [32, 96])
def test_an_image_of_any_size_is_read(tmp_path, size, side):
    assert pixels(saved(gradient(*size), tmp_path / "a.png"), side).shape == (side, side, 3)


def test_of_a_wide_image_the_middle_is_taken(tmp_path):
    wide = np.zeros((40, 120, 3), np.uint8)
    wide[:, 40:80] = 200
    np.testing.assert_allclose(pixels(saved(Image.fromarray(wide), tmp_path / "a.png")), 200, atol=8)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_is_read_by_its_content_whatever_its_name_says(tmp_path, suffix):
    image = gradient(32, 32)
    file = saved(image, tmp_path / f"a{suffix}")
    atol = 24 if suffix in LOSSY else 1
    np.testing.assert_allclose(pixels(file), np.asarray(image), atol=atol)
    np.testing.assert_array_equal(
        pixels(file.rename(tmp_path / "b.jpg")), pixels(saved(image, tmp_path / f"a{suffix}"))
    )


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB"])
def test_an_image_of_any_mode_is_as_bright_as_it_was(tmp_path, mode):
    values = np.full((32, 32), 255, np.uint8)
    values[:, :16] = 51
    grey = Image.fromarray(values)
    if mode == "LAB":
        image = Image.merge("LAB", (grey, *[Image.new("L", (32, 32), 128)] * 2))  # 128 is no colour
    else:
        image = grey.convert("RGB").convert(mode) if mode in ("CMYK", "YCbCr") else grey.convert(mode)
    found = pixels(saved(image, tmp_path / "a.tif"))
    assert found[:, 20:].mean() == pytest.approx(255, abs=3)
    if mode not in ("1", "LAB"):
        assert found[:, :12].mean() == pytest.approx(51, abs=3)


@pytest.mark.parametrize("marker", [True, False])
def test_inks_of_a_jpeg_are_stored_inverted_as_adobe_and_browsers_have_them(tmp_path, marker):
    file = saved(Image.new("CMYK", (32, 32), (0, 255, 255, 0)), tmp_path / "a.jpg")
    content = file.read_bytes()
    assert b"Adobe" in content
    if not marker:
        start = content.index(b"\xff\xee")
        file.write_bytes(content[:start] + content[start + 16 :])
    found = read_image(file, 32)
    np.testing.assert_allclose(found.pixels.mean(axis=(0, 1)), [255, 0, 0], atol=3)
    assert found.converted == ("CMYK",)


def test_a_palette_is_seen_through(tmp_path):
    image = gradient(32, 32).quantize(32)
    for name in ("a.bmp", "a.png", "a.gif", "a.tif"):
        found = read_image(saved(image, tmp_path / name), 32)
        np.testing.assert_array_equal(found.pixels, np.asarray(image.convert("RGB")))
        assert found.converted == ("palette",)


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp", "a.tif"])
def test_of_an_animation_the_first_frame_is_taken(tmp_path, name):
    frames = [Image.new("RGB", (32, 32), (value, value, value)) for value in (0, 100, 200, 250)]
    found = read_image(saved(frames[0], tmp_path / name, save_all=True, append_images=frames[1:]), 32)
    assert found.pixels.max() < 3
    assert found.converted[-1] == "first frame of 4"


def test_a_damaged_later_frame_does_not_matter(tmp_path):
    frames = [gradient().rotate(angle) for angle in (0, 90, 180)]
    file = saved(frames[0], tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    whole = pixels(file)
    file.write_bytes(file.read_bytes()[:-2000])
    np.testing.assert_array_equal(pixels(file), whole)


# What is transparent


@pytest.mark.parametrize(("mode", "colour"), [("RGBA", (255, 0, 0, 0)), ("LA", (10, 0))])
def test_what_is_transparent_is_white(tmp_path, mode, colour):
    found = read_image(saved(Image.new(mode, (32, 32), colour), tmp_path / "a.png"), 32)
    assert (found.pixels == 255).all()
    assert found.converted == ("on white",)


@pytest.mark.parametrize("channels", [2, 4])
def test_colours_that_are_multiplied_by_their_transparency_are_read_so(tmp_path, channels):
    values = np.full((32, 32, channels), 64, np.uint8)
    values[..., -1] = 128
    write_tiff(tmp_path / "a.tif", values, {262: (SHORT, [channels // 2]), 338: (SHORT, [1])})  # 1: premultiplied
    np.testing.assert_allclose(pixels(tmp_path / "a.tif"), 64 + 127, atol=1)


def test_half_transparent_is_half_white(tmp_path):
    assert (pixels(saved(Image.new("RGBA", (40, 40), (0, 0, 0, 128)), tmp_path / "a.png")) == 127).all()


@pytest.mark.parametrize(
    ("transparency", "second"), [(0, 50), (b"\x00\xff", 50), (b"\x00\x00", 255), (b"\xff\x00", 255)]
)
def test_a_palette_is_transparent_by_number_and_by_bytes(tmp_path, transparency, second):
    image = Image.new("P", (32, 32), 0)
    image.paste(1, (16, 0, 32, 32))
    image.putpalette([10, 20, 30, 50, 50, 50])
    for name in ("a.png", "a.gif") if isinstance(transparency, int) else ("a.png",):
        found = read_image(saved(image, tmp_path / name, transparency=transparency), 32)
        assert (found.pixels[:, 20:] == second).all()
        assert (found.pixels[:, :12] == (255 if transparency != b"\xff\x00" else (10, 20, 30))).all()
        assert found.converted == ("palette", "on white")


@pytest.mark.parametrize("bits", [2, 4])
def test_a_transparent_grey_of_few_bits_is_white(tmp_path, bits):
    """Pillow compares 1 of 2 bits with 85, its pixel."""
    values = np.zeros((32, 32), np.uint8)
    values[:, 16:] = 1
    write_png(tmp_path / "a.png", values, bits, transparent=(1,))
    found = pixels(tmp_path / "a.png")
    assert (found[:, 20:] == 255).all() and not found[:, :12].any()


# How it is turned


UNDO = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}  # fmt: skip


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("name", "size"), [("a.jpg", (64, 64)), ("a.jpg", (1003, 1001)), ("a.png", (64, 64)), ("a.tif", (64, 64))]
)
def test_a_photograph_is_turned_as_its_exif_data_say(tmp_path, orientation, name, size):
    upright = gradient(*size)
    stored = upright.transpose(UNDO[orientation]) if orientation in UNDO else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 95} if name == "a.jpg" else {}
    found = read_image(saved(stored, tmp_path / name, exif=exif, **options), 32)
    expected = np.asarray(upright.resize((32, 32), Image.Resampling.LANCZOS)).astype(int)
    assert abs(found.pixels - expected).max() < (5 if name == "a.jpg" else 2)
    assert found.converted == (("rotated by EXIF",) if orientation > 1 else ())
    shown = read_upright(tmp_path / name, 16).astype(int)
    assert abs(shown - np.asarray(upright.resize((16, 16), Image.Resampling.LANCZOS))).max() < 6


def test_damaged_exif_data_turn_nothing(tmp_path):
    file = saved(gradient(), tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01")
    np.testing.assert_allclose(pixels(file), np.asarray(gradient().resize((32, 32), Image.Resampling.LANCZOS)), atol=8)


def test_an_image_for_display_keeps_its_proportions_and_grows_no_larger(tmp_path):
    file = saved(gradient(300, 200), tmp_path / "a.png")
    assert read_upright(file, 90).shape == (60, 90, 3)
    np.testing.assert_array_equal(read_upright(file, 300), np.asarray(gradient(300, 200)))
    assert read_upright(file, 1000).shape == (200, 300, 3)
    assert read_upright(saved(gradient(2, 900), tmp_path / "b.png"), 90).shape == (90, 1, 3)


# Large images


@pytest.mark.parametrize("size", [(500, 375), (427, 641), (1000, 701)])
def test_a_photograph_decoded_small_is_what_it_was(tmp_path, size):
    """Of odd sizes, too, whose last decoded pixels lie beyond the edge in part."""
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (12, 15, 3), np.uint8)).resize(size, Image.Resampling.BICUBIC)
    file = saved(image, tmp_path / "a.jpg", quality=90)
    whole = np.asarray(read_whole(file, 32)).astype(int)
    found = pixels(file)
    assert abs(found - whole).max() <= 6
    assert abs(found - whole).mean() < 1
    side = min(size) // 2 + 1
    np.testing.assert_array_equal(pixels(file, side), np.asarray(read_whole(file, side)), "is decoded in full")


def read_whole(file: Path, side: int) -> Image.Image:
    from PIL import ImageOps

    return ImageOps.fit(Image.open(file).convert("RGB"), (side, side), Image.Resampling.LANCZOS)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "CMYK"])
def test_a_large_image_is_averaged_over_blocks_first(tmp_path, monkeypatch, mode):
    image = gradient(901, 700)
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    file = saved(image.convert(mode), tmp_path / ("a.tif" if mode == "CMYK" else "a.png"))
    whole = pixels(file)
    monkeypatch.setattr(decoding, "LARGE", 300_000)
    reduced = pixels(file)
    assert (reduced != whole).any()
    assert abs(reduced - whole).max() <= 3


def test_an_image_of_more_pixels_is_refused_by_the_parameter_that_accepts_it(tmp_path):
    file = tmp_path / "a.png"
    file.write_bytes(empty_png(14_000, 14_143))
    assert file.stat().st_size < 300_000
    said = "14,000 x 14,143 pixels; accepted: 100,000,000 of this kind of PNG, by max_pixels=100000000"
    assert why_not(file) == said
    saved(gradient(40, 30), file)
    assert why_not(file, max_pixels=1_199).startswith("40 x 30 pixels; accepted: 1,199 of")
    assert pixels(file, max_pixels=1_200).shape == (32, 32, 3)
    assert why_not(file, max_pixels=500) == "more than 1,000 pixels; accepted: 500, by max_pixels=500"


@pytest.mark.parametrize(("name", "share"), [("a.webp", 2), ("a.avif", 2), ("a.qoi", 2), ("a.jp2", 4), ("a.bmp", 1)])
def test_formats_whose_decoders_take_more_memory_may_have_fewer_pixels(tmp_path, name, share):
    file = saved(gradient(100, 100), tmp_path / name)
    assert pixels(file, max_pixels=10_000 * share).shape == (32, 32, 3)
    assert f"accepted: {(10_000 * share - share) // share:,} of" in why_not(file, max_pixels=10_000 * share - share)


def test_a_compressed_tiff_in_one_strip_counts_twice(tmp_path):
    values = np.zeros((100, 100), np.uint8)
    write_tiff(tmp_path / "a.tif", values, {}, packed=True)
    write_tiff(tmp_path / "b.tif", values, {})
    assert "accepted: 9,999 of this kind of TIFF" in why_not(tmp_path / "a.tif", max_pixels=19_999)
    assert pixels(tmp_path / "a.tif", max_pixels=20_000).shape == (32, 32, 3)
    assert pixels(tmp_path / "b.tif", max_pixels=10_000).shape == (32, 32, 3)


def test_a_jpeg_may_be_of_any_size_as_it_is_decoded_small(tmp_path):
    image = gradient(1600, 1200)
    file = saved(image, tmp_path / "a.jpg", quality=90)
    whole = pixels(file)
    np.testing.assert_array_equal(pixels(file, max_pixels=1600 * 1200 // 64), whole)
    assert "400 x 300 pixels" in why_not(saved(image, file), max_pixels=1000) or "200 x 150" in why_not(
        file, max_pixels=1000
    )
    panorama = saved(gradient(6400, 100), tmp_path / "b.jpg", quality=90)
    assert pixels(panorama, max_pixels=6400 * 100 // 4).shape == (32, 32, 3)


@pytest.mark.parametrize(("subsampling", "samples"), [(0, 3), (1, 2), (2, 1.5)])
def test_a_progressive_jpeg_counts_by_its_samples(tmp_path, subsampling, samples):
    """libjpeg holds 2 bytes for each."""
    file = saved(gradient(1600, 1200), tmp_path / "a.jpg", progressive=True, subsampling=subsampling)
    accepted = int(1600 * 1200 * samples / 3)
    assert pixels(file, max_pixels=accepted).shape == (32, 32, 3)
    assert why_not(file, max_pixels=accepted - 1).startswith("1,600 x 1,200 pixels; accepted: 1,9")


def test_what_a_large_image_takes_is_little_more_than_its_pixels(tmp_path):
    """4 bytes a pixel of what Pillow decodes: conversions of all of it would take 3 to 13 times that."""
    side = 4200
    ramp = np.broadcast_to(np.linspace(0, 255, side, dtype=np.float32), (side, side))
    grey = Image.fromarray(ramp.astype(np.uint8))
    saved(Image.merge("RGBA", (grey,) * 4), tmp_path / "a.png", compress_level=1)
    saved(Image.fromarray(ramp / 255), tmp_path / "b.tif")
    saved(Image.fromarray((ramp * 257).astype(np.uint16)), tmp_path / "c.png", compress_level=1)
    code = """
import resource
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak()
for file in find_images([Path(sys.argv[1])]):
    read_image(file, 32)
print(peak() - before)
"""
    result = in_a_process(code, tmp_path)
    assert int(result.stdout) * 1024 < 6 * side**2


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_the_error_of_a_damaged_file_keeps_no_image(tmp_path, name):
    file = saved(gradient(3000, 2000), tmp_path / name)
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 9 // 10])
    gc.collect()
    held, errors = blocks(), []
    for _ in range(3):
        with pytest.raises(UnreadableImage, match="not a readable image") as caught:
            read_image(file, 1024)
        errors.append(caught.value)
    assert blocks() <= held


def blocks() -> int:
    """Blocks of memory that Pillow has for pixels; each holds 16 MiB at most."""
    stats = Image.core.get_stats()
    return stats["allocated_blocks"] - stats["freed_blocks"]


# What is no image


NO_IMAGES = [b"text", bytes(5000), b"\x89PNG\r\n\x1a\n", b"GIF89a", b"\xff\xd8\xff\xe0", b"II*\x00"]


@pytest.mark.parametrize("content", [b"", *NO_IMAGES])
def test_the_content_of_a_file_is_read_as_the_file_is(tmp_path, content):
    file = tmp_path / "a.png"
    for good in (saved(gradient(90, 60), tmp_path / "b.jpg"), saved(gradient(), tmp_path / "b.webp")):
        np.testing.assert_array_equal(read_image(good.read_bytes(), 32).pixels, pixels(good))
    file.write_bytes(content)
    with pytest.raises(UnreadableImage) as caught:
        read_image(content, 32)
    assert caught.value.why == why_not(file)
    assert str(caught.value) == f"image: {caught.value.why}"


@pytest.mark.parametrize("content", NO_IMAGES)
def test_a_file_that_is_no_image_is_refused_in_one_line(tmp_path, content):
    for name in ("a.png", "a.jpg", "a.tga"):
        (tmp_path / name).write_bytes(content)
        assert why_not(tmp_path / name).startswith("not a readable image")


def test_an_empty_file_is_told_from_others(tmp_path):
    (tmp_path / "a.jpg").touch()
    assert why_not(tmp_path / "a.jpg") == "not a readable image (0 bytes)"


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp", ".gif", ".ppm", ".tga"])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_truncated_file_is_refused(tmp_path, suffix, share):
    rng = np.random.default_rng(0)
    file = saved(Image.fromarray(rng.integers(0, 256, (80, 80, 3), np.uint8)), tmp_path / f"a{suffix}")
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * share)])
    assert why_not(file).startswith("not a readable image (")


def test_a_jpeg_with_junk_at_its_end_is_read(tmp_path):
    file = saved(gradient(), tmp_path / "a.jpg")
    content, whole = file.read_bytes(), pixels(file)
    assert content.endswith(b"\xff\xd9")
    for junk in (content + b"junk" * 99, content[:-2] + b"junk" * 99 + content[-2:], content + content[:100]):
        file.write_bytes(junk)
        np.testing.assert_array_equal(pixels(file), whole)


def test_what_is_no_file_is_told(tmp_path):
    (tmp_path / "link.png").symlink_to(tmp_path / "gone.png")
    os.mkfifo(tmp_path / "pipe.png")
    said = {"none.png": "not found", "link.png": "not found", "pipe.png": "not a file"}
    assert {name: why_not(tmp_path / name) for name in said} == said
    assert why_not(tmp_path / ("a" * 300)) == "not a readable image (File name too long)"


def test_a_name_is_printed_in_one_line(tmp_path):
    file = tmp_path / "a\nb\x1b[2J.png"
    with pytest.raises(UnreadableImage) as caught:
        read_image(file, 32)
    assert str(caught.value) == rf"{tmp_path}/a\nb\x1b[2J.png: not found"


# Many files


def test_images_are_read_in_threads_in_order(tmp_path):
    files = [
        saved(gradient(60 + number, 50), tmp_path / f"{number}.{'jpg' if number % 2 else 'png'}")
        for number in range(99)
    ]
    files[7].write_bytes(b"text")
    found = list(read_images(files, 16, threads=4))
    assert isinstance(found[7], UnreadableImage)
    for file, image in zip(files[:7] + files[8:], found[:7] + found[8:], strict=True):
        np.testing.assert_array_equal(image.pixels, read_image(file, 16).pixels)


def test_the_answer_does_not_depend_on_the_files_before(tmp_path):
    """Pillow loads its plugins as it meets suffixes: after a .tga it would take an .ico for one."""
    icon = saved(gradient(32, 32), tmp_path / "b.ico", bitmap_format="bmp")
    saved(gradient(32, 32), tmp_path / "a.tga")
    code = "print([read_image(Path(file), 32).pixels.tolist() for file in sys.argv[1:]][-1])"
    alone, after = in_a_process(code, icon), in_a_process(code, tmp_path / "a.tga", icon)
    assert alone.stdout == after.stdout
    assert alone.stdout.startswith("[[[")


def test_nothing_is_printed_beside_the_refusal(tmp_path):
    """By libtiff into file descriptor 2, by Pillow as a warning, and by its log."""
    rng = np.random.default_rng(0)
    write_tiff(tmp_path / "a.tif", rng.integers(0, 256, (64, 64), np.uint8), {60000: (SHORT, [1])}, packed=True)
    content = bytearray((tmp_path / "a.tif").read_bytes())
    content[200:260] = bytes(60)
    (tmp_path / "a.tif").write_bytes(content)
    write_tiff(tmp_path / "b.tif", np.zeros((8, 8), np.uint8), {277: (SHORT, [60000])})
    saved(gradient(), tmp_path / "c.jpg", exif=b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01")
    code = "print([type(one).__name__ for one in read_images(find_images([Path(sys.argv[1])]), 32)])"
    result = in_a_process(code, tmp_path)
    assert result.stdout == "['UnreadableImage', 'UnreadableImage', 'ReadImage']\n"
    assert result.stderr == ""
    loud = "from PIL import Image, TiffImagePlugin\nfor file in Path(sys.argv[1]).iterdir():\n"
    loud += "    try: image = Image.open(file); image.getexif(); image.load()\n    except Exception: pass"
    noise = in_a_process(loud, tmp_path).stderr
    assert all(word in noise for word in ("ZIPDecode", "More samples per pixel", "Corrupt EXIF")), "they would be"


def test_reading_images_loads_no_backend():
    result = in_a_process("print({'keras', 'tensorflow', 'jax', 'sklearn'} & set(sys.modules))")
    assert result.stdout == "set()\n"


def test_heic_without_its_package_is_told_with_what_to_install(tmp_path):
    file = tmp_path / "a.HEIC"
    file.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99))
    code = """
sys.modules["pillow_heif"] = None
try:
    read_image(Path(sys.argv[1]), 32)
except UnreadableImage as error:
    print(error.why)
"""
    said = in_a_process(code, file).stdout
    assert said == f"HEIC, which iPhones write; to read it: {install_command('heic')}\n"
    assert why_not(file).startswith("not a readable image"), "with it, the file is damaged"


def test_heic_is_read_with_its_package(tmp_path):
    pytest.importorskip("pillow_heif")
    read_image(saved(gradient(), tmp_path / "a.png"), 32)  # registers the format
    file = saved(gradient(), tmp_path / "a.heic", quality=95)
    expected = np.asarray(gradient().resize((32, 32), Image.Resampling.LANCZOS))
    np.testing.assert_allclose(pixels(file), expected, atol=12)


# Folders


def test_folders_are_searched_by_name_and_what_is_hidden_is_left(tmp_path):
    for name in ("b.png", "a.png", "sub/c.png", ".hidden", ".git/d.png", "sub/.ipynb_checkpoints/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    given = tmp_path / "b.png"
    assert names(find_images([given, tmp_path]), tmp_path) == ["b.png", "a.png", "b.png", "sub/c.png"]


def names(files: list[Path], top: Path) -> list[str]:
    return [str(file.relative_to(top)) for file in files]


def test_a_linked_folder_is_searched_once_and_a_loop_of_links_ends(tmp_path):
    top, elsewhere = tmp_path / "top", tmp_path / "elsewhere"
    for folder in (top / "z", elsewhere):
        folder.mkdir(parents=True)
        (folder / "c.png").touch()
    (top / "a link to z").symlink_to(top / "z")
    (top / "b").mkdir()
    (top / "b/deeper link to z").symlink_to(top / "z")
    (top / "z/loop").symlink_to(top)
    (top / "outside").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(top)
    assert names(find_images([top]), top) == ["outside/c.png", "z/c.png"]


def test_a_broken_link_is_listed_and_a_pipe_is_not(tmp_path):
    (tmp_path / "link.png").symlink_to(tmp_path / "gone.png")
    os.mkfifo(tmp_path / "pipe.png")
    assert find_images([tmp_path]) == [tmp_path / "link.png"]
    assert find_images([tmp_path / ("a" * 300)]) == [tmp_path / ("a" * 300)]


def test_a_folder_that_cannot_be_listed_is_refused_by_name(tmp_path, monkeypatch):
    closed = tmp_path / "closed"
    closed.mkdir()
    (tmp_path / "a.png").touch()
    scandir = os.scandir

    def denied(path):
        if Path(path) == closed:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)
    assert names(find_images([tmp_path]), tmp_path) == ["a.png", "closed"]
    assert re.match("a folder that cannot be listed", why_not(closed))
    assert why_not(tmp_path) == "a folder; accepted: an image file"
