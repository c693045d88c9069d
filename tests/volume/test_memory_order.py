import itertools

import numpy as np
import pytest

from equivox.volume.memory_order import in_c_order

SHAPES = [(1, 1, 1), (1, 37, 1), (17, 5, 33), (2, 16, 31, 18), (0, 3, 2)]


@pytest.mark.parametrize("shape", SHAPES)
def test_every_order_of_axes_ends_with_the_same_values_in_c_order(shape: tuple[int, ...]) -> None:
    values = np.arange(np.prod(shape), dtype=np.int32).reshape(shape)
    for axes in itertools.permutations(range(len(shape))):
        turned = np.flip(values.transpose(axes), 0)
        ordered = in_c_order(turned)
        assert ordered.flags.c_contiguous
        assert ordered.flags.writeable
        assert ordered.dtype == np.int32
        # tolist walks the axes one by one, whatever lies where in memory.
        assert ordered.tolist() == turned.tolist()


def test_the_type_is_converted_in_either_order() -> None:
    values = np.array([[0.5, -1.25, 3.0]] * 20)
    for array in (values, np.asfortranarray(values), values.T):
        ordered = in_c_order(array, np.float32)
        assert ordered.dtype == np.float32
        assert ordered.flags.c_contiguous
        assert ordered.tolist() == array.tolist()


def test_an_array_in_order_is_shared_and_one_that_cannot_be_written_is_copied() -> None:
    values = np.arange(6.0).reshape(2, 3)
    assert in_c_order(values) is values
    values.flags.writeable = False
    copy = in_c_order(values)
    copy[0, 0] = 9
    assert values[0, 0] == 0
