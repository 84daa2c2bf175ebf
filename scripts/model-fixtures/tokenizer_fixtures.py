"""Writes test/fixtures/tokenizer-json/NAME.json: a small tokenizer.json of each kind, and what the `tokenizers` library makes of
2,000 awkward texts (digests of the ids, special tokens found and not).

    npm run build && node bench/tokenizer-texts.mjs > texts.json
    pip install tokenizers && python scripts/model-fixtures/tokenizer_fixtures.py texts.json
"""
import hashlib
import json
import pathlib
import sys

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
import tokenizers

OUT = pathlib.Path(__file__).parents[2] / 'test/fixtures/tokenizer-json'
TEXTS = json.loads(pathlib.Path(sys.argv[1]).read_text())
CORPUS = TEXTS[:45] * 3 + [' '.join(t.split()) for t in TEXTS[:45]]

LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = LLAMA3.replace(r'\p{N}{1,3}', r'\p{N}')
CL100K = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
TEKKEN = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
DEEPSEEK = [r'[\r\n]', r'\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕ]+',
            r'\s?[!-/:-~！-／：-～‘-‟　-。]+', r'\s+$', r'[一-龥ࠀ-一가-퟿]+']
DEEPSEEK3 = [r'\p{N}{1,3}', r'[一-龥぀-ゟ゠-ヿ]+',
             r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"]


def split(pattern):
    return pre_tokenizers.Split(Regex(pattern), behavior='isolated')


def byte_level(pre, special, vocab=700, normalizer=None, ignore_merges=False, bos=None):
    t = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    if normalizer:
        t.normalizer = normalizer
    t.pre_tokenizer = pre
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=vocab, show_progress=False,
                                                      initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    t.add_special_tokens(special)
    if bos:
        t.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), processors.TemplateProcessing(
            single=f'{bos} $A', special_tokens=[(bos, t.token_to_id(bos))])])
    return t


def regex_then_bytes(*patterns):
    return pre_tokenizers.Sequence([*map(split, patterns), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


BYTES = [f'<0x{b:02X}>' for b in range(256)]


def spaced(normalizer=None, pre=None, vocab=900, fuse=True, decoder=None):
    """Like the conversions of SentencePiece models: merges over characters, unknown ones as bytes."""
    t = Tokenizer(models.BPE(unk_token='<unk>', byte_fallback=True, fuse_unk=fuse))
    if normalizer:
        t.normalizer = normalizer
    if pre:
        t.pre_tokenizer = pre
    # words alone are learnt from, or a short text would be one token
    t.train_from_iterator([w for c in CORPUS for w in c.replace(' ', ' \u0000').split('\u0000')], trainers.BpeTrainer(
        vocab_size=vocab, show_progress=False, special_tokens=['<unk>', '<s>', '</s>'] + BYTES, limit_alphabet=150,
        max_token_length=12))
    j = json.loads(t.to_str())
    j['added_tokens'] = [a for a in j['added_tokens'] if not a['content'].startswith('<0x')]
    t = Tokenizer.from_str(json.dumps(j))
    t.post_processor = processors.TemplateProcessing(single='<s> $A', special_tokens=[('<s>', t.token_to_id('<s>'))])
    return t


def unigram():
    t = Tokenizer(models.Unigram())
    t.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(' {2,}'), ' ')])
    t.pre_tokenizer = pre_tokenizers.Metaspace()
    t.train_from_iterator(CORPUS, trainers.UnigramTrainer(vocab_size=500, show_progress=False, unk_token='<unk>',
                                                          special_tokens=['<unk>', '<s>', '</s>'] + BYTES))
    j = json.loads(t.to_str())
    j['added_tokens'] = [a for a in j['added_tokens'] if not a['content'].startswith('<0x')]
    return j


def unigram_bytes():
    j = unigram()
    j['model']['byte_fallback'] = True
    return Tokenizer.from_str(json.dumps(j))


