"""A query over many frames: the memory-mapped indexes of act2see beside two vector stores, FAISS and LanceDB.

    pip install faiss-cpu lancedb
    python benchmarks/vector_stores.py [--rows 1000000] [--width 768] [--queries 30] [--seed 0] [--folder DIR] [--only NAME]

Vectors are synthetic: each hour of 10,800 frames is a walk on the sphere, so that neighbouring frames are alike, as in a video. A query is a frame's
vector with as much noise again. `recall` is the share of the ten best frames that the exact search finds. CPU seconds of one thread.
"""

import argparse
import json
import os
import shutil
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

HOUR = 10_800
BEST = 10
Query = Callable[[NDArray[np.float32]], NDArray[np.int64]]


def generate(folder: Path, rows: int, width: int, seed: int) -> NDArray[np.float16]:
    """The vectors, memory-mapped, as an index of act2see is; made once."""
    path = folder / f"vectors-{rows}-{width}-{seed}.npy"
    if not path.exists():
        rng = np.random.default_rng(seed)
        made = np.lib.format.open_memmap(path, "w+", np.float16, (rows, width))
        for start in range(0, rows, HOUR):
            steps = rng.standard_normal((min(HOUR, rows - start), width), np.float32)
            for at in range(1, len(steps)):
                steps[at] = 0.9 * steps[at - 1] + 0.436 * steps[at]
            made[start : start + len(steps)] = steps / np.linalg.norm(steps, axis=1, keepdims=True)
        made.flush()
    return np.load(path, mmap_mode="r")


def memory_mapped(vectors: NDArray[np.float16], folder: Path) -> Query:
    """One index an hour, each read whole at each query, as `retrieve` does."""
    del folder
    parts = [vectors[start : start + HOUR] for start in range(0, len(vectors), HOUR)]

    def query(wanted: NDArray[np.float32]) -> NDArray[np.int64]:
        scores = np.concatenate([part.astype(np.float32) @ wanted for part in parts])
        best = np.argpartition(-scores, BEST)[:BEST]
        return np.asarray(best[np.argsort(-scores[best])])

    return query


def faiss_flat(vectors: NDArray[np.float16], folder: Path) -> Query:
    """FAISS, exact, 16 bits a number: what `act2see index --export` writes."""
    import faiss

    index = faiss.IndexScalarQuantizer(vectors.shape[1], faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    return _faiss(index, vectors, folder / "flat.faiss")


def faiss_ivf(vectors: NDArray[np.float16], folder: Path) -> Query:
    """FAISS, as many lists as the root of the rows, of which 32 are searched, 16 bits a number."""
    import faiss

    width = vectors.shape[1]
    coarse = faiss.IndexFlatIP(width)
    index = faiss.IndexIVFScalarQuantizer(coarse, width, round(len(vectors) ** 0.5), faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    index.nprobe = 32
    return _faiss(index, vectors, folder / "ivf.faiss")


def _faiss(index: object, vectors: NDArray[np.float16], path: Path) -> Query:
    import faiss

    faiss.omp_set_num_threads(1)
    if not index.is_trained:
        index.train(vectors[:: max(1, len(vectors) // (40 * getattr(index, "nlist", 1)))].astype(np.float32))
    for start in range(0, len(vectors), 50_000):
        index.add(vectors[start : start + 50_000].astype(np.float32))
    faiss.write_index(index, str(path))
    return lambda wanted: index.search(wanted[None], BEST)[1][0]


def lancedb_ivf(vectors: NDArray[np.float16], folder: Path) -> Query:
    """LanceDB, IVF-PQ with its own settings, the 100 best looked at again at full precision."""
    import lancedb
    import pyarrow as pa

    shutil.rmtree(folder / "lance", ignore_errors=True)
    kind = pa.schema([("row", pa.int64()), ("vector", pa.list_(pa.float16(), vectors.shape[1]))])

    def batches() -> object:
        for start in range(0, len(vectors), 20_000):
            part = np.ascontiguousarray(vectors[start : start + 20_000])
            values = pa.FixedSizeListArray.from_arrays(pa.array(part.reshape(-1)), vectors.shape[1])
            yield pa.record_batch([pa.array(np.arange(start, start + len(part))), values], schema=kind)

    table = lancedb.connect(folder / "lance").create_table("frames", pa.RecordBatchReader.from_batches(kind, batches()))
    table.create_index(metric="dot", vector_column_name="vector")

    def query(wanted: NDArray[np.float32]) -> NDArray[np.int64]:
        found = table.search(wanted).metric("dot").nprobes(32).refine_factor(10).limit(BEST).select(["row"]).to_arrow()
        return found["row"].to_numpy()

    return query


def main() -> None:
    """Measure each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--queries", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("runs/vector-stores"))
    parser.add_argument("--only", choices=("memory_mapped", "faiss_flat", "faiss_ivf", "lancedb_ivf"))
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    vectors = generate(options.folder, options.rows, options.width, options.seed)
    rng = np.random.default_rng(options.seed + 1)
    asked = vectors[np.sort(rng.integers(0, len(vectors), options.queries))].astype(np.float32)
    asked += rng.standard_normal(asked.shape, np.float32) / np.sqrt(options.width)
    exact = memory_mapped(vectors, options.folder)
    truth = [set(exact(one).tolist()) for one in asked]
    print(json.dumps({"rows": len(vectors), "width": options.width, "faiss-cpu": version("faiss-cpu"), "lancedb": version("lancedb")}), flush=True)
    for make in (memory_mapped, faiss_flat, faiss_ivf, lancedb_ivf):
        if options.only in (None, make.__name__):
            before, wall = time.process_time(), time.monotonic()
            query = make(vectors, options.folder)
            made = time.process_time() - before, time.monotonic() - wall
            query(asked[0])
            before, wall = time.process_time(), time.monotonic()
            found = [set(query(one).tolist()) for one in asked]
            spent = time.process_time() - before, time.monotonic() - wall
            recall = float(np.mean([len(one & right) / BEST for one, right in zip(found, truth, strict=True)]))
            per_query = [round(1000 * one / len(asked), 2) for one in spent]
            figures = {"made_cpu_s": round(made[0], 1), "made_wall_s": round(made[1], 1), "query_cpu_ms": per_query[0], "query_wall_ms": per_query[1]}
            print(json.dumps({"store": make.__name__, **figures, "recall": round(recall, 3)}), flush=True)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
