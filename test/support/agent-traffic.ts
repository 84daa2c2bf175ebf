/**
 * A coding agent's traffic: a long system prompt, 20 tools, many turns of calls and results. How long everything is, and
 * where the agent cut its context, comes from sessions that were recorded; the words are made up, by a seed.
 */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import type Anthropic from '@anthropic-ai/sdk';
import { uniform } from '../../src/bench/random.js';
import { root } from './spawn.js';

interface Recorded {
  id: string;
  /** Tokens of the tools and of the system prompt. */
  tools: number;
  system: number;
  /** Tokens: prompt, answer, leading ones of the prompt that are equal to those of the request before it. */
  requests: [prompt: number, answer: number, keep: number][];
}

type Prompt = Pick<Anthropic.MessageCreateParams, 'system' | 'tools' | 'messages'>;

const WORDS = `the file function returns value of test module import export const class type error line should when call
  result string number list object key path read write check name index buffer cache token stream request answer session
  engine build run fix change add remove update before after each other because first last next empty whole part`.split(
  /\s+/,
);

/** Characters a token of text has, roughly. */
const CHARS = 3;

const TOOLS = `read_file write_file edit_file delete_file move_file list_directory find_files search_text run_command
  read_output stop_command run_tests apply_patch show_diff commit fetch_page search_web ask_user update_plan start_task`.split(
  /\s+/,
);

export function recordedSessions(): Recorded[] {
  const file = path.join(root, 'test/fixtures/agent/sessions.json');
  return (JSON.parse(readFileSync(file, 'utf8')) as { sessions: Recorded[] }).sessions;
}

/** Text of about so many tokens. */
function textOf(tokens: number, random: () => number): string {
  let text = '';
  while (text.length < tokens * CHARS) {
    const word = WORDS[Math.floor(random() * WORDS.length)]!;
    text += word + (random() < 0.1 ? '\n' : ' ');
  }
  return text.trim() || 'ok';
}

/** One turn: what the agent asked for, and what came back. */
interface Turn {
  tokens: number;
  messages: Anthropic.MessageParam[];
}

function turnOf(id: number, answer: number, result: number, random: () => number): Turn {
  const name = TOOLS[Math.floor(random() * TOOLS.length)]!;
  const use = { type: 'tool_use' as const, id: `toolu_${id}`, name, input: { path: textOf(answer / 2, random) } };
  const text = { type: 'text' as const, text: textOf(answer / 2, random) };
  const told = { type: 'tool_result' as const, tool_use_id: use.id, content: textOf(result, random) };
  return {
    tokens: answer + result,
    messages: [
      { role: 'assistant', content: [text, use] },
      { role: 'user', content: [told] },
    ],
  };
}

/** The prompts of a session, all lengths multiplied by `scale`. Equal seeds of `shared` give equal tools and system prompts. */
export function* promptsOf(
  { tools, system, requests }: Recorded,
  scale: number,
  shared: number,
  seed: number,
): Generator<Prompt> {
  const common = uniform(shared);
  const random = uniform(seed);
  const described = TOOLS.map((name) => ({
    name,
    description: textOf((tools * scale) / TOOLS.length - 40, common),
    input_schema: { type: 'object' as const, properties: { path: { type: 'string' } }, required: ['path'] },
  }));
  const prompt = textOf(system * scale, common);
  const [first] = requests[0]!;
  const asked = Math.max(8, (first - tools - system) * scale);
  const opening = { role: 'user' as const, content: textOf(asked, random) };
  const base = (tools + system) * scale + asked;
  let turns: Turn[] = [];
  let before = 0;
  for (const [i, [total, answer, keep]] of requests.entries()) {
    const length = () => turns.reduce((sum, t) => sum + t.tokens, base);
    // the agent replaced what came after
    while (turns.length > 0 && length() > keep * scale + 64) turns = turns.slice(0, -1);
    if (i > 0) turns = [...turns, turnOf(i, before, Math.max(1, total * scale - length() - before), random)];
    before = answer * scale;
    yield { system: prompt, tools: described, messages: [opening, ...turns.flatMap((t) => t.messages)] };
  }
}
