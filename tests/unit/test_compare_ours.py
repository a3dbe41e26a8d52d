"""What the worker's own rows of `compare` alert on."""

from types import SimpleNamespace
from typing import Any

import numpy as np

from models.threshold import Calibration, CostPolicy, Thresholds
from worker.offline.compare.ours import Deciding, frozen_view

COSTS = CostPolicy(review_cost=10.0, loss_fixed=0.0, loss_factor=1.0, alert_budget_cases_per_day=None)


def test_the_frozen_worker_joins_the_cases_that_it_has_opened_as_a_running_one_does() -> None:
    rng = np.random.default_rng(11)
    count = 300
    case, loss = rng.integers(0, 40, count), np.exp(rng.normal(3.0, 1.5, count))
    online: Any = SimpleNamespace(score_batch=lambda X: X[:, 0].astype(np.float64))
    thresholds = Thresholds(2.0, np.inf, np.inf, joining_lambda=0.25)
    deciding = Deciding(online, None, Calibration(1.0, 0.0), thresholds, trusted=True)
    features = rng.normal(0.0, 1.0, (count, 1)).astype(np.float32)
    view = frozen_view(deciding, features, loss, loss, case, COSTS)

    ratio = loss / (1.0 + np.exp(-features[:, 0].astype(np.float64))) / 10.0
    opened: set[int] = set()
    expected = []
    for row in range(count):
        opens = ratio[row] >= 2.0
        expected.append(opens or (case[row] in opened and ratio[row] >= 0.25))
        if opens:
            opened.add(int(case[row]))
    assert view.alerted.tolist() == view.online_alerted.tolist() == expected
    assert np.count_nonzero(ratio >= 2.0) < sum(expected) < np.count_nonzero(ratio >= 0.25)
