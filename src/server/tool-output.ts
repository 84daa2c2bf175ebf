/** What a model with tools has written: text and calls, whole or as it streams. */
import { randomBytes } from 'node:crypto';
import { PROMPT_TAIL, ReasoningSplitter, reasoningMarks, reasoningStart } from '../base/reasoning.js';
import {
  type Engine,
  type GenerationResult,
  ToolCallParser,
  type ToolFormat,
  type ToolSpec,
  toolMarks,
} from '../index.js';

export interface ApiCall {
  id: string;
  type: 'function';
  function: { name: string; arguments: string };
}

/** A piece of a call: its beginning has id, type and name. */
export interface CallDelta {
  index: number;
  id?: string;
  type?: 'function';
  function: { name?: string; arguments: string };
}

/** Tokens that are marks of calls or of thinking in this vocabulary, by id: decoding leaves them out, so they are spelled here. */
export type TagTokens = ReadonlyMap<number, string>;

/** Empty where tags are spelled with ordinary tokens. */
export async function tagTokens(engine: Engine, format: ToolFormat): Promise<TagTokens> {
  const tags = new Map<number, string>();
  const { reasoning } = engine.info;
  for (const tag of [...toolMarks(format), ...(reasoning ? reasoningMarks(reasoning) : [])]) {
    const ids = await engine.encode(tag, { special: true });
    if (ids.length === 1 && engine.decode(ids) === '') tags.set(ids[0]!, tag);
  }
  return tags;
}

/** What calls are read with. */
interface CallReading {
  toolStyle: { format: ToolFormat };
  toolTags: TagTokens;
  engine: Pick<Engine, 'decode' | 'info'>;
}

export class ToolOutput {
  readonly #parser: ToolCallParser;
  readonly #deltas: CallDelta[] = [];
  #text = '';
  #ended = 0;

  constructor(
    format: ToolFormat,
    tools: readonly ToolSpec[],
    private readonly tags: TagTokens,
    private readonly idOf: (index: number) => string = callId,
  ) {
    this.#parser = new ToolCallParser(format, tools);
  }

  /** One token with the text of the answer that became complete by it. `thinking`: the token itself belongs to the thinking. */
  push(tokenId: number, text: string, thinking: boolean): void {
    this.pushText(thinking ? text : text + (this.tags.get(tokenId) ?? ''));
  }

  pushText(text: string): void {
    if (text !== '') this.#take(this.#parser.push(text));
  }

  /** Nothing more will come. */
  end(): void {
    this.#take(this.#parser.end());
  }

  get called(): boolean {
    return this.#parser.calls > 0;
  }

  /** Calls whose arguments are whole. */
  get complete(): number {
    return this.#ended;
  }

  /** Characters that nobody has taken yet. */
  get waiting(): number {
    return this.#deltas.reduce((sum, d) => sum + d.function.arguments.length + 100, this.#text.length);
  }

  /** What came since the last time. Text always comes before calls: after them a message ends. */
  take(): { text: string; calls: CallDelta[] } {
    const text = this.#text;
    this.#text = '';
    return { text, calls: this.#deltas.splice(0) };
  }

  #take(events: ReturnType<ToolCallParser['push']>): void {
    for (const e of events) {
      if (e.kind === 'text') this.#text += e.text;
      else if (e.kind === 'call')
        this.#deltas.push({
          index: e.index,
          id: this.idOf(e.index),
          type: 'function',
          function: { name: e.name, arguments: '' },
        });
      else if (e.kind === 'end') this.#ended++;
      else this.#argue(e.index, e.delta);
    }
  }

  /** Pieces of arguments that wait are joined, but a call's beginning goes out by itself. */
  #argue(index: number, delta: string): void {
    const last = this.#deltas.at(-1);
    if (last?.index === index && last.id === undefined) last.function.arguments += delta;
    else this.#deltas.push({ index, function: { arguments: delta } });
  }
}

