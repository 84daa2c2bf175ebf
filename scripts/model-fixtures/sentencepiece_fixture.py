"""Writes test/fixtures/sentencepiece.json: a small tokenizer.model (byte-pair, byte fallback), and what the `sentencepiece`
library makes of 2,000 awkward texts.

    npm run build && node bench/tokenizer-texts.mjs > texts.json
    pip install sentencepiece && python scripts/model-fixtures/sentencepiece_fixture.py texts.json
"""
import base64
import hashlib
import io
import json
import pathlib
import sys

import sentencepiece

TEXTS = json.loads(pathlib.Path(sys.argv[1]).read_text())
OUT = pathlib.Path(__file__).parents[2] / 'test/fixtures/sentencepiece.json'
model = io.BytesIO()
corpus = [line for t in TEXTS[:45] for line in t.splitlines() if line.strip() and '\x00' not in line]
sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(corpus * 3), model_writer=model, vocab_size=700, model_type='bpe', byte_fallback=True,
    normalization_rule_name='identity', remove_extra_whitespaces=False, character_coverage=0.98, minloglevel=2,
    split_digits=True, allow_whitespace_only_pieces=True)
sp = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
# the library ends a text where a NUL is
digests = ''.join(hashlib.sha256(','.join(map(str, sp.encode(t))).encode()).hexdigest()[:6] if '\x00' not in t else '------'
                  for t in TEXTS)
OUT.write_text(json.dumps({'sentencepiece': sentencepiece.__version__, 'model': base64.b64encode(model.getvalue()).decode(),
                           'digests': digests}, separators=(',', ':')) + '\n')
print(sp.vocab_size(), OUT.stat().st_size, digests.count('------'))