CHATML = ['<|endoftext|>', '<|im_start|>', '<|im_end|>']
META = '▁'


def kinds():
    yield 'llama3', byte_level(regex_then_bytes(LLAMA3), ['<|begin_of_text|>', '<|eot_id|>', '<|start_header_id|>', '<|end_header_id|>'],
                               ignore_merges=True, bos='<|begin_of_text|>')
    qwen = byte_level(regex_then_bytes(QWEN2), CHATML, normalizer=normalizers.NFC())
    qwen.add_tokens([AddedToken('<tool_call>', normalized=False), AddedToken('rock', normalized=True, single_word=True)])
    yield 'qwen2', qwen
    yield 'smollm', byte_level(pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                                        pre_tokenizers.ByteLevel(add_prefix_space=False)]), CHATML)
    yield 'gpt2-prefix', byte_level(pre_tokenizers.ByteLevel(add_prefix_space=True), ['<|endoftext|>'])
    yield 'cl100k', byte_level(regex_then_bytes(CL100K), CHATML)
    yield 'tekken', byte_level(regex_then_bytes(TEKKEN), ['<unk>', '<s>', '</s>', '[INST]', '[/INST]'], ignore_merges=True, bos='<s>')
    yield 'deepseek', byte_level(pre_tokenizers.Sequence([*map(split, DEEPSEEK), pre_tokenizers.Digits(individual_digits=True),
                                                          pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]), ['<|end_of_text|>'])
    yield 'deepseek3', byte_level(regex_then_bytes(*DEEPSEEK3), ['<|end_of_text|>', '<|im_end|>'])
    yield 'llama2', spaced(normalizers.Sequence([normalizers.Prepend(META), normalizers.Replace(' ', META)]))
    yield 'mistral-metaspace', spaced(pre=pre_tokenizers.Metaspace(prepend_scheme='first', split=False))
    yield 'metaspace-always', spaced(pre=pre_tokenizers.Metaspace(prepend_scheme='always', split=True), fuse=False)
    yield 'gemma', spaced(normalizers.Replace(' ', META), pre_tokenizers.Split(' ', 'merged_with_previous'))
    phi = spaced(normalizers.Sequence([normalizers.Prepend(META), normalizers.Replace(' ', META)]))
    phi.add_special_tokens([AddedToken(t, rstrip=True, normalized=False) for t in ('<|im_start|>', '<|im_end|>', '<|endoftext|>')])
    phi.add_tokens([AddedToken('[INST]', lstrip=True, normalized=False)])
    yield 'phi3', phi
    yield 'unigram', Tokenizer.from_str(json.dumps(unigram()))
    yield 'unigram-bytes', unigram_bytes()


def digest(a, b):
    return hashlib.sha256((','.join(map(str, a)) + ';' + ','.join(map(str, b))).encode()).hexdigest()[:6]


OUT.mkdir(exist_ok=True)
for name, t in kinds():
    found = [e.ids for e in t.encode_batch(TEXTS, add_special_tokens=False)]
    t.encode_special_tokens = True
    plain = [e.ids for e in t.encode_batch(TEXTS, add_special_tokens=False)]
    t.encode_special_tokens = False
    # what spells a special token is never one here, but the unigram model of the library makes it one
    if name.startswith('unigram'):
        plain = [[] for _ in plain]
    fixture = {'tokenizers': tokenizers.__version__, 'tokenizer': json.loads(t.to_str()),
               'start': t.encode('a').ids[:1] if t.post_processor and len(t.encode('a').ids) > len(t.encode('a', add_special_tokens=False).ids) else [],
               'digests': ''.join(digest(a, b) for a, b in zip(found, plain))}
    (OUT / f'{name}.json').write_text(json.dumps(fixture, ensure_ascii=True, separators=(',', ':')) + '\n')
    print(name, t.get_vocab_size(), (OUT / f'{name}.json').stat().st_size, 'bytes')
