"""Turns settings into the domain's own parameters: the one place that knows both."""

from __future__ import annotations

from math import inf, isinf

from models.feature_layout import FeatureSpec
from models.records import Lineage, Policy
from models.refit import RefitPlan
from models.state import ModelState
from models.threshold import CostPolicy
from models.vocabulary import MS_PER_DAY, ChallengerMode
from worker.identity import Hasher
from worker.partition.task import TaskLimits
from worker.settings.report import as_toml
from worker.settings.sections import Settings

_MS_PER_HOUR = MS_PER_DAY // 24


def feature_spec(settings: Settings) -> FeatureSpec:
    """Return the declared fields and half-lives."""
    fields = settings.transaction
    entities = (*fields.entities, *fields.combined)
    half_lives_days = settings.features.half_lives_days
    return FeatureSpec(
        fields.numeric, fields.categorical, entities, half_lives_days, fields.place, fields.ages
    )


def policy(settings: Settings) -> Policy:
    """Return costs, horizons, sampling and bounds."""
    costs, labels = settings.costs, settings.labels
    return Policy(
        costs=CostPolicy(
            costs.review_cost,
            costs.missed_fraud_fixed,
            costs.missed_fraud_factor,
            None if isinf(costs.alert_budget_cases_per_day) else costs.alert_budget_cases_per_day,
        ),
        case_window_ms=round(costs.case_window_hours * _MS_PER_HOUR),
        negatives_after_ms=round(labels.negatives_after_days * MS_PER_DAY),
        horizon_ms=round(labels.horizon_days * MS_PER_DAY),
        max_silence_ms=round(labels.max_silence_days * MS_PER_DAY),
        sample_one_in=settings.model.sample_one_in,
        min_frauds=settings.model.min_frauds,
        max_entities=settings.features.max_entities,
        max_examples=settings.model.max_examples,
        memory_ms=round(settings.model.memory_days * MS_PER_DAY),
        silence_is_legit=labels.silence == "legit",
        max_cards=settings.features.max_cards,
    )


def by_setting(policy: Policy) -> dict[str, str]:
    """Return the values of a policy as the settings that they follow from, by dotted names and as TOML writes them."""
    costs = policy.costs
    budget = costs.alert_budget_cases_per_day
    values = {
        "costs.review_cost": costs.review_cost,
        "costs.missed_fraud_fixed": costs.loss_fixed,
        "costs.missed_fraud_factor": costs.loss_factor,
        "costs.alert_budget_cases_per_day": inf if budget is None else budget,
        "costs.case_window_hours": policy.case_window_ms / _MS_PER_HOUR,
        "labels.silence": "legit" if policy.silence_is_legit else "unknown",
        "labels.negatives_after_days": policy.negatives_after_ms / MS_PER_DAY,
        "labels.horizon_days": policy.horizon_ms / MS_PER_DAY,
        "labels.max_silence_days": policy.max_silence_ms / MS_PER_DAY,
        "features.max_cards": policy.max_cards,
        "features.max_entities": policy.max_entities,
        "model.sample_one_in": policy.sample_one_in,
        "model.min_frauds": policy.min_frauds,
        "model.memory_days": policy.memory_ms / MS_PER_DAY,
        "model.max_examples": policy.max_examples,
    }
    return {name: "not set" if value is None else as_toml(value) for name, value in values.items()}


def lineage(settings: Settings) -> Lineage:
    """Return what shapes features and learning."""
    return Lineage(feature_spec(settings), Hasher(settings.hash_key).fingerprint, settings.model.fraud_weight)


def new_model(settings: Settings) -> ModelState:
    """Return an empty model state, before the first record of the log."""
    return ModelState(lineage(settings), policy(settings), settings.model.digest_every)


def refit_plan(settings: Settings) -> RefitPlan:
    """Return how often the model parts are refitted."""
    model = settings.model
    return RefitPlan(
        generation_ms=round(model.generation_days * MS_PER_DAY),
        forest_ms=round(model.forest_days * MS_PER_DAY),
        forest_min_rows=model.forest_min_rows,
        challenger=ChallengerMode(model.challenger),
    )


def task_limits(settings: Settings) -> TaskLimits:
    """Return the bounds of a partition's task."""
    labels, batch = settings.labels, settings.batch
    return TaskLimits(
        repeat_window=batch.repeat_window,
        keep_ms=round((labels.horizon_days + labels.keep_after_horizon_days) * MS_PER_DAY),
        mature_rows=2 * batch.max_records,
        orphan_after_ms=round(labels.orphan_after_hours * _MS_PER_HOUR),
        labels_times_usual=labels.times_usual,
    )
