import numpy as np
import pytest

from warpzone.envs.mario.surroundings import SURROUNDINGS, read_surroundings

MARIO, ENEMIES = slice(0, 11), slice(11, 11 + 14 * 5)
TILES = slice(11 + 14 * 5, None)


def state(**cells):
    """A state whose RAM is empty but for what is named, ``x86=40`` for 0x86."""
    ram = np.zeros((1, 2048), np.uint8)
    ram[0, 0xB5:0xBB] = 1
    for name, value in cells.items():
        ram[0, int(name[1:], 16)] = value
    return ram


def enemies(ram):
    """Features of the five enemies, leftmost first, shape ``(5, 14)``."""
    [numbers] = read_surroundings(ram)
    return numbers[ENEMIES].reshape(14, 5).T


def tiles(ram):
    """Which tiles are not empty, 13 rows from the top, 2 columns behind Mario first."""
    [numbers] = read_surroundings(ram)
    return numbers[TILES].reshape(13, 14)


def test_a_state_is_a_row_of_features_of_about_one():
    ram = np.random.default_rng(0).integers(0, 256, (7, 2048), np.uint8)
    numbers = read_surroundings(ram)
    assert numbers.shape == (7, SURROUNDINGS) == (7, 11 + 14 * 5 + 13 * 14)
    assert numbers.dtype == np.float32
    assert np.abs(numbers).max() < 600
    assert np.array_equal(read_surroundings(ram[3:4])[0], numbers[3])


def test_mario_is_where_he_is_and_moves_as_he_does():
    # Page 1, pixel 40; 176 pixels below the top; 24 to the left, 4 upwards.
    ram = state(x6D=1, x86=40, xCE=176, x57=256 - 24, x9F=256 - 4, x0A=128, x33=1)
    [numbers] = read_surroundings(ram)
    assert numbers[MARIO] == pytest.approx(
        [0.5, 0, 176 / 128, 0, -24 / 40, -4 / 5, 1, 0, 1, 1, 0]
    )


def test_enemies_come_from_the_left_to_the_right():
    # Mario is 112 pixels from the screen's left edge. Slot 0 is empty, 1 is 80 pixels
    # ahead, 2 is 16 behind, 3 is beyond the screen's right edge and 4 beyond its left.
    ram = state(x6D=1, x86=0, xCE=100, x87=9, x3AD=112)
    ram[0, [0x10, 0x11, 0x12, 0x13]] = 1
    ram[0, [0x6F, 0x70, 0x71, 0x72]] = 1, 0, 1, 0
    ram[0, [0x88, 0x89, 0x8A, 0x8B]] = 80, 240, 144, 128
    ram[0, [0xD0, 0xD1]] = 100, 68
    ram[0, [0x59, 0x5A]] = 8, 256 - 8
    ram[0, [0x17, 0x18]] = 6, 0
    found = enemies(ram)
    behind, ahead, *others = found
    # There, far and near distance ahead, below, speeds, and the bits of its kind.
    assert behind == pytest.approx([1, -16 / 64, -1, -1, -0.5, 0, *[0] * 8])
    assert ahead == pytest.approx([1, 80 / 64, 3, 0, 0.5, 0, 0, 1, 1, *[0] * 5])
    for nobody in others:
        assert nobody == pytest.approx([0, 4, *[0] * 12])


def test_tiles_are_found_across_the_two_screens():
    ram = state(x6D=1, x86=230)
    # Mario is in column 30 of 32. Row 12 of column 15 of the first screen is 15 behind,
    # of column 0 of the first screen 2 ahead, of column 15 of the second 1 ahead.
    ram[0, 0x500 + 12 * 16 + 15] = 84
    ram[0, 0x500 + 12 * 16 + 0] = 84
    ram[0, 0x5D0 + 3 * 16 + 15] = 84
    found = tiles(ram)
    assert sorted(zip(*found.nonzero(), strict=True)) == [(3, 3), (12, 4)]


@pytest.mark.parametrize(
    ("screen_x", "seen"), [(112, slice(0, 11)), (200, slice(0, 6)), (15, slice(1, 14))]
)
def test_tiles_beyond_the_edges_of_the_screen_are_not_seen(screen_x, seen):
    # Mario is at the left edge of his tile; those at an edge of the screen are seen.
    ram = state(x6D=1, x86=32, x3AD=screen_x)
    ram[0, 0x500 : 0x500 + 2 * 13 * 16] = 84
    found = tiles(ram)
    assert found[:, seen].all()
    assert found.sum() == found[:, seen].size


def test_the_ground_of_a_level_is_below_mario(mario):
    env = mario()
    env.reset(seed=1)
    for _ in range(20):
        env.step(1)
    ram = np.frombuffer(env.play.ram, np.uint8)[None]
    # Two rows of ground, and nothing above it at the level's start but a few blocks.
    # The rightmost columns are not on the screen yet.
    assert tiles(ram)[11:, :11].all()
    assert tiles(ram)[7:11].mean() < 0.3
