"""Heat maps, signals and overlays: exact small expectations, arrays of every rank and size of number, bad arrays."""

import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
from pictures import solid
from PIL import Image

from innvest_lite.errors import InvalidInputError
from innvest_lite.visualize import COLORMAPS, channels, grid, heatmap, overlay, project, save, slices

RED, BLUE, WHITE = [129, 0, 16], [0, 53, 157], [255, 255, 255]


def random_map(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


# --- heatmap -------------------------------------------------------------------------------------------------------


def test_heatmap_has_the_ends_and_the_centre_of_its_map():
    assert heatmap(np.array([[-2.0, 0.0, 2.0]])).tolist() == [[BLUE, WHITE, RED]]
    assert heatmap(np.array([[-2.0, 0.0, 2.0]]), "seismic").tolist() == [[[0, 0, 96], WHITE, [96, 0, 0]]]
    assert heatmap(np.array([[1.0, 0.0]]), "blue-black-red")[0, 1].tolist() == [0, 0, 0]


def test_heatmap_interpolates_between_the_colours():
    assert heatmap(np.array([[1.0, 0.25]]), "seismic")[0, 1].tolist() == [255, 128, 128]


def test_heatmap_sums_channels_with_their_signs():
    relevance = np.array([[[3.0, -3.0], [1.0, 1.0], [-4.0, 2.0]]])
    assert heatmap(relevance).tolist() == [[WHITE, RED, BLUE]]


def test_heatmap_scales_each_image_by_its_own_largest_absolute_value():
    relevance = np.array([[[[1.0], [0.0]]], [[[-100.0], [50.0]]]])
    assert heatmap(relevance)[:, 0, 0].tolist() == [RED, BLUE]
    assert np.array_equal(heatmap(relevance)[1], heatmap(relevance[1]))


def test_limit_is_shared_by_all_images_and_clips():
    relevance = np.array([[[[1.0]]], [[[2.0]]], [[[9.0]]]])
    first, second, third = heatmap(relevance, "seismic", limit=2)[:, 0, 0].tolist()
    assert (first, second, third) == ([255, 0, 0], [96, 0, 0], [96, 0, 0])


def test_limit_counts_the_sum_of_the_channels():
    assert heatmap(np.full((1, 1, 4), 0.5), "seismic", limit=4)[0, 0].tolist() == [255, 0, 0]


def test_negated_relevance_exchanges_red_and_blue():
    relevance = random_map((5, 7, 3))
    assert np.array_equal(heatmap(-relevance, "seismic"), heatmap(relevance, "seismic")[..., ::-1])


DIVERGING = ("blue-white-red", "seismic", "blue-black-red")


@pytest.mark.parametrize("name", DIVERGING)
def test_colour_maps_are_centred(name):
    assert len(COLORMAPS[name]) % 2 == 1
    assert len(set(COLORMAPS[name][len(COLORMAPS[name]) // 2])) == 1, "the neutral colour is a grey"


def lightness(color):
    """OKLab's lightness of an sRGB colour."""
    share = np.array(color) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    long = linear @ [0.4122214708, 0.5363325363, 0.0514459929]
    medium = linear @ [0.2119034982, 0.6806995451, 0.1073969566]
    short = linear @ [0.0883024619, 0.2817188376, 0.6299787005]
    return np.cbrt([long, medium, short]) @ [0.2104542553, 0.7936177850, -0.0040720468]


def test_default_map_is_as_light_for_minus_as_for_plus_and_falls_evenly():
    values = np.array([lightness(color) for color in COLORMAPS["blue-white-red"]])
    assert values == pytest.approx(values[::-1], abs=0.01)
    assert np.diff(values[8:]) == pytest.approx(np.full(8, -0.62 / 8), abs=0.01)


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 3), (2, 4, 5, 3)])
@pytest.mark.parametrize("make", [heatmap, project])
def test_ranks(make, shape):
    expected = (*shape[:2], 3) if len(shape) == 2 else (*shape[:-1], 3)
    picture = make(random_map(shape))
    assert (picture.shape, picture.dtype) == (expected, np.uint8)


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 3), (2, 4, 5, 3)])
def test_all_zero_is_neutral_without_warnings(shape):
    with np.errstate(all="raise"):
        assert (heatmap(np.zeros(shape)) == 255).all()
        assert (project(np.zeros(shape)) == 128).all()
        image = np.full(shape, 77, np.uint8)
        assert (overlay(np.zeros(shape), image) == 77).all()


