/** Every quantised type of GGUF against the numpy dequantisers of the `gguf` package (scripts/model-fixtures/quants.py). */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { it } from 'node:test';
import { decodeTensor } from '../reference/formats.js';

interface Fixture {
  blocks: string;
  first: number[];
  sha256: string;
}

const fixtures = JSON.parse(
  readFileSync(new URL('../../../test/fixtures/quants.json', import.meta.url), 'utf8'),
) as Record<string, Fixture>;

for (const [type, { blocks, first, sha256 }] of Object.entries(fixtures)) {
  it(`${type}: 1024 values are those of the gguf package, to the bit`, () => {
    const values = decodeTensor(type, Buffer.from(blocks, 'base64'), 1024).map((x) => x + 0);
    assert.deepEqual([...values.subarray(0, 4)], first);
    assert.equal(createHash('sha256').update(new Uint8Array(values.buffer)).digest('hex'), sha256);
  });
}