const callId = (): string => `call_${randomBytes(12).toString('hex')}`;

/** The message of a whole answer. A call that was cut off is left out: its arguments satisfy no schema. */
export function toolMessage(
  result: Pick<GenerationResult, 'text' | 'reasoning' | 'tokenIds'>,
  tools: readonly ToolSpec[],
  reading: CallReading,
  idOf?: (index: number) => string,
): { text: string; calls: ApiCall[] } {
  if (reading.toolTags.size === 0) return messageOf(result.text, tools, reading, idOf);
  const whole = spelled(result.tokenIds, reading);
  return messageOf(answerIn(whole, result.reasoning !== null, reading), tools, reading, idOf);
}

/** The answer in a text that has its thinking before it. */
function answerIn(whole: string, thought: boolean, { engine: { info } }: CallReading): string {
  if (!info.reasoning || !thought) return whole;
  const begun = whole.trimStart().startsWith(info.reasoning.open);
  const splitter = new ReasoningSplitter(info.reasoning, begun ? 'before' : 'inside');
  return splitter.push(whole).text + splitter.end().text;
}

/** What was said in these tokens, which follow `prompt`, when nothing but them was kept. `tools`: what it may call; null: nothing. */
export function keptMessage(
  prompt: Int32Array,
  tokenIds: number[],
  tools: readonly ToolSpec[] | null,
  reading: CallReading,
  idOf: (index: number) => string,
): { text: string; reasoning: string | null; reasoningTokens: number; calls: ApiCall[] } {
  const { engine, toolTags: tags } = reading;
  const { reasoning: format } = engine.info;
  const read = (text: string) => (tools ? messageOf(text, tools, reading, idOf) : { text, calls: [] });
  const plain = () => (tools ? spelled(tokenIds, reading) : engine.decode(tokenIds));
  if (!format) return { ...read(plain()), reasoning: null, reasoningTokens: 0 };
  const start = reasoningStart(format, engine.decode(prompt.slice(-PROMPT_TAIL), { special: true }));
  const splitter = new ReasoningSplitter(format, start);
  const [said, rest] = [splitter.push(spelled(tokenIds, reading)), splitter.end()];
  if (!splitter.began) return { ...read(plain()), reasoning: null, reasoningTokens: 0 };
  // marks are ASCII: that characters are broken between tokens does not matter
  const counter = new ReasoningSplitter(format, start);
  const first = tokenIds.findIndex((id) => counter.push(tags.get(id) ?? engine.decode([id])).text !== '');
  return {
    ...read(said.text + rest.text),
    reasoning: said.reasoning + rest.reasoning,
    reasoningTokens: first < 0 ? tokenIds.length : first,
  };
}

function spelled(tokenIds: readonly number[], { toolTags, engine }: CallReading): string {
  let text = '';
  for (const part of splitAtTags(tokenIds, toolTags)) text += typeof part === 'string' ? part : engine.decode(part);
  return text;
}

function messageOf(
  content: string,
  tools: readonly ToolSpec[],
  { toolStyle, toolTags }: CallReading,
  idOf?: (index: number) => string,
): { text: string; calls: ApiCall[] } {
  const output = new ToolOutput(toolStyle.format, tools, toolTags, idOf);
  output.pushText(content);
  output.end();
  const { text, calls } = output.take();
  const whole: ApiCall[] = [];
  for (const c of calls) {
    if (c.id !== undefined)
      whole.push({ id: c.id, type: 'function', function: { name: c.function.name!, arguments: '' } });
    else whole[c.index]!.function.arguments += c.function.arguments;
  }
  return { text, calls: whole.slice(0, output.complete) };
}

function* splitAtTags(ids: readonly number[], tags: TagTokens): Generator<string | number[]> {
  let run: number[] = [];
  for (const id of ids) {
    const tag = tags.get(id);
    if (tag === undefined) run.push(id);
    else {
      yield run;
      yield tag;
      run = [];
    }
  }
  yield run;
}