SIZES_OF_NUMBERS = [
    (np.float16, 6e4),
    (np.float16, 2.0**-23),
    (np.float32, 1e30),
    (np.float32, 1e38),
    (np.float32, 1e-38),
    (np.float64, 1e308),
    (np.float64, 1e-300),
]


@pytest.mark.parametrize(("dtype", "scale"), SIZES_OF_NUMBERS)
def test_size_of_numbers_does_not_matter(dtype, scale):
    """The first pixel's channels add up to more than the type can hold."""
    relevance = (np.array([[[1.0, 0.5, 0.5], [-1.0, -1.0, 0.0]]]) * scale).astype(dtype)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        assert heatmap(relevance, "seismic").tolist() == [[[96, 0, 0], [0, 0, 96]]]
        assert project(relevance)[0, :, 0].tolist() == [255, 0]
        assert overlay(relevance, relevance, opacity=0)[0, :, 0].tolist() == [255, 0]


def test_differences_and_quotients_of_the_largest_numbers():
    extreme = np.array([[-1.7e308, 0.0, 1.7e308]])
    with np.errstate(all="raise", under="ignore"):
        assert overlay(extreme, extreme, opacity=0)[0, :, 0].tolist() == [0, 128, 255]
        assert heatmap(extreme, limit=1e-300).tolist() == [[BLUE, WHITE, RED]]


def test_bfloat16_and_integers_are_numbers():
    relevance = np.array([[-2, 0, 2]])
    assert heatmap(relevance).tolist() == [[BLUE, WHITE, RED]]
    assert heatmap(relevance.astype(ml_dtypes.bfloat16)).tolist() == [[BLUE, WHITE, RED]]


@pytest.mark.parametrize("limit", [0, -1.0, np.inf, np.nan, "big", True, np.ones(2)])
def test_limit_must_be_a_positive_number(limit):
    with pytest.raises(InvalidInputError, match="limit is .*expected one positive, finite number"):
        heatmap(np.ones((2, 2)), limit=limit)


def test_unknown_map_suggests_the_nearest():
    with pytest.raises(InvalidInputError, match=r"called 'sesmic'\. Did you mean 'seismic'\? .*'blue-white-red'"):
        heatmap(np.ones((2, 2)), colormap="sesmic")
    with pytest.raises(InvalidInputError, match="No colour map is called None"):
        heatmap(np.ones((2, 2)), colormap=None)


# --- what no maker takes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [heatmap, project])
@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones(3), r"shape \(3,\); expected a batch \(batch, height, width, channels\)"),
        (np.ones((1, 1, 2, 2, 3)), r"shape \(1, 1, 2, 2, 3\)"),
        (np.ones((0, 4, 4, 3)), "no empty axis"),
        (np.ones((2, 2), complex), "type complex128; expected real numbers"),
        (np.array([["a"]]), "expected real numbers"),
        (np.array([[1.0, np.nan], [np.inf, 1.0]]), r"2 values that are NaN or Inf, the first at \(0, 1\)"),
        (np.array([[1.0, -np.inf]]), "1 values that are NaN or Inf"),
    ],
)
def test_bad_arrays(make, array, message):
    with pytest.raises(InvalidInputError, match=message):
        make(array)


# --- project -------------------------------------------------------------------------------------------------------


def test_project_is_half_plus_x_over_twice_the_largest():
    signal = np.array([[[-4.0, 0.0, 2.0]], [[4.0, 1.0, -2.0]]])
    assert project(signal).tolist() == [[[0, 128, 191]], [[255, 159, 64]]]


def test_project_scales_each_image_by_itself_and_all_channels_together():
    signal = np.array([[[[1.0, 0.5, 0.0]]], [[[-10.0, 5.0, 0.0]]]])
    assert project(signal)[:, 0, 0].tolist() == [[255, 191, 128], [0, 191, 128]]


def test_project_repeats_one_channel():
    picture = project(np.array([[[-1.0], [0.5]]]))
    assert picture.tolist() == [[[0, 0, 0], [191, 191, 191]]]
    picture[0, 0, 0] = 9  # an array of its own, not three views of one channel
    assert picture[0, 0].tolist() == [9, 0, 0]


@pytest.mark.parametrize("channels", [2, 4])
def test_project_wants_colours(channels):
    with pytest.raises(InvalidInputError, match=rf"signal has {channels} channels; expected 1 .* or 3 .*heatmap"):
        project(np.ones((2, 2, channels)))


# --- overlay -------------------------------------------------------------------------------------------------------


