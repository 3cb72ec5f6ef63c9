"""Megatron-style preprocessing: a Pool that encodes one document a call, a parent that writes an indexed dataset.

Source of the shape: Megatron-LM, tools/preprocess_data.py and indexed_dataset.py (IndexedDatasetBuilder).
"""

import json
import multiprocessing
import resource
import struct
import sys

import numpy
from transformers import PreTrainedTokenizerFast

job = json.loads(sys.argv[1])


class Encoder:
    tokenizer = None

    @staticmethod
    def start():
        Encoder.tokenizer = PreTrainedTokenizerFast(tokenizer_file=f"{job['tokenizerDir']}/tokenizer.json")

    @staticmethod
    def encode(line):
        ids = Encoder.tokenizer(json.loads(line)["text"]).input_ids
        if ids:
            ids.append(job["eosId"])
        return {"text": ids}, len(line)


def write_index(path, lengths):
    with open(path, "wb") as file:
        file.write(b"MMIDIDX\x00\x00")
        file.write(struct.pack("<QBQQ", 1, 4, len(lengths), len(lengths) + 1))
        sizes = numpy.array(lengths, dtype=numpy.int32)
        starts = numpy.zeros(len(lengths), dtype=numpy.int64)
        starts[1:] = numpy.cumsum(sizes.astype(numpy.int64) * 4)[:-1]
        for part in (sizes, starts, numpy.arange(len(lengths) + 1, dtype=numpy.int64)):
            file.write(part.tobytes(order="C"))


def main():
    prefix = f"{job['out']}_text_document"
    lengths = []
    with open(job["file"], encoding="utf-8") as lines, multiprocessing.Pool(job["workers"], Encoder.start) as pool:
        with open(f"{prefix}.bin", "wb") as data:
            for document, _ in pool.imap(Encoder.encode, lines, 32):
                ids = document["text"]
                if not ids:
                    continue
                data.write(numpy.array(ids, dtype=numpy.int32).tobytes(order="C"))
                lengths.append(len(ids))
        write_index(f"{prefix}.idx", lengths)
        pool.close()
        pool.join()
    own = resource.getrusage(resource.RUSAGE_SELF)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(
        json.dumps(
            {
                "prefix": prefix,
                "tokens": sum(lengths),
                "peakBytes": 1024 * (own.ru_maxrss + job["workers"] * children.ru_maxrss),
                "cpuSeconds": own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime,
            }
        )
    )


if __name__ == "__main__":
    main()
