/** What is said in bench:speculation. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { greedySampling } from '../src/config.js';
import type { EngineRequest } from '../src/engine/request.js';

export interface Text {
  name: string;
  /** What stands before, and what comes out. */
  prompt: string;
  answer: string;
  /** Tokens a second with guesses over without, at least. */
  target: number;
  sequences: number;
}

export const root = path.resolve(import.meta.dirname ?? path.dirname(new URL(import.meta.url).pathname), '..', '..');
const read = (name: string) => readFileSync(path.join(root, name), 'utf8');

/** Texts that were at hand and not written for this: our own sources and documents. */
export function texts(): Text[] {
  const code = read('src/engine/scheduler.ts').slice(0, 3500);
  const edited = code
    .replaceAll('budget', 'tokenBudget')
    .replaceAll('available', 'freeBlocks')
    .replace('+ blockLen', '+ 1');
  const document = read('docs/sessions.md').slice(0, 4000);
  const facts = document
    .split(/(?<=[.:])\s+/)
    .filter((_, i) => i % 3 === 1)
    .join('\n- ');
  const names = [
    'Ada Marsh',
    'Jonas Weber',
    'Li Na',
    'Omar Haddad',
    'Ruth Okafor',
    'Ivo Petrov',
    'Mina Sato',
    'Paul Novak',
  ];
  const record = (n: string, i: number) =>
    JSON.stringify(
      {
        id: 1000 + 37 * i,
        name: n,
        email: `${n.split(' ')[0]!.toLowerCase()}@example.org`,
        active: i % 3 > 0,
        tags: ['a', 'b'].slice(i % 2),
      },
      null,
      2,
    );
  const records = names.map(record);
  const prose = read('LICENSE').slice(600, 4200);
  const open = { name: 'open text (a licence)', prompt: prose.slice(0, 300), answer: prose.slice(300) };
  return [
    {
      name: 'code that is edited',
      prompt: `Rename budget and available:\n${code}\nEdited:\n`,
      answer: edited,
      target: 1.8,
      sequences: 1,
    },
    { name: 'facts of a document', prompt: `${document}\nFacts:\n- `, answer: facts, target: 1.8, sequences: 1 },
    {
      name: 'records of one shape',
      prompt: `[${records.slice(0, 3).join(',\n')},\n`,
      answer: records.slice(3).join(',\n'),
      target: 1.8,
      sequences: 1,
    },
    { ...open, target: 0.98, sequences: 1 },
    { ...open, name: 'open text, batch of 8', target: 1, sequences: 8 },
    { name: 'code, batch of 8', prompt: `Rename:\n${code}\nEdited:\n`, answer: edited, target: 1, sequences: 8 },
  ];
}

/** More of both kinds, on which nothing was tuned: for --calculate, where a text takes a moment. */
export function moreTexts(): Text[] {
  const open = (file: string, from: number): Text => {
    const text = read(file).slice(from, from + 3600);
    return { name: `open: ${file}`, prompt: text.slice(0, 300), answer: text.slice(300), target: 0.99, sequences: 1 };
  };
  const facts = (file: string): Text => {
    const document = read(file).slice(0, 5000);
    const every = document.split(/(?<=[.:])\s+/).filter((_, i) => i % 4 === 2);
    const prompt = `${document}\nWhat it says:\n- `;
    return { name: `facts: ${file}`, prompt, answer: every.join('\n- '), target: 1.8, sequences: 1 };
  };
  const edit = (file: string): Text => {
    const code = read(file).slice(500, 4500);
    const answer = code.replaceAll('pool', 'blocks').replaceAll('plan', 'scheme').replaceAll('const', 'let');
    return { name: `edit: ${file}`, prompt: `Edit:\n${code}\nResult:\n`, answer, target: 1.8, sequences: 1 };
  };
  const one = [
    open('docs/security.md', 0),
    open('docs/tiers.md', 1000),
    open('docs/structured-output.md', 1500),
    open('README.md', 0),
    facts('docs/tiers.md'),
    facts('docs/tools.md'),
    edit('src/cache/tree.ts'),
    edit('src/engine/planner.ts'),
  ];
  return [...one, ...one.map((t) => ({ ...t, name: `${t.name}, batch of 8`, target: 0.98, sequences: 8 }))];
}

/** A request that says `text`: its first `promptTokens` are the prompt, the others will be drawn. */
export function requestSaying(id: number, text: Int32Array, promptTokens: number): EngineRequest {
  return {
    id,
    tokens: text.slice(0, promptTokens),
    sessionId: null,
    continuation: null,
    stopTokens: [],
    priority: 0,
    owner: 0,
    grammar: null,
    forkOf: null,
    limits: { maxTokens: text.length - promptTokens, minTokens: 0, stop: [], stopTokens: [], ignoreEos: true },
    sampling: greedySampling,
  };
}
