"""statsforecast and LightGBM on the machines that bench/src/forecasting measures.

Machines with sha256(uid) mod 5 == 0, the last 14 daily origins, 24 hours ahead; prints the geometric
mean over series of the mean absolute error relative to the seasonal naive. statsforecast sees the last
672 hours before each origin; LightGBM learns from the other machines, windows relative to their median.
"""

import hashlib
import sys
import time

import lightgbm
import numpy as np
import pandas as pd
from statsforecast import StatsForecast
from statsforecast.models import DynamicOptimizedTheta, MSTL, SeasonalNaive

GROUPS = ["bb_cpu", "bb_mem", "bb_tx", "azure100_avg"]
DAYS = 14


def is_test(uid):
    return int(hashlib.sha256(str(uid).encode()).hexdigest(), 16) % 5 == 0


def features(window, hour):
    """Features of one hour ahead from a week, relative to the week's median and mean deviation."""
    days = window[hour::24]
    day, tail = window[-24:], [window[-n:].mean() for n in (3, 6, 12, 24, 48)]
    near = [window[-24 + max(hour - 1, 0)], window[-24 + min(hour + 1, 23)]]
    rest = [np.median(days), days.mean(), window.mean(), day.max(), day.min(), window.max(), window.std()]
    return [hour, *days, *near, *window[-6:], *tail, *rest]


def relative(values):
    level = np.median(values)
    size = np.abs(values - level).mean()
    return level, size


def learn(series):
    rows, targets, weights = [], [], []
    for values in series:
        unit = np.abs(values[24:] - values[:-24]).mean()
        for origin in np.linspace(200, len(values) - 24, 30).astype(int):
            week = values[origin - 168 : origin]
            level, size = relative(week)
            if size == 0 or unit == 0:
                continue
            window = (week - level) / size
            for hour in range(24):
                rows.append(features(window, hour))
                targets.append(np.clip((values[origin + hour] - level) / size, -50, 50))
                weights.append(min(size / unit, 5.0))
    data = lightgbm.Dataset(np.array(rows, dtype=np.float32), targets, weight=weights)
    options = {"objective": "l1", "num_leaves": 63, "learning_rate": 0.05, "num_threads": 2, "seed": 1, "verbose": -1}
    return lightgbm.train(options, data, num_boost_round=200)


def boosted(model, history):
    week = history[-168:]
    level, size = relative(week)
    if size == 0:
        return np.full(24, level)
    window = (week - level) / size
    return level + size * model.predict(np.array([features(window, hour) for hour in range(24)]), num_threads=1)


def main():
    frame = pd.read_csv(sys.argv[1])
    values = {g: {u: s.y.to_numpy() for u, s in frame[frame.dataset == g].groupby("uid")} for g in GROUPS}
    started = time.time()
    model = learn([v for g in GROUPS for u, v in values[g].items() if not is_test(u)])
    print(f"LightGBM trained in {time.time() - started:.0f} s", flush=True)
    tested = {g: {u: v for u, v in values[g].items() if is_test(u)} for g in GROUPS}
    for group in GROUPS:
        test = tested[group]
        errors = []
        for series in test.values():
            floor = boost = 0.0
            for back in range(DAYS, 0, -1):
                origin = len(series) - 24 * back
                truth = series[origin : origin + 24]
                floor += np.abs(truth - series[origin - 24 : origin]).mean()
                boost += np.abs(truth - np.maximum(boosted(model, series[:origin]), 0)).mean()
            if floor > 0:
                errors.append(max(boost / floor, 1e-3))
        print(f"{group:<13} LightGBM {np.exp(np.log(errors).mean()):.3f}", flush=True)
    # The slower ones come last.
    for group in GROUPS:
        test = tested[group]
        long = [
            pd.DataFrame({"unique_id": u, "ds": np.arange(672 + 24 * DAYS), "y": v[-(672 + 24 * DAYS) :]})
            for u, v in test.items()
            if len(v) >= 672 + 24 * DAYS
        ]
        if not long:
            print(f"{group:<13} statsforecast: series are too short for 672 hours before each origin", flush=True)
            continue
        models = [SeasonalNaive(24), DynamicOptimizedTheta(24), MSTL([24, 168])]
        fitted = StatsForecast(models=models, freq=1, n_jobs=2)
        rolled = fitted.cross_validation(df=pd.concat(long), h=24, step_size=24, n_windows=DAYS, input_size=672)
        rolled = rolled.reset_index()
        for name in ["DynamicOptimizedTheta", "MSTL"]:
            error = (rolled.y - rolled[name]).abs().groupby(rolled.unique_id).mean()
            floor = (rolled.y - rolled.SeasonalNaive).abs().groupby(rolled.unique_id).mean()
            ratio = (error / floor)[floor > 0].clip(lower=1e-3)
            print(f"{group:<13} {name} {np.exp(np.log(ratio).mean()):.3f}", flush=True)


if __name__ == "__main__":
    main()
