/** Every promise of the batch again, with the engine one step ahead of the device. */
import '../support/one-ahead.js';
import './batch.test.js';
import './forks.test.js';
import './refused-step.test.js';
