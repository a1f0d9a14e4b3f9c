"""ClickHouse in process (chdb) on the same lines: inserting with a text index, size, and searching.

Arguments: the raw file, the tokens and the expressions, each list as JSON. Answers one JSON object.
"""

import json
import resource
import shutil
import statistics
import sys
import tempfile
import time

from chdb import session

raw, tokens, regexes = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])


def cpu():
    own = resource.getrusage(resource.RUSAGE_SELF)
    return own.ru_utime + own.ru_stime


def quoted(text):
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


folder = tempfile.mkdtemp(prefix="bench-chdb-")
try:
    db = session.Session(folder)
    db.query("CREATE DATABASE b ENGINE = Atomic")
    db.query(
        "CREATE TABLE b.logs (n UInt64, line String, INDEX words line TYPE text(tokenizer = 'splitByNonAlpha')) "
        "ENGINE = MergeTree ORDER BY n SETTINGS index_granularity = 8192"
    )
    before = cpu()
    db.query(
        "INSERT INTO b.logs SELECT rowNumberInAllBlocks(), line FROM "
        f"file({quoted(raw)}, 'LineAsString', 'line String') SETTINGS max_threads = 1, max_insert_threads = 1"
    )
    insert = cpu() - before
    size = db.query("SELECT sum(bytes_on_disk) FROM system.parts WHERE database = 'b' AND active", "TabSeparated").bytes()

    def timed(condition):
        query = f"SELECT count() FROM b.logs WHERE {condition} SETTINGS max_threads = 2"
        db.query(query)
        start = time.perf_counter()
        count = int(db.query(query, "TabSeparated").bytes())
        return count, (time.perf_counter() - start) * 1e3

    words = [timed(f"hasAllTokens(line, {quoted(token)})") for token in tokens]
    found = [timed(f"match(line, {quoted(regex)})") for regex in regexes]
    print(
        json.dumps(
            {
                "insert_cpu_seconds": insert,
                "bytes": int(size),
                "token_hits": [count for count, _ in words],
                "token_ms": statistics.median(ms for _, ms in words),
                "regexes": found,
            }
        )
    )
    db.close()
finally:
    shutil.rmtree(folder, ignore_errors=True)
