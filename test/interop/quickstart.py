"""Checks that the quickstart's model opens in transformers, writes text, and has the held-out loss that was printed.

python test/interop/quickstart.py FOLDER: the quickstart's model, data and recipe, but two epochs in place of six.
"""
import json
import pathlib
import sys

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from tap import check, node, require
from text import instruction_text
from training import instruction_samples

# The trainer measures with float32 weights. Stored in bfloat16 each moves by up to 1/512 of itself, up or down alike,
# so that most of it cancels: 4e-5 was seen. Stored in float32 the two differ by the rounding of computation alone.
TOLERANCE = {'bf16': 1e-3, 'fp32': 1e-5}
MICRO_BATCH, GLOBAL_BATCH = 8, 16


def held_out_loss(model, prefix, rows):
    """As the trainer measures it: all rows in whole global batches, the mean over the means of micro-batches."""
    batches = -(-rows // GLOBAL_BATCH)
    recipe = dict(seqLength=128, seed=1234, trainIters=batches, globalBatchSize=GLOBAL_BATCH)
    samples, losses = instruction_samples(prefix, recipe), []
    for _ in range(batches * GLOBAL_BATCH // MICRO_BATCH):
        batch = zip(*(next(samples) for _ in range(MICRO_BATCH)))
        tokens, labels = (torch.tensor(np.stack(part)).long() for part in batch)
        with torch.no_grad():
            logits = model(tokens).logits
        losses.append(cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100).item())
    return sum(losses) / len(losses)


def main(root):
    node('quickstart.ts', root)
    for dtype, tolerance in TOLERANCE.items():
        result = json.loads((root / f'{dtype}.json').read_text())
        with check(f'held-out loss of the quickstart in transformers, weights stored as {dtype}') as figures:
            model = AutoModelForCausalLM.from_pretrained(result['hf'], dtype=torch.float32)
            found = held_out_loss(model, result['heldOut'], result['rows'])
            figures += [f'printed {result["before"]:.4f} to {result["after"]:.4f}', f'transformers {found:.4f}',
                        f'difference {abs(found - result["after"]):.1e} of {tolerance:g} allowed']
            require(result['after'] < result['before'] - 1, 'the loss hardly falls:', *figures)
            require(abs(found - result['after']) <= tolerance, *figures)
    with check('transformers generates text with the quickstart model') as figures:
        folder = json.loads((root / 'bf16.json').read_text())['hf']
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype='auto')
        prompt = instruction_text({'instruction': 'What is the capital of France?', 'input': '', 'output': ''})[:-1]
        ids = tokenizer(prompt, return_tensors='pt')['input_ids']
        # Greedy, so that it is the same text each time; no end before 8 tokens, for the training was short.
        settings = GenerationConfig.from_pretrained(folder, max_length=None, max_new_tokens=24, min_new_tokens=8)
        with torch.no_grad():
            written = model.generate(ids, generation_config=settings)[0, ids.shape[1]:]
        text = tokenizer.decode(written, skip_special_tokens=True)
        require(model.dtype is torch.bfloat16 and text.strip() != '', repr(text))
        figures += [f'{len(written)} tokens', json.dumps(text)]


if __name__ == '__main__':
    main(pathlib.Path(sys.argv[1]))
