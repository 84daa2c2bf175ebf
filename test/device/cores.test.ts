/** How many threads compute by default (one for each core, not for each hardware thread), and where their memory lies. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { allowedCores } from '../../src/device/cpu/cores.js';

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'longmind-cores-'));
after(() => fs.rmSync(folder, { recursive: true, force: true }));
let trees = 0;

/** A machine whose CPU i has the given siblings (none: offline), for a process that may use the CPUs of `allowed`. */
function machine(allowed: string | null, siblings: (string | null)[], file = 'core_cpus_list'): string {
  const root = path.join(folder, String(trees++));
  fs.mkdirSync(path.join(root, 'proc/self'), { recursive: true });
  const line = allowed === null ? '' : `Cpus_allowed:\tff\nCpus_allowed_list:\t${allowed}\n`;
  fs.writeFileSync(path.join(root, 'proc/self/status'), `Name:\tnode\n${line}Mems_allowed_list:\t0\n`);
  siblings.forEach((list, cpu) => {
    const topology = path.join(root, `sys/devices/system/cpu/cpu${cpu}/topology`);
    if (list === null) return;
    fs.mkdirSync(topology, { recursive: true });
    fs.writeFileSync(path.join(topology, file), `${list}\n`);
  });
  return root;
}

const FOUR_BY_TWO = ['0,4', '1,5', '2,6', '3,7', '0,4', '1,5', '2,6', '3,7'];

describe('cores that this process may use', () => {
  it('two hardware threads of a core count once', () => assert.equal(allowedCores(machine('0-7', FOUR_BY_TWO)), 4));
  it('neighbours may be siblings too', () =>
    assert.equal(allowedCores(machine('0-3', ['0-1', '0-1', '2-3', '2-3'])), 2));
  it('only allowed CPUs count, of whichever hardware thread', () => {
    assert.equal(allowedCores(machine('1,5-6', FOUR_BY_TWO)), 2);
    assert.equal(allowedCores(machine('4-7', FOUR_BY_TWO)), 4);
  });
  it('cores without siblings, cores of two kinds', () => {
    assert.equal(allowedCores(machine('0-2', ['0', '1', '2'])), 3);
    assert.equal(allowedCores(machine('0-3', ['0-1', '0-1', '2', '3'])), 3);
  });
  it('older systems call the list otherwise', () =>
    assert.equal(allowedCores(machine('0-7', FOUR_BY_TWO, 'thread_siblings_list')), 4));
  it('offline CPUs do not count; what the system does not tell is not guessed', () => {
    assert.equal(allowedCores(machine('0-3', ['0', '1', null, null])), 2);
    assert.equal(allowedCores(machine(null, FOUR_BY_TWO)), null);
    assert.equal(allowedCores(machine('0-3', [])), null);
    assert.equal(allowedCores(path.join(folder, 'nothing')), null);
  });
});

describe('weights and KV on a machine of several memory nodes', {
  skip: process.platform !== 'linux' && 'Linux alone',
}, () => {
  const program = path.join(folder, 'numa');
  const source = fileURLToPath(new URL('../../../native/test/numa.cpp', import.meta.url));
  execFileSync('g++', ['-std=c++20', source, '-o', program]);
  /** What the system is asked for where the process may use these nodes (bits, hexadecimal), and what comes of it. */
  const ask = (nodes: string, ...refused: string[]) =>
    execFileSync(program, [nodes, ...refused], { encoding: 'utf8' })
      .trim()
      .split('\n');

  it('are spread over all that the process may use', () => {
    assert.deepEqual(ask('3'), ['10000 8192 3 3 1025 0', '1']);
    assert.deepEqual(ask('a'), ['10000 8192 3 a 1025 0', '1']);
  });
  it('are left alone where there is one, or the system does not tell', () => {
    for (const nodes of ['1', '4', '0']) assert.deepEqual(ask(nodes), ['0']);
  });
  it('lie where they are touched first if the system refuses', () =>
    assert.deepEqual(ask('3', 'refused'), ['10000 8192 3 3 1025 0', '0']));
});
