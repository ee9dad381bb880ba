import time

import pytest

from thaw.runtime import threads


def test_results_come_in_order_and_few_are_begun_before_they_are_taken():
    begun = []

    def double(number):
        begun.append(number)
        time.sleep(0.001 * (number % 3))
        return 2 * number

    results = threads.map_ahead(double, range(1000), 4)
    assert [next(results) for _ in range(10)] == list(range(0, 20, 2))
    assert len(begun) <= 10 + threads._AHEAD
    assert list(results) == list(range(20, 2000, 2))


def test_an_error_in_a_thread_is_raised_where_the_result_is_taken():
    results = threads.map_ahead(lambda number: 1 / number, [1, 0, 2], 2)
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)
