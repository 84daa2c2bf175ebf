/** No test of its own: what test/scripts/skips.test.ts runs. */
import { describe, test } from 'node:test';

test('runs', () => {});
test('cannot run', { skip: 'there is no moon here' }, () => {});
describe('neither can these', { skip: 'nor a sun' }, () => {
  test('inner', () => {});
});
