import pytest
from hypothesis import given
from hypothesis import strategies as st

from warpzone.core.seeds import EPISODES, SEEDS, Purpose, episode_seed

ARGUMENTS = st.tuples(
    st.sampled_from(Purpose),
    st.integers(0, SEEDS - 1),
    st.integers(0, EPISODES - 1),
)


@given(ARGUMENTS, ARGUMENTS)
def test_only_equal_arguments_give_equal_seeds(one: tuple, other: tuple) -> None:
    assert (episode_seed(*one) == episode_seed(*other)) == (one == other)


@pytest.mark.parametrize(
    ("seed", "index", "message"),
    [
        (1000, 0, r"seed must be in \[0, 999\], got 1000"),
        (-1, 0, "got -1"),
        (0, 100_000, r"episode index must be in \[0, 99999\], got 100000"),
    ],
)
def test_a_seed_out_of_range_is_refused(seed: int, index: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        episode_seed(Purpose.EVALUATION, seed, index)
