import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { makeFolder, writable } from '../../src/base/folders.js';

describe('folders', () => {
  let root: string;
  before(() => {
    root = fs.mkdtempSync(path.join(os.tmpdir(), 'longmind-folders-'));
  });
  after(() => fs.rmSync(root, { recursive: true }));

  it('are made with those above them that are missing, and the topmost that was made is told', () => {
    const folder = path.join(root, 'a', 'b', 'c');
    assert.equal(makeFolder(folder, 0o700), path.join(root, 'a'));
    for (const f of ['a', 'a/b', 'a/b/c']) assert.equal(fs.statSync(path.join(root, f)).mode & 0o777, 0o700);
    assert.equal(makeFolder(folder), undefined);
    assert.equal(makeFolder(path.join(folder, 'd')), path.join(folder, 'd'));
  });

  it('where a file is in the way: the error of the file system', () => {
    fs.writeFileSync(path.join(root, 'file'), '');
    assert.throws(() => makeFolder(path.join(root, 'file')), { code: 'EEXIST' });
    assert.throws(
      () => makeFolder(path.join(root, 'file', 'x')),
      (e: NodeJS.ErrnoException) => /EEXIST|ENOTDIR/.test(e.code!),
    );
    assert.equal(writable(path.join(root, 'file')), false);
  });

  it('where the system makes none, an answer comes back', {
    skip: process.platform !== 'linux' && 'there is no /proc',
  }, () => {
    assert.throws(() => makeFolder('/proc/none/below'), { code: 'ENOENT' });
    assert.equal(writable('/proc/none/below'), false);
  });
});
