"""Trains the small SentencePiece models and the rank file of this folder. Run: python train_sentencepiece.py
With `texts.json FILE.json` it only writes what sentencepiece and tiktoken make of those texts, for each model.
(sentencepiece 0.2.2, Apache-2.0; tiktoken 0.14, MIT)."""
import base64
import json
import os
import pathlib
import sys
import unicodedata

import sentencepiece as spm
import tiktoken

HERE = pathlib.Path(__file__).parent
TEXT = [
    "The quick brown fox jumps over the lazy dog. It's what they're used to, isn't it? We'll see, I've said.",
    "In 2024 there were 1234567 rows; 89 of them had 3.14159 in the first column, and 42 in the second.",
    "def main():", "    for i in range(10):", "        print(f'{i:>4}')", "if __name__ == '__main__':", "\tmain()",
    "训练大语言模型需要大量的数据。我们把数据转换成模型可以读取的格式，然后开始训练。你好，世界！今天天气很好。",
    "Über den Wolken, où l'été est là, señor; Привет, мир! Как дела? こんにちは世界 안녕하세요 세계",
    "abc abd ab", "Faces 😀 😂 👍 and families, flags 🇨🇳 and tiles 🀄. ﬁne ｆｕｌｌ ｗｉｄｔｈ ① ㎏",
] * 8
MODELS = {
  # like Llama 2
  "bpe-bytes": dict(model_type="bpe", vocab_size=640, byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False, allow_whitespace_only_pieces=True, split_digits=True),
  # no prefix, user-defined symbols, like Yi
  "bpe-symbols": dict(model_type="bpe", vocab_size=700, byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False, add_dummy_prefix=False, user_defined_symbols=["<|im_start|>", "<|im_end|>", "▁▁▁▁", "fox", "数据"], control_symbols=["<pad>"]),
  # sentencepiece's defaults
  "bpe-rules": dict(model_type="bpe", vocab_size=420, normalization_rule_tsv="rules.tsv", character_coverage=0.98, user_defined_symbols=["①x", "<mask>"]),
  "unigram": dict(model_type="unigram", vocab_size=400, normalization_rule_tsv="rules.tsv", character_coverage=0.98, user_defined_symbols=["<mask>", "  two"]),
  "unigram-bytes": dict(model_type="unigram", vocab_size=620, byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False, split_digits=True),
}
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

# Code points of what is replaced, of what replaces it: a ligature, full width, a circled one, case, an accent, two kinds
# of space, a control character that goes, and a longer rule beside a shorter one.
RULES = ["FB01\t66 69", "FF46\t66", "FF55\t75", "FF4C\t6C", "2460\t31", "338F\t6B 67", "54\t74", "65 301\tE9",
         "3000\t20", "A0\t20", "1\t", "2026\t2E 2E 2E", "61 62 63\t78", "61 62\t79", "FF01\t20 21 20"]
(HERE / "rules.tsv").write_text("\n".join(RULES) + "\n")


def train():
    os.chdir(HERE)  # The models hold the paths they were made with.
    for name, options in MODELS.items():
        spm.SentencePieceTrainer.train(sentence_iterator=iter(TEXT), model_prefix=name,
                                       hard_vocab_limit=False, num_threads=1, minloglevel=2, **options)
        (HERE / f"{name}.vocab").unlink()
    # Ranks by merging the most frequent pair of bytes, ties by the pair: as good as any for a test.
    words = [list(bytes([b]) for b in w.encode()) for line in TEXT for w in line.replace(" ", "\n ").split("\n")]
    ranks = {bytes([b]): b for b in range(256)}
    while len(ranks) < 600:
        counts = {}
        for word in words:
            for pair in zip(word, word[1:]):
                counts[pair] = counts.get(pair, 0) + 1
        left, right = max(counts, key=lambda pair: (counts[pair], pair))
        ranks[left + right] = len(ranks)
        for word in words:
            at = 0
            while at < len(word) - 1:
                if (word[at], word[at + 1]) == (left, right):
                    word[at:at + 2] = [left + right]
                at += 1
    lines = [f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in ranks.items()]
    (HERE / "ranks.tiktoken").write_text("".join(lines))


def expect(texts):
    found = {}
    for name in MODELS:
        found[name] = spm.SentencePieceProcessor(model_file=str(HERE / f"{name}.model")).encode(texts)
    lines = (HERE / "ranks.tiktoken").read_text().splitlines()
    ranks = {base64.b64decode(line.split()[0]): int(line.split()[1]) for line in lines}
    for name, digits in {"qwen": "", "glm4": "{1,3}"}.items():
        encoding = tiktoken.Encoding(name, pat_str=PATTERN % digits, mergeable_ranks=ranks, special_tokens={})
        form = "NFC" if name == "qwen" else None
        found[name] = [encoding.encode_ordinary(unicodedata.normalize(form, t) if form else t) for t in texts]
    return found


if len(sys.argv) == 3:
    texts = json.loads(pathlib.Path(sys.argv[1]).read_text(encoding="utf-8"))
    pathlib.Path(sys.argv[2]).write_text(json.dumps(expect(texts), separators=(",", ":")) + "\n")
else:
    train()
