import numpy as np
import pytest

from warpzone.report.pictures import (
    CAPTION_HEIGHT,
    Caption,
    add_arrow,
    add_captions,
    add_ghost,
    dim,
    side_by_side,
)

CAPTION = Caption(
    name="bc-ppo-1",
    seconds=12.34,
    place="1234 pixels",
    keys=("left", "right", "B", "A"),
    held="",
    ended=None,
    is_success=False,
)


def grey(height: int, width: int, value: int = 100) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def below(caption: Caption, width: int = 256) -> np.ndarray:
    """What is drawn below a screen."""
    return add_captions(grey(40, width), caption)[40:]


def columns_that_differ(a: Caption, b: Caption) -> np.ndarray:
    return np.any(below(a) != below(b), axis=(0, 2)).nonzero()[0]


def test_a_ghost_is_blended_in_around_its_place_and_nowhere_else() -> None:
    screen, other = grey(240, 256), grey(240, 256)
    other[80:120, 30:54] = 200
    add_ghost(screen, other, to=(150, 208), at=(42, 108))
    changed = np.any(screen != 100, axis=-1)
    rows, columns = changed.nonzero()
    # 24 x 40 pixels, of which the place is 12 from the left and 12 from the bottom.
    assert (columns.min(), columns.max()) == (150 - 12, 150 + 11)
    assert (rows.min(), rows.max()) == (208 - 28, 208 + 11)
    assert changed.sum() == 24 * 40
    assert set(screen[changed].ravel()) == {round(0.45 * 100 + 0.55 * 200)}


def test_of_a_ghost_at_the_edge_a_part_is_seen() -> None:
    screen, other = grey(240, 256), grey(240, 256, 200)
    add_ghost(screen, other, to=(2, 235), at=(128, 100))
    changed = np.any(screen != 100, axis=-1)
    assert changed.sum() == 14 * 33
    assert changed[-33:, :14].all()
    # Below its own screen there is nothing of it.
    screen = grey(240, 256)
    add_ghost(screen, other, to=(128, 100), at=(128, 279))
    assert not np.any(screen != 100)


@pytest.mark.parametrize(("pixels", "edge", "far"), [(300, 255, 0), (-300, 0, 255)])
def test_an_arrow_is_at_the_edge_that_it_points_to(
    pixels: int, edge: int, far: int
) -> None:
    screen = grey(240, 256)
    add_arrow(screen, 120, pixels)
    changed = np.any(screen != 100, axis=-1)
    rows, columns = changed.nonzero()
    assert edge in columns
    assert far not in columns
    assert columns.max() - columns.min() < 60
    assert rows.mean() == pytest.approx(120, abs=2)


@pytest.mark.parametrize("y", [-40, 0, 239, 400])
def test_an_arrow_stays_on_the_screen(y: int) -> None:
    screen = grey(240, 256)
    add_arrow(screen, y, 5)
    assert np.any(screen != 100)


def test_a_caption_is_below_the_screen_which_stays_as_it_is() -> None:
    screen = grey(240, 256)
    picture = add_captions(screen, CAPTION, CAPTION)
    assert picture.shape == (240 + 2 * CAPTION_HEIGHT, 256, 3)
    assert np.array_equal(picture[:240], screen)
    first, second = np.split(picture[240:], 2)
    assert np.array_equal(first, second)
    assert np.any(first != first[0, 0])


def test_sizes_are_even_and_letters_grow_with_the_screen() -> None:
    assert add_captions(grey(99, 301), CAPTION).shape == (136, 302, 3)
    assert add_captions(grey(400, 600), CAPTION).shape == (472, 600, 3)


def test_the_keys_that_are_held_light_up_each_at_its_place() -> None:
    left, right, b, a = (
        columns_that_differ(CAPTION, CAPTION._replace(held=key)) for key in CAPTION.keys
    )
    assert left.max() < right.min()
    assert right.max() < b.min()
    assert b.max() < a.min()
    # Name and numbers are left of them.
    assert left.min() > 180
    both = columns_that_differ(CAPTION, CAPTION._replace(held="right+A"))
    assert sorted({*right, *a}) == both.tolist()


def test_without_keys_what_is_held_is_written() -> None:
    caption = CAPTION._replace(keys=(), held="push")
    differ = columns_that_differ(caption, caption._replace(held="pull"))
    assert differ.min() > 180


@pytest.mark.parametrize(
    "change",
    [{"name": "bc-ppo-2"}, {"seconds": 12.44}, {"place": "9 pixels"}, {"ended": "pit"}],
)
def test_a_caption_says_who_when_where_and_how_it_ended(
    change: dict[str, object],
) -> None:
    differ = columns_that_differ(CAPTION, CAPTION._replace(**change))
    assert len(differ) > 0
    assert differ.max() < 190


def test_success_and_failure_have_their_own_colours() -> None:
    ended = CAPTION._replace(ended="clear")
    assert len(columns_that_differ(ended, ended._replace(is_success=True))) > 10


def test_no_name_is_too_long_and_none_has_letters_that_cannot_be_drawn() -> None:
    caption = CAPTION._replace(ended="clear", name="")
    long = columns_that_differ(caption, caption._replace(name="x" * 300))
    ended = columns_that_differ(caption, caption._replace(ended=None))
    assert long.max() < ended.min()
    assert len(columns_that_differ(caption, caption._replace(name="опыт"))) > 10


def test_pictures_side_by_side_have_a_gap_and_keep_their_pixels() -> None:
    a, b = grey(40, 50, 10), grey(40, 60, 20)
    picture = side_by_side([a, b])
    assert picture.shape == (40, 50 + 8 + 60, 3)
    assert np.array_equal(picture[:, :50], a)
    assert np.array_equal(picture[:, -60:], b)


def test_what_is_dimmed_is_darker_and_keeps_its_shape() -> None:
    dark = dim(grey(4, 4, 200))
    assert dark.dtype == np.uint8
    assert set(dark.ravel()) == {120}
