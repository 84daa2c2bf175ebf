/** A thread of the quantiser. */
import { answer, begin, type CallMessage } from '../base/worker.js';
import { type Calls, work } from './pieces.js';

const begun = begin(() => ({ made: null, info: null }));
begun?.port.on('message', (m: CallMessage<Calls>) =>
  answer<Calls, null>(begun.port, m, { piece: work }, null, (bytes) => [bytes.buffer as ArrayBuffer]),
);
