import assert from 'node:assert/strict';
import { LongmindError } from '../../src/errors.js';

/** It throws a typed error of this code, whose message says so. */
export function fails(act: () => unknown, code: string, message: RegExp): void {
  assert.throws(act, (e) => {
    if (!(e instanceof LongmindError)) throw e;
    assert.equal(e.code, code, e.message);
    assert.match(e.message, message);
    return true;
  });
}
