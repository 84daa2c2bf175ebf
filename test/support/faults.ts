/**
 * Faults for a server process under test, loaded by `node --import`: a file in the folder TEST_FAULTS makes the fault of its
 * name happen, once.
 */
import { existsSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { Manager } from '../../src/cache/manager.js';
import { PersistentBatch } from '../../src/engine/batch.js';
import { Core } from '../../src/engine/core.js';
import type { LiveRequest } from '../../src/engine/request.js';
import { StepBuilder } from '../../src/engine/step-builder.js';

function asked(fault: string): boolean {
  try {
    unlinkSync(join(process.env.TEST_FAULTS!, fault));
    return true;
  } catch {
    return false;
  }
}

/** Our own code throws in the middle of a step, between the device and the tokens. */
const { commit } = Manager.prototype;
Manager.prototype.commit = function (...args) {
  if (asked('commit-throws')) throw new Error('broken on purpose');
  return commit.apply(this, args);
};

/** Then making batch and cache anew fails too, as long as the file is there. */
const { restart } = Core.prototype;
Core.prototype.restart = function (error) {
  if (existsSync(join(process.env.TEST_FAULTS!, 'rebuild-throws'))) throw new Error('cannot be made anew');
  restart.call(this, error);
};

/** And outside of steps. */
const { abort } = PersistentBatch.prototype;
PersistentBatch.prototype.abort = function (id) {
  if (asked('abort-throws')) throw new Error('broken on purpose');
  abort.call(this, id);
};

/** Every step in which this request has a row is refused by the native device. */
const { addRow } = StepBuilder.prototype;
let refused: LiveRequest | null = null;
StepBuilder.prototype.addRow = function (r, count) {
  addRow.call(this, r, count);
  if (asked('bad-row')) refused = r;
  const { step } = this.flight;
  if (r === refused) step.tokens[step.tokenCount - 1] = 2 ** 30;
};

/** The native device is given a token that no vocabulary has, and refuses the step. */
const { end } = StepBuilder.prototype;
StepBuilder.prototype.end = function () {
  const step = end.call(this);
  if (step.tokenCount > 0 && asked('bad-step')) step.tokens[0] = 2 ** 30;
  return step;
};
