"""PyTorch's and scikit-learn's figures for the HDFS sessions, on one thread.

The network is LogRobust's with the attention trained and masked (two bidirectional LSTM layers, a
rectified head), sequences padded to the longest of a batch and cut at 50 events, Adam. Quality is printed
at the usual threshold of one half, and with the probability moved to the share of anomalies that the
weights of test.csv bring back, as ours is.
"""

import csv
import json
import pathlib
import sys
import time
from collections import Counter

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

torch.set_num_threads(1)
LENGTH, BALANCED, MOVED = 50, 0.5, 1 - 0.0175
FOLDER = pathlib.Path(sys.argv[1]) / "hdfs_sequences"
SEEDS = int(sys.argv[2])


def load(name):
    with open(FOLDER / name) as file:
        rows = [{k.lower(): v for k, v in row.items()} for row in csv.DictReader(file)]
    sequences = [list(map(int, row["sequence"].split())) for row in rows]
    labels = np.array([int(row["label"] != "0") for row in rows])
    weights = np.array([float(row.get("weight", 1)) for row in rows])
    unseen = np.array([row.get("unseen_count_vector") == "1" for row in rows])
    return sequences, labels, weights, unseen


TRAIN, TEST = load("train.csv"), load("test.csv")
vectors = json.loads((FOLDER / "event_vectors.json").read_text())
TABLE = torch.zeros(len(vectors) + 1, 300)
for key, vector in vectors.items():
    TABLE[int(key) + 1] = torch.tensor(vector)


def f1(labels, called, weights):
    hit = (weights * labels * called).sum()
    return 2 * hit / (2 * hit + (weights * (1 - labels) * called).sum() + (weights * labels * (1 - called)).sum())


def show(name, figures, digits):
    mean = sum(figures) / len(figures)
    print(f"{name:<68} {mean:.{digits}f} ({min(figures):.{digits}f} to {max(figures):.{digits}f})", flush=True)


def pad(sequences):
    ids = torch.zeros(len(sequences), LENGTH, dtype=torch.long)
    for row, sequence in enumerate(sequences):
        kept = sequence[:LENGTH]
        ids[row, : len(kept)] = torch.tensor(kept)
    return ids


class LogRobust(torch.nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.lstm = torch.nn.LSTM(300, hidden, 2, batch_first=True, bidirectional=True)
        self.matrix = torch.nn.Linear(2 * hidden, 2 * hidden, bias=False)
        self.vector = torch.nn.Linear(2 * hidden, 1, bias=False)
        self.first = torch.nn.Linear(2 * hidden, hidden)
        self.second = torch.nn.Linear(hidden, 2)

    def forward(self, ids):
        out, _ = self.lstm(TABLE[ids])
        scores = self.vector(torch.tanh(self.matrix(out))).squeeze(-1)
        shares = torch.softmax(scores.masked_fill(ids == 0, -1e9), dim=1)
        return self.second(torch.relu(self.first((shares.unsqueeze(-1) * out).sum(1))))


def epoch(net, optimiser, ids, labels, size):
    for rows in torch.randperm(len(ids)).split(size):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(net(ids[rows]), labels[rows]).backward()
        optimiser.step()


def probabilities(net, ids):
    with torch.no_grad():
        return torch.cat([torch.softmax(net(part), 1)[:, 1] for part in ids.split(256)]).numpy()


train_ids, train_labels, test_ids = pad(TRAIN[0]), torch.tensor(TRAIN[1]), pad(TEST[0])
for hidden in (10, 128):
    torch.manual_seed(0)
    net = LogRobust(hidden)
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-3)
    training, scoring = [], []
    # A part of the rows is enough for the large network: every row costs the same.
    count = 12_000 if hidden == 10 else 2_000
    for _ in range(3 if hidden == 10 else 2):
        start = time.process_time()
        epoch(net, optimiser, train_ids[:count], train_labels[:count], 64)
        training.append(count / (time.process_time() - start))
        start = time.process_time()
        probabilities(net, test_ids[:count])
        scoring.append(count / (time.process_time() - start))
    show(f"torch {torch.__version__}, one pass, hidden {hidden}, rows per CPU-second", training, 0)
    show(f"torch {torch.__version__}, scoring, hidden {hidden}, rows per CPU-second", scoring, 0)

_, labels, weights, unseen = TEST
ones = np.ones(len(labels))
runs = []
for seed in range(SEEDS):
    torch.manual_seed(seed)
    net = LogRobust(10)
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(5):
        epoch(net, optimiser, train_ids, train_labels, 256)
    runs.append(probabilities(net, test_ids))
for name, threshold in (("at one half", BALANCED), ("moved to the expected share", MOVED)):
    for how, mass in (("once", ones), ("weighted", weights)):
        figures = [f1(labels, (run >= threshold).astype(int), mass) for run in runs]
        show(f"torch, hidden 10, 5 epochs, {name}: F1 {how}", figures, 4)


def counts(sequences):
    table = np.zeros((len(sequences), 30))
    for row, sequence in enumerate(sequences):
        for event, count in Counter(sequence).items():
            table[row, event] = count
    return table


train_counts, test_counts = counts(TRAIN[0]), counts(TEST[0])
for name, make in (
    ("decision tree", lambda seed: DecisionTreeClassifier(random_state=seed)),
    ("logistic regression", lambda seed: LogisticRegression(C=10, max_iter=3000)),
):
    rows = {"all rows once": [], "all rows weighted": [], "unseen counts once": [], "unseen counts weighted": []}
    for seed in range(SEEDS):
        called = make(seed).fit(train_counts, TRAIN[1]).predict(test_counts)
        rows["all rows once"].append(f1(labels, called, ones))
        rows["all rows weighted"].append(f1(labels, called, weights))
        rows["unseen counts once"].append(f1(labels[unseen], called[unseen], ones[unseen]))
        rows["unseen counts weighted"].append(f1(labels[unseen], called[unseen], weights[unseen]))
    for what, figures in rows.items():
        show(f"scikit-learn, {name}: F1, {what}", figures, 4)
