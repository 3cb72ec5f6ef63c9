"""Checks token ids against Hugging Face's tokenizer, and datasets byte for byte against the handlers stated in Python.

python test/interop/text.py FOLDER: the quickstart's tokenizer, its text, and strings of awkward characters.
"""
import json
import pathlib
import random
import struct
import sys

from transformers import AutoTokenizer

from tap import check, node, require

ALPHABETS = [
    'abcdefghijklmnopqrstuvwxyz ',
    'The quick BROWN fox 0123456789',
    ' \t\n\r\v\f\x85\xa0\u2003\u2028\u3000\u200b\ufeff',
    "'sStTrReEvVmMlLdD\u2019 ", '.,;:!?()[]{}<>|/\\"#$%^&*-_=+~`@ ',
    '的一是不了在人有我他训练数据模型你好世界今天，。',
    'áéíóúñçüößøåæœ',
    'абвгдежзийклмноп ', 'العربية नमस्ते 한국어 ひらがな',
    'e\u0301o\u0302\u212b\u0308\u0327', '😀😂👍🏽👨‍👩‍👧‍👦🇨🇳🀄𠀀𠮷𝔸𝟘',
    '\0\x01\x07\x08\x1b\x1f\x7f\x80\x9f', '١٢٣²³½Ⅷ①',
]
WORDS = ['<s>', '</s>', '<unk>', '### Response:', "don't", '<s', '</s></s>', '\n\n']


def awkward_texts(count):
    rng = random.Random(7)

    def part():
        kind = rng.randrange(5)
        if kind == 0:
            return ''.join(rng.choices(rng.choice(ALPHABETS), k=rng.randrange(1, 40)))
        if kind == 1:
            return ''.join(rng.choice(rng.choice(ALPHABETS)) for _ in range(rng.randrange(1, 12)))
        if kind == 2:
            return rng.choice([' ', '\n', '\t', 'a', '中', '=', '0', '😀']) * rng.randrange(1, 30)
        if kind == 3:
            return ' ' * rng.randrange(3) + rng.choice(WORDS) + ' ' * rng.randrange(3)
        # Any character but the surrogates, which are none.
        return ''.join(chr(rng.choice([rng.randrange(0xD800), rng.randrange(0xE000, 0x110000)])) for _ in range(5))

    return [''] + [''.join(part() for _ in range(rng.randrange(1, 6))) for _ in range(count)]


def pretraining_rows(rows, tokenizer, eos, limit):
    """GeneralPretrainHandler: each text a document; those of `limit` tokens and more leave an empty one."""
    documents = []
    for row in rows:
        if row['text'] == '':
            continue
        ids = tokenizer(text=row['text'])['input_ids'] + eos
        documents.append([ids] if len(ids) < limit else [])
    return {'_text_document': documents}


def instruction_text(row):
    return (
        '\nBelow is an instruction that describes a task, paired with an input that provides further context. '
        'Write a response that appropriately completes the request. '
        'Please note that you need to think through your response logically and step by step.'
        f'\n### Instruction:\n{row["instruction"]}\n{row["input"]}\n### Response:\n{row["output"]}\n'
    )


def instruction_rows(rows, tokenizer, eos, limit):
    """GeneralInstructionHandler: one template; the labels of the prompt, encoded by itself, are -100."""
    fields = {'input_ids': [], 'attention_mask': [], 'labels': []}
    for row in rows:
        text = instruction_text(row)
        ids = tokenizer(text=text)['input_ids'] + eos
        prompt = text.rsplit('### Response:', maxsplit=1)[0] + '### Response:' + '\n'
        hidden = len(tokenizer(text=prompt)['input_ids'])
        columns = {
            'input_ids': ids,
            'attention_mask': [1] * len(ids),
            'labels': [-100] * min(hidden, len(ids)) + ids[hidden:],
        }
        for key, sequence in columns.items():
            fields[key].append([sequence] if len(ids) < limit else [])
    return {f'_packed_{key}_document': documents for key, documents in fields.items()}


def indexed_dataset(documents):
    """The bytes of `.idx` and `.bin`."""
    sequences = [sequence for document in documents for sequence in document]
    lengths = [len(sequence) for sequence in sequences]
    ends = [0]
    for document in documents:
        ends.append(ends[-1] + len(document))
    offsets = [4 * sum(lengths[:i]) for i in range(len(lengths))]
    head = b'MMIDIDX\0\0' + struct.pack('<QBQQ', 1, 4, len(lengths), len(ends))
    index = struct.pack(f'<{len(lengths)}i{len(lengths)}q{len(ends)}q', *lengths, *offsets, *ends)
    return head + index, b''.join(struct.pack(f'<{len(ids)}i', *ids) for ids in sequences)


def main(root):
    texts = awkward_texts(4000)
    examples = pathlib.Path('examples/quickstart')
    shipped = [json.loads(line) for name in ('instructions', 'held-out')
               for line in (examples / f'{name}.jsonl').read_text().splitlines()]
    texts += [value for row in shipped for value in row.values()]
    odd = awkward_texts(150)
    instructions = shipped[:150] + [
        {'instruction': odd[i], 'input': odd[i + 50], 'output': odd[i + 100]} for i in range(50)
    ] + [{'instruction': 'a', 'input': '', 'output': 'b ### Response: c\n### Response:\nd'},
         {'instruction': '', 'input': '', 'output': ''}, {'instruction': '\n', 'input': ' ', 'output': '\n\n 1'}]
    plain = [{'text': text} for text in texts[:600] + [row['output'] for row in shipped]]
    (root / 'texts.json').write_text(json.dumps(texts))
    for name, rows in (('instructions', instructions), ('plain', plain)):
        lines = [json.dumps(row, ensure_ascii=i % 2 == 0) + '\n' for i, row in enumerate(rows)]
        (root / f'{name}.jsonl').write_text(''.join(lines), encoding='utf-8', newline='\n')
    node('text.ts', root)

    tokenizer = AutoTokenizer.from_pretrained(root / 'model')
    with check('token ids equal those of AutoTokenizer') as figures:
        result = json.loads((root / 'ids.json').read_text())
        require(result['vocabSize'] == len(tokenizer) and result['eosId'] == tokenizer.eos_token_id)
        tokens = 0
        for special in (True, False):
            expected = tokenizer(texts, add_special_tokens=special)['input_ids']
            for text, ours, theirs in zip(texts, result['special' if special else 'bare'], expected, strict=True):
                require(ours == theirs, repr(text), ours, theirs)
                tokens += len(theirs)
        figures += [f'{len(texts)} texts', f'{tokens} ids equal']
    for name, rows, handler in (('plain', plain, pretraining_rows), ('instructions', instructions, instruction_rows)):
        for end, limit in ((False, None), (True, 100)):
            variant = f'{name}{"-eod" if end else ""}'
            with check(f'datasets equal those made in Python, byte for byte: {variant}') as figures:
                eos = [tokenizer.eos_token_id] if end else []
                expected = handler(rows, tokenizer, eos, limit or sys.maxsize)
                size = 0
                for suffix, documents in expected.items():
                    for extension, content in zip(('idx', 'bin'), indexed_dataset(documents)):
                        file = root / f'{variant}-data{suffix}.{extension}'
                        require(file.read_bytes() == content, file.name)
                        size += len(content)
                dropped = sum(not document for document in documents)
                figures += [f'{len(rows)} rows', f'{dropped} too long', f'{2 * len(expected)} files',
                            f'{size} bytes equal']


if __name__ == '__main__':
    main(pathlib.Path(sys.argv[1]))