def test_overlay_shows_the_image_where_nothing_is_relevant_and_the_map_where_all_is():
    picture = overlay(np.array([[0.0, 1.0, -1.0]]), np.array([[200, 10, 250]], np.uint8), opacity=1)
    assert picture.tolist() == [[[200, 200, 200], RED, BLUE]]


def test_overlay_blends_in_proportion():
    relevance, image = np.array([[1.0, 0.25]]), np.array([[0, 100]], np.uint8)
    picture = overlay(relevance, image, colormap="seismic", opacity=0.5)
    assert picture[0, 0].tolist() == [48, 0, 0]  # weight 0.5 of (96, 0, 0) on black
    assert picture[0, 1].tolist() == [139, 107, 107]  # weight 0.25 of (255, 128, 128) on 100


def test_overlay_takes_bytes_as_they_are_and_stretches_floats():
    zero = np.zeros((1, 3))
    assert overlay(zero, np.array([[50, 60, 70]], np.uint8))[0, :, 0].tolist() == [50, 60, 70]
    assert overlay(zero, np.array([[50.0, 60.0, 70.0]]))[0, :, 0].tolist() == [0, 128, 255]
    assert overlay(zero, np.array([[-3, 0, 3]]))[0, :, 0].tolist() == [0, 128, 255]
    assert overlay(zero, np.full((1, 3), 0.2))[0, :, 0].tolist() == [128, 128, 128]


def test_overlay_stretches_each_image_by_itself():
    images = np.array([[[[0.0], [1.0]]], [[[5.0], [9.0]]]])
    assert overlay(np.zeros((2, 1, 2, 1)), images)[..., 0].tolist() == [[[0, 255]], [[0, 255]]]


def test_overlay_turns_colours_to_grey_as_pillow_does():
    image = np.random.default_rng(0).integers(0, 256, (6, 5, 3), np.uint8)
    expected = np.asarray(Image.fromarray(image).convert("L"), int)
    picture = overlay(np.zeros((6, 5, 3)), image).astype(int)
    assert abs(picture[..., 0] - expected).max() <= 1  # Pillow rounds down
    assert (picture == picture[..., :1]).all()


def test_overlay_uses_the_limit():
    assert overlay(np.ones((1, 1)), np.zeros((1, 1), np.uint8), "seismic", limit=2, opacity=1).tolist() == [[[255, 0, 0]]]


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 5)), r"image has the shape \(4, 5\) and relevance \(4, 5, 3\); expected the same rank"),
        (np.zeros((1, 4, 5, 3)), "expected the same rank"),
        (np.zeros((4, 5, 2)), "image has 2 channels"),
        (np.full((4, 5, 3), np.nan), "image has 60 values that are NaN"),
    ],
)
def test_overlay_wants_the_image_of_the_relevance(image, message):
    with pytest.raises(InvalidInputError, match=message):
        overlay(np.ones((4, 5, 3)), image)


@pytest.mark.parametrize("opacity", [-0.1, 1.1, np.nan, "half"])
def test_overlay_opacity(opacity):
    with pytest.raises(InvalidInputError, match="opacity is"):
        overlay(np.ones((2, 2)), np.ones((2, 2)), opacity=opacity)


# --- percentiles and magnitudes --------------------------------------------------------------------------------------


def test_an_outlier_no_longer_pales_the_rest():
    relevance = np.ones((10, 10))
    relevance[0, 0] = 1000
    assert (heatmap(relevance)[1:] > 250).all()
    shown = heatmap(relevance, percentile=99)
    assert shown[0, 0].tolist() == RED
    np.testing.assert_array_equal(heatmap(relevance, percentile=98), np.broadcast_to(RED, (10, 10, 3)))


def test_percentiles_are_of_each_image():
    relevance = random_map((3, 8, 9, 2)) * np.array([1e-20, 1, 1e20])[:, None, None, None]
    alone = [heatmap(one, percentile=90) for one in relevance]
    np.testing.assert_array_equal(heatmap(relevance, percentile=90), alone)
    sums = np.abs(relevance.sum(axis=-1))
    full = (heatmap(relevance, percentile=90) == RED).all(-1) | (heatmap(relevance, percentile=90) == BLUE).all(-1)
    bounds = np.percentile(sums, 90, axis=(1, 2), keepdims=True)
    assert full[sums > bounds].all() and not full[sums < 0.9 * bounds].any()


def test_a_percentile_of_zero_falls_back_to_the_largest():
    relevance = np.zeros((10, 10))
    relevance[3, 4] = -2
    assert heatmap(relevance, percentile=50)[3, 4].tolist() == BLUE
    assert (heatmap(np.zeros((4, 4)), percentile=50) == 255).all()


