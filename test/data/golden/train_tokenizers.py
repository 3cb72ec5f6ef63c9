"""Trains the two small tokenizers of this folder (tokenizers 0.23.2, Apache-2.0). Run: python train_tokenizers.py"""
import json
import pathlib

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = pathlib.Path(__file__).parent
TEXT = [
    "The quick brown fox jumps over the lazy dog. It's what they're used to, isn't it? We'll see, I've said.",
    "In 2024 there were 1234567 rows; 89 of them had 3.14159 in the first column, and 42 in the second.",
    "def main():\n    for i in range(10):\n        print(f'{i:>4}')\n\n\nif __name__ == '__main__':\n\tmain()\n",
    "训练大语言模型需要大量的数据。我们把数据转换成模型可以读取的格式，然后开始训练。你好，世界！今天天气很好。",
    "Über den Wolken, où l'été est là, señor; Привет, мир! Как дела? こんにちは世界 안녕하세요 세계",
    "Faces 😀 😂 👍 and families 👨‍👩‍👧‍👦, flags 🇨🇳 and tiles 🀄.",
] * 8


def byte_level():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer


def byte_fallback():
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=750, special_tokens=["<unk>", "<s>", "</s>", *byte_tokens], limit_alphabet=90, show_progress=False
    )
    # Words apart, so that no token spans two; the tokenizer itself does not split, as sentencepiece's do not.
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    tokenizer.train_from_iterator(TEXT, trainer)
    tokenizer.pre_tokenizer = None
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer


for name, make in {"byte-level": byte_level, "byte-fallback": byte_fallback}.items():
    text = json.loads(make().to_str())
    if name == "byte-fallback":
        # Byte tokens are part of the vocabulary alone, as in Llama 2: they are not looked for in the text.
        text["added_tokens"] = [token for token in text["added_tokens"] if token["id"] < 3]
    folder = HERE / "tokenizers" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(text, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")
