"""Ids by the Python libraries that made the models' own: python oracle.py KIND PATH, then a line of JSON for each batch:
{"texts": [...], "addSpecialTokens": true} in, [[ids], ...] out. Its first line says that it is ready."""
import base64
import json
import sys
import unicodedata

kind, path = sys.argv[1:]
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def oracle():
    if kind == "sentencepiece":
        import sentencepiece

        model = sentencepiece.SentencePieceProcessor(model_file=path)
        return lambda text, special: model.encode(text)
    if kind == "class":
        import transformers

        transformers.logging.set_verbosity_error()
        tokenizer = transformers.AutoTokenizer.from_pretrained(path, trust_remote_code=True)
        return lambda text, special: tokenizer(text, add_special_tokens=special)["input_ids"]
    import tiktoken

    with open(path, "rb") as file:
        lines = [line.split() for line in file if line.strip()]
    ranks = {base64.b64decode(token): int(rank) for token, rank in lines}
    pattern = PATTERN % ("" if kind == "qwen" else "{1,3}")
    encoding = tiktoken.Encoding(kind, pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    if kind == "qwen":
        return lambda text, special: encoding.encode_ordinary(unicodedata.normalize("NFC", text))
    return lambda text, special: encoding.encode_ordinary(text)


encode = oracle()
print("ready", flush=True)
for line in sys.stdin:
    batch = json.loads(line)
    print(json.dumps([encode(text, batch["addSpecialTokens"]) for text in batch["texts"]], separators=(",", ":")), flush=True)