def test_magnitudes_have_one_arm():
    relevance = np.array([[-2.0, 0.0, 2.0]])
    assert heatmap(relevance, absolute=True).tolist() == [[RED, WHITE, RED]]
    image = np.full((1, 3), 255, np.uint8)
    np.testing.assert_array_equal(overlay(relevance, image, absolute=True), overlay(np.abs(relevance), image))


@pytest.mark.parametrize("options", [{"percentile": 0}, {"percentile": 101}, {"percentile": "99"}, {"percentile": True}])
def test_what_is_no_percentile(options):
    for make in (lambda **given: heatmap(np.ones((2, 2)), **given), lambda **given: slices(np.ones((2, 2, 2)), **given)):
        with pytest.raises(InvalidInputError, match="percentile is"):
            make(**options)
    with pytest.raises(InvalidInputError, match="give one of the two"):
        heatmap(np.ones((2, 2)), limit=1, percentile=99)


# --- channels --------------------------------------------------------------------------------------------------------


def test_channels_share_a_scale():
    signal = random_map((2, 4, 5, 7))
    pictures = channels(signal)
    assert pictures.shape == (2, 7, 4, 5, 3) and pictures.dtype == np.uint8
    largest = np.abs(signal).max(axis=(1, 2, 3), keepdims=True)
    expected = np.rint(255 * np.moveaxis(signal / largest / 2 + 0.5, -1, 1))
    np.testing.assert_array_equal(pictures, np.repeat(expected[..., None], 3, -1))
    np.testing.assert_array_equal(channels(signal[1]), pictures[1])


# --- the caller's arrays -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_nothing_edits_its_arguments(dtype, tmp_path):
    relevance, image = random_map((2, 6, 5, 3)).astype(dtype), random_map((2, 6, 5, 3), seed=1).astype(dtype)
    picture = solid((1, 2, 3))
    before = [array.copy() for array in (relevance, image, picture)]
    for array in (relevance, image, picture):
        array.flags.writeable = False
    heatmap(relevance), heatmap(relevance, limit=0.1), project(relevance), overlay(relevance, image)
    grid([[picture]]), save(picture, tmp_path / "a.png")
    for array, copy in zip((relevance, image, picture), before, strict=True):
        assert np.array_equal(array, copy)


# --- lightness of the import ---------------------------------------------------------------------------------------


def test_importing_is_light():
    heavy = "('tensorflow', 'keras', 'matplotlib')"
    code = f"import sys, innvest_lite.visualize; print([name for name in {heavy} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


# --- maps without a neutral colour ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "most"), [("viridis", 2), ("magma", 3)])
def test_maps_by_name_are_those_that_matplotlib_shows(name, most):
    published = 255 * np.array(pytest.importorskip("matplotlib").colormaps[name].colors)
    values = np.linspace(-1, 1, 256)
    assert np.abs(heatmap(values[None], name)[0] - published).max() < most
    assert np.abs(heatmap((values[None] + 1) / 2, name, absolute=True)[0] - published).max() < most


def test_jet_is_as_its_formula():
    """Red, green and blue are the same trapezium, two eighths apart."""
    values = np.linspace(-1, 1, 101)
    place = (values + 1) / 2
    top = [np.clip(1.5 - np.abs(4 * place - centre), 0, 1) for centre in (3, 2, 1)]
    assert np.abs(heatmap(values[None], "jet")[0] - 255 * np.stack(top, axis=-1)).max() <= 1


@pytest.mark.parametrize("name", ["viridis", "magma", "jet"])
def test_zero_is_the_middle_of_the_maps_without_a_neutral_colour_and_the_first_colour_of_magnitudes(name):
    colors = [list(color) for color in COLORMAPS[name]]
    assert heatmap(np.array([[-1.0, 0.0, 1.0]]), name).tolist() == [[colors[0], colors[len(colors) // 2], colors[-1]]]
    assert heatmap(np.array([[-1.0, 0.0]]), name, absolute=True).tolist() == [[colors[-1], colors[0]]]
    image = np.zeros((1, 2), np.uint8)
    assert overlay(np.array([[-1.0, 0.0]]), image, name, opacity=1, absolute=True).tolist() == [[colors[-1], [0, 0, 0]]]


def test_magnitudes_in_a_diverging_map_have_the_colours_of_positive_values():
    assert heatmap(np.array([[-1.0, 0.0]]), absolute=True).tolist() == [[RED, WHITE]]
