"""Runs drain3 with its sample masks over the first lines of a log, whole lines, and prints its speed.

Arguments: the log, and how many of its lines. Reading is not counted; one core does all the work.
"""

import itertools
import sys
import time

from drain3 import TemplateMiner

from drain3_parsing import miner


def main(path, most):
    with open(path, encoding="utf-8", errors="replace") as log:
        lines = [line.rstrip("\n") for line in itertools.islice(log, most)]
    mining: TemplateMiner = miner("sample masks", None)
    wall, cpu = time.perf_counter(), time.process_time()
    for line in lines:
        mining.add_log_message(line)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    name = f"drain3 0.9.11 alone, {len(lines)} lines"
    print(f"{name:<32} {len(lines) / wall / 1e3:>12.0f} {len(lines) / cpu / 1e3:>16.0f}")


main(sys.argv[1], int(sys.argv[2]))
