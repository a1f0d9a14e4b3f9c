"""Runs drain3 over the ten systems, in three configurations.

Prints one JSON object a line: {"configuration", "ids": {system: [cluster id of each message]},
"lines_per_second"}, the last in processor time over all messages twice, the first pass being warm-up.
"""

import csv
import json
import pathlib
import sys
import time

from drain3 import TemplateMiner
from drain3.masking import MaskingInstruction
from drain3.template_miner_config import TemplateMinerConfig

BEGIN, END = r"((?<=[^A-Za-z0-9])|^)", r"((?=[^A-Za-z0-9])|$)"
# The masks of drain3's own sample configuration.
SAMPLE = [
    (BEGIN + r"(([0-9a-f]{2,}:){3,}([0-9a-f]{2,}))" + END, "ID"),
    (BEGIN + r"(\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3})" + END, "IP"),
    (BEGIN + r"([0-9a-f]{6,} ?){3,}" + END, "SEQ"),
    (BEGIN + r"([0-9A-F]{4} ?){4,}" + END, "SEQ"),
    (BEGIN + r"(0x[a-f0-9A-F]+)" + END, "HEX"),
    (BEGIN + r"([\-\+]?\d+)" + END, "NUM"),
    (r'(?<=executed cmd )(".+?")', "CMD"),
]
IP = r"(\d+\.){3}\d+"
DOTTED = r"([\w-]+\.){2,}[\w-]+"
# What the logparser benchmark tunes for each system: masks, similarity, depth.
TUNED = {
    "HDFS": ([r"blk_-?\d+", IP + r"(:\d+)?"], 0.5, 4),
    "Hadoop": ([IP], 0.5, 4),
    "Spark": ([IP, r"\b[KGTM]?B\b", DOTTED], 0.5, 4),
    "Zookeeper": ([r"(/|)" + IP + r"(:\d+)?"], 0.5, 4),
    "BGL": ([r"core\.\d+"], 0.5, 4),
    "HPC": ([r"=\d+"], 0.5, 4),
    "Windows": ([r"0x.*?\s"], 0.7, 5),
    "Apache": ([IP], 0.5, 4),
    "OpenSSH": ([IP, DOTTED], 0.6, 5),
    "Mac": ([DOTTED], 0.7, 6),
}


def miner(configuration, system):
    config = TemplateMinerConfig()
    if configuration == "sample masks":
        config.masking_instructions = [MaskingInstruction(p, name) for p, name in SAMPLE]
        config.drain_extra_delimiters = ["_"]
    if configuration == "tuned":
        masks, similarity, depth = TUNED[system]
        config.masking_instructions = [MaskingInstruction(p, "*") for p in masks]
        config.drain_sim_th = similarity
        config.drain_depth = depth
    return TemplateMiner(config=config)


def main(folder):
    messages = {}
    for path in sorted(pathlib.Path(folder).glob("*/*_structured.csv")):
        with open(path, newline="", encoding="utf-8", errors="replace") as table:
            messages[path.parent.name] = [row["Content"] for row in csv.DictReader(table)]
    for configuration in ("default", "sample masks", "tuned"):
        ids, lines, seconds = {}, 0, 0.0
        for system, texts in messages.items():
            mined = miner(configuration, system)
            ids[system] = [mined.add_log_message(text)["cluster_id"] for text in texts]
            start = time.process_time()
            for text in texts:
                mined.add_log_message(text)
            seconds += time.process_time() - start
            lines += len(texts)
        print(json.dumps({"configuration": configuration, "ids": ids, "lines_per_second": lines / seconds}))


if __name__ == "__main__":
    main(sys.argv[1])
