"""Makes the files beside it: pip install pyarrow datasets pandas; python make.py"""
import csv, gzip, io, json, os, shutil, tempfile
import datasets
import pandas
import pyarrow as pa

os.chdir(os.path.dirname(os.path.abspath(__file__)))
datasets.disable_progress_bars()


def dump(name, rows):
    with open(name, 'w') as f:
        f.write(json.dumps(rows, ensure_ascii=True, indent=1) + '\n')


rows = [
    {
        'text': None if i == 3 else '行 %d é 😀' % i * (i % 4),
        'large': None if i == 5 else 'x' * i,
        'i8': i - 4, 'u16': 60000 + i, 'i32': -i * 100000, 'i64': None if i == 0 else i * 2**40, 'f32': i / 4, 'f64': i / 3,
        'flag': None if i == 2 else i % 3 == 0,
        'tags': None if i == 1 else ['t%d' % k for k in range(i % 3)],
        'turns': [{'from': 'human' if k % 2 == 0 else 'gpt', 'value': '话 %d' % k, 'score': k} for k in range(i % 4)],
        'nothing': None,
    }
    for i in range(11)
]
schema = pa.schema([
    ('text', pa.string()), ('large', pa.large_string()), ('i8', pa.int8()), ('u16', pa.uint16()), ('i32', pa.int32()),
    ('i64', pa.int64()), ('f32', pa.float32()), ('f64', pa.float64()), ('flag', pa.bool_()),
    ('tags', pa.list_(pa.string())),
    ('turns', pa.large_list(pa.struct([('from', pa.string()), ('value', pa.string()), ('score', pa.int32())]))),
    ('nothing', pa.null()),
])
table = pa.Table.from_pylist(rows, schema=schema)
dump('rows.json', rows)
for name, make in (('stream.arrow', pa.ipc.new_stream), ('file.arrow', pa.ipc.new_file)):
    with make(name, schema) as writer:
        for batch in table.to_batches(max_chunksize=4):
            writer.write_batch(batch)

# Offsets that do not begin at 0, and bits that do not begin at a byte, come from slices.
other = pa.Table.from_arrays(
    [table['text'], pa.array([1] * 11, pa.timestamp('s')), table['text'].dictionary_encode(), table['flag']],
    names=['text', 'when', 'category', 'flag'],
)
with pa.ipc.new_stream('other.arrow', other.schema) as writer:
    writer.write_table(other.slice(3, 7))
with pa.ipc.new_stream('compressed.arrow', schema, options=pa.ipc.IpcWriteOptions(compression='zstd')) as writer:
    writer.write_table(table)

with tempfile.TemporaryDirectory() as folder:
    datasets.Dataset.from_list([{'text': r['text'], 'turns': r['turns']} for r in rows]).save_to_disk(folder)
    shutil.copy(os.path.join(folder, 'data-00000-of-00001.arrow'), 'datasets.arrow')

text = b'\xef\xbb\xbfa\r\nb\rc\n\n d \n\x0c\xe2\x80\xa8x\x00y\n\nend'
with open('lines.txt', 'wb') as f:
    f.write(text)
with tempfile.TemporaryDirectory() as folder:
    read = datasets.load_dataset('text', data_files='lines.txt', split='train', cache_dir=folder)
    dump('lines.json', [row['text'] for row in read])

cases = [
    b'\xef\xbb\xbfa,b\r\n"x\r\n1","q""q"\r\n,2\r\n',
    b'a,b\n\nx,y\n \t \n',
    b'a,b\n x , "y"\n',
    b'a,b\nx"y,z\n',
    b'a,b\n"x"y,z\n',
    b'a,b\n"",""""\n"a,b","\n"',
    b'a,b\r1,2\r3,4',
    'a,中\n"é\n,",😀\n1,\n'.encode(),
    b'a\n1\n"",\n'[:-2] + b'\n2',
]
expected = []
for case in cases:
    frame = pandas.read_csv(io.BytesIO(case), dtype=str, keep_default_na=False)
    expected.append({'csv': case.decode('utf-8'), 'rows': frame.to_dict('records')})
dump('csv.json', expected)

lines = ''.join(json.dumps({'text': r['text']}, ensure_ascii=False) + '\n' for r in rows).encode()
half = len(lines) // 2
with open('members.jsonl.gz', 'wb') as f:
    f.write(gzip.compress(lines[:half], mtime=0) + gzip.compress(lines[half:], mtime=0))
with pa.CompressedOutputStream('frames.jsonl.zst', 'zstd') as f:
    f.write(lines[:half])
with open('frames.jsonl.zst', 'ab') as f:
    f.write(b'\x50\x2a\x4d\x18\x03\x00\x00\x00abc' + pa.compress(lines[half:], 'zstd', asbytes=True))
