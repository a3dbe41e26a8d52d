"""Gauges of the model state in force, and of what its generation was made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.payoff import NAMES, InForce
from worker.telemetry.cohort_gauges import MakeGauge

_PARTS: Final = ("tables", "trees")


class ModelGauges:
    """The gauges whose names begin with `model_`.

    Parameters
    ----------
    gauge
        Makes a gauge of a name, a text and label names.
    """

    def __init__(self, gauge: MakeGauge) -> None:
        self._log_offset = gauge("model_log_offset", "The model's version: last offset folded.")
        self._generation = gauge("model_generation_offset", "Offset where the generation took force.")
        self._mix = gauge("model_mix", "Weights of tables and trees in the logit, as of now.", "part")
        self._loss = gauge(
            "model_judged_loss", "Log loss on unseen days, by the mix of the last search.", "part"
        )
        self._silent = gauge(
            "model_silent_alert_weight", "With which alerts that no label answers are learnt as legit."
        )
        self._change = gauge(
            "model_change_timestamp_seconds",
            "Event time since which it has learnt, as all changed; 0: of no change.",
        )
        self._frauds = gauge("model_frauds_learnt", "Frauds the online model has learnt.")
        self._prevalence = gauge("model_prevalence", "Share of frauds among the decisions learnt from.")
        self._lambda = gauge("model_threshold_lambda", "Alert from lambda times the review cost on.")
        self._forest_cut = gauge("model_forest_cut", "Rank from which the isolation forest alerts.")
        self._least = gauge("model_policy_lambda", "Lambda that matured days have chosen, before the budget.")
        self._forest_decides = gauge(
            "model_policy_forest", "1: matured days have chosen the isolation forest."
        )
        self._forest_cases = gauge("model_forest_cases_per_day", "Cases that the forest may open a day.")
        self._gain = gauge("model_policy_gain", "What a policy brought a day, on matured days.", "policy")
        for unknown in (self._log_offset, self._generation, self._prevalence, self._lambda, self._forest_cut):
            unknown.set(np.nan)
        self.policy(
            InForce(np.nan, forest_decides=False, forest_vouched=0), np.nan, np.full(len(NAMES), np.nan)
        )
        self.mix(np.nan, np.nan)
        self.generation(dict.fromkeys((*_PARTS, "both"), np.nan), np.nan, change_ms=0)

    def mix(self, tables: float, trees: float) -> None:
        """Set the gauges of the weights of the two logits, which follow the verdicts."""
        for part, weight in zip(_PARTS, (tables, trees), strict=True):
            self._mix.labels(part).set(weight)

    def generation(self, judged_loss: Mapping[str, float], silent_weight: float, change_ms: int) -> None:
        """Set the gauges of what the generation in force was made of.

        Parameters
        ----------
        judged_loss
            Mean log loss of each part, and of both, on days that they had not seen, as of the last search, whose mix
            may have moved since; NaN where none were judged.
        silent_weight
            With which alerts that no label answers are learnt as legit.
        change_ms
            When everything changed, so that it has learnt only what came since; 0 for no such moment.
        """
        for part, loss in judged_loss.items():
            self._loss.labels(part).set(loss)
        self._silent.set(silent_weight)
        self._change.set(change_ms / 1_000.0)

    def policy(self, chosen: InForce, forest_cases_per_day: float, daily_gain: NDArray[np.float64]) -> None:
        """Set the gauges of the policy in force, and of what each of `models.payoff.NAMES` brought a day."""
        self._least.set(chosen.least_lambda)
        self._forest_decides.set(chosen.forest_decides)
        self._forest_cases.set(forest_cases_per_day)
        for name, gain in zip(NAMES, daily_gain.tolist(), strict=True):
            self._gain.labels(name).set(gain)

    def state(
        self,
        *,
        log_offset: int,
        generation_offset: int,
        frauds_learnt: float,
        prevalence: float,
        threshold_lambda: float,
        forest_cut: float,
    ) -> None:
        """Set the gauges of the model in force; an infinite threshold alerts on nothing."""
        self._log_offset.set(log_offset)
        self._generation.set(generation_offset)
        self._frauds.set(frauds_learnt)
        self._prevalence.set(prevalence)
        self._lambda.set(threshold_lambda)
        self._forest_cut.set(forest_cut)
