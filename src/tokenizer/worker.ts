/** The tokenizer's thread: long texts and chat templates keep neither the HTTP thread nor the engine waiting. */
import { workerData } from 'node:worker_threads';
import { type Answers, answer, begin, type CallMessage } from '../base/worker.js';
import { type ChatTemplate, createChatTemplate } from './chat-template.js';
import { unpackMetadata } from './packed.js';
import type { Calls, TokenizerInfo, WorkerData } from './protocol.js';
import { createTokenizer } from './tokenizer.js';
import type { Tokenizer } from './types.js';

interface Made {
  tokenizer: Tokenizer;
  template: ChatTemplate;
}

const answers: Answers<Calls, Made> = {
  encode: ({ text, options }, { tokenizer }) => ({ ids: tokenizer.encode(text, options), text: '' }),
  chat: ({ messages, options, continued }, { template }) =>
    continued ? template.continue(messages, options) : template.apply(messages, options),
};

function make(): { made: Made; info: TokenizerInfo } {
  const { metadata, modelVocab } = workerData as WorkerData;
  const tokenizer = createTokenizer(unpackMetadata(metadata), { modelVocab });
  const template = createChatTemplate(unpackMetadata(metadata), tokenizer);
  return { made: { tokenizer, template }, info: infoOf(tokenizer, template) };
}

function infoOf(tokenizer: Tokenizer, template: ChatTemplate): TokenizerInfo {
  const { model, vocabSize, special, endTokens, startTokens, tokenBytes, warnings } = tokenizer;
  return {
    model,
    vocabSize,
    special,
    endTokens: [...endTokens],
    startTokens: [...startTokens],
    tokenBytes,
    warnings: [...warnings],
    templateInstead: template.instead,
  };
}

const begun = begin(make);
begun?.port.on('message', (m: CallMessage<Calls>) =>
  answer(begun.port, m, answers, begun.made, ({ ids }) => [ids.buffer as ArrayBuffer]),
);
