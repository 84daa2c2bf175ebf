/** The tokenizer's thread: long texts and chat templates keep neither the HTTP thread nor the engine waiting. */
import { parentPort, workerData } from 'node:worker_threads';
import { errors, invariant, LongmindError } from '../errors.js';
import { type ChatTemplate, createChatTemplate } from './chat-template.js';
import { unpackMetadata } from './packed.js';
import type { FromWorker, Job, TokenizerInfo, WorkerData } from './protocol.js';
import { createTokenizer } from './tokenizer.js';
import type { Tokenizer } from './types.js';

invariant(parentPort, 'the tokenizer worker was not started as a worker');
const port = parentPort;
const send = (message: FromWorker, transfer: ArrayBuffer[] = []): void => port.postMessage(message, transfer);

function run(job: Job, tokenizer: Tokenizer, template: ChatTemplate): { ids: Int32Array; text: string } {
  if (job.type === 'encode') return { ids: tokenizer.encode(job.text, job.options), text: '' };
  return job.continued ? template.continue(job.messages, job.options) : template.apply(job.messages, job.options);
}

function infoOf(tokenizer: Tokenizer, template: ChatTemplate): TokenizerInfo {
  const { model, vocabSize, special, endTokens, startTokens, tokenBytes, fingerprint, warnings } = tokenizer;
  return {
    model,
    vocabSize,
    special,
    endTokens: [...endTokens],
    startTokens: [...startTokens],
    tokenBytes,
    fingerprint,
    warnings: [...warnings],
    templateInstead: template.instead,
  };
}

const asError = (e: unknown): LongmindError =>
  e instanceof LongmindError ? e : errors.engineFailed(`tokenizing: ${e instanceof Error ? e.message : String(e)}`);

try {
  const { metadata, modelVocab } = workerData as WorkerData;
  const tokenizer = createTokenizer(unpackMetadata(metadata), { modelVocab });
  const template = createChatTemplate(unpackMetadata(metadata), tokenizer);
  port.on('message', (job: Job) => {
    try {
      const { ids, text } = run(job, tokenizer, template);
      send({ type: 'done', ids, text }, [ids.buffer as ArrayBuffer]);
    } catch (e) {
      send({ type: 'failed', error: asError(e).toJSON() });
    }
  });
  send({ type: 'ready', info: infoOf(tokenizer, template) });
} catch (e) {
  send({ type: 'refused', error: asError(e).toJSON() });
}
