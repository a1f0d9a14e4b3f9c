"""Scores count vectors with peers from scikit-learn, each at its own threshold."""

import json
import sys

import numpy as np
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest


def matrix(vectors, width):
    out = np.zeros((len(vectors), width))
    for row, vector in enumerate(vectors):
        for event, count in vector:
            out[row, event] = count
    return out


def forest(train, rows):
    """The library's own threshold: anomalous is what `predict` calls an outlier."""
    model = IsolationForest(random_state=0).fit(train)
    return -model.decision_function(rows), 0.0


def pca(train, rows):
    """Squared prediction error outside the components that hold 95 % of the variance (Xu et al., 2009),
    with idf weights; the threshold is the 99.5 % quantile in training."""
    idf = np.log(len(train) / np.maximum((train > 0).sum(0), 1))
    train, rows = train * idf, rows * idf
    model = PCA(n_components=0.95, svd_solver="full").fit(train)

    def error(x):
        return ((x - model.inverse_transform(model.transform(x))) ** 2).sum(1)

    return error(rows), float(np.quantile(error(train), 0.995)) + 1e-9


answers = []
for case in json.load(open(sys.argv[1])):
    width = 1 + max(event for key in ("train", "rows") for vector in case[key] for event, _ in vector)
    train, rows = matrix(case["train"], width), matrix(case["rows"], width)
    answer = {}
    for name, method in (("forest", forest), ("pca", pca)):
        scores, threshold = method(train, rows)
        answer[name] = [scores.tolist(), threshold]
    answers.append(answer)
json.dump(answers, sys.stdout)
