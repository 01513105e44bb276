"""PLI are merged per source, and repeated when they bring nothing."""

from media.core.keyframes import MIN_INTERVAL_MS, RETRY_MS, KeyframeRequests


def test_many_who_ask_at_once_cost_one_pli() -> None:
    requests = KeyframeRequests()

    assert [requests.want(now) for now in (0, 1, 2, 100)] == [True, False, False, False]


def test_the_first_after_the_interval_is_asked_at_once() -> None:
    requests = KeyframeRequests()
    requests.want(0)
    requests.arrived()

    assert requests.want(MIN_INTERVAL_MS) is True


def test_one_who_asked_too_early_is_served_at_the_end_of_the_interval() -> None:
    """The key frame that was on its way came before it asked: it needs another."""
    requests = KeyframeRequests()
    requests.want(0)
    requests.arrived()
    requests.want(100)

    assert requests.due(MIN_INTERVAL_MS - 1) is False
    assert requests.due(MIN_INTERVAL_MS) is True
    assert requests.due(MIN_INTERVAL_MS + 1) is False


def test_a_lost_pli_is_repeated() -> None:
    requests = KeyframeRequests()
    requests.want(0)

    assert requests.due(RETRY_MS - 1) is False
    assert requests.due(RETRY_MS) is True
    assert requests.due(2 * RETRY_MS) is True


def test_a_key_frame_ends_all_asking() -> None:
    requests = KeyframeRequests()
    requests.want(0)
    requests.want(10)
    requests.arrived()

    assert not requests.wanted
    assert requests.due(10 * RETRY_MS) is False
