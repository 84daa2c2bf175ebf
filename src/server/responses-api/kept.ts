/** Responses that the engine keeps: checkpoints with a note. Only names that are a response's are looked up. */
import { type Checkpoint, LongmindError } from '../../index.js';
import type { ServerContext } from '../context.js';
import { serverErrors } from '../errors.js';
import { keptMessage } from '../tool-output.js';
import { type ResponseJson, responseShell, statusOf, wholeResponse } from './format.js';
import { type Item, type ItemJson, inputJson, itemIds, outputJson, responseOf, type Said, saidItems } from './items.js';
import { type Head, type Note, readHead, readNote } from './note.js';

/** A turn of a conversation, read. */
interface Turn {
  note: Note;
  head: Head;
  point: Checkpoint;
  said: Said & { reasoningTokens: number };
}

export class KeptResponses {
  constructor(private readonly ctx: Pick<ServerContext, 'engine' | 'toolStyle' | 'toolTags'>) {}

  /** @throws response_not_found */
  async head(id: string, owner: number, param: string): Promise<string> {
    return this.#known(id, param, async () => (await this.ctx.engine.checkpoints.get(id, owner)).head);
  }

  async headOrNull(id: string, owner: number): Promise<string | null> {
    return this.head(id, owner, 'id').catch(unknownIs(null));
  }

  /** @throws response_not_found */
  async delete(id: string, owner: number): Promise<void> {
    await this.#known(id, 'id', () => this.ctx.engine.checkpoints.delete(id, owner));
  }

  /** @throws response_not_found */
  async get(id: string, owner: number): Promise<ResponseJson> {
    const { note, head, point, said } = (await this.#turns(id, owner, 'id')).at(-1)!;
    const status = statusOf(point.finishReason) === 'completed' ? 'completed' : 'incomplete';
    const { prompt: promptTokens, end, cachedTokens, finishReason } = point;
    const { reasoningTokens } = said;
    const usage = { promptTokens, cachedTokens, completionTokens: end - promptTokens, reasoningTokens };
    const output = outputJson(said, itemIds(note.id), status);
    return wholeResponse(responseShell(note, head, true), finishReason, output, usage);
  }

  /** All that the response was made from, the answers before it included, in order. @throws response_not_found */
  async inputItems(id: string, owner: number): Promise<ItemJson[]> {
    const turns = await this.#turns(id, owner, 'id');
    return turns.flatMap((t, i) => (i === turns.length - 1 ? inputsOf(t) : [...inputsOf(t), ...outputsOf(t)]));
  }

  /** What was said up to the end of a response. @throws response_not_found */
  async history(id: string, owner: number, param: string): Promise<Item[]> {
    return (await this.#turns(id, owner, param)).flatMap((t) => [...t.note.items, ...saidItems(t.said)]);
  }

  /** The item of that id. @throws item_not_found */
  async item(id: string, owner: number, param: string): Promise<Item> {
    const response = responseOf(id);
    const turn = response && (await this.#turns(response, owner, param).catch(unknownIs(null)))?.at(-1);
    if (turn) {
      const inputs = turn.note.items.filter((item, i) => itemIds(turn.note.id).input(item.kind, i) === id);
      const said = saidItems(turn.said).filter((_, i) => outputsOf(turn)[i]!.id === id);
      const found = inputs[0] ?? said[0];
      if (found) return found;
    }
    throw serverErrors.itemUnknown(id, param);
  }

  async #turns(id: string, owner: number, param: string): Promise<Turn[]> {
    const { turns, tokens } = await this.#known(id, param, () => this.ctx.engine.checkpoints.path(id, owner));
    const read = turns.map((point) => this.#read(point, tokens));
    if (read.some((t) => t === null)) throw serverErrors.responseUnknown(id, param);
    return read as Turn[];
  }

  #read(point: Checkpoint, tokens: Int32Array): Turn | null {
    const { engine } = this.ctx;
    const { start, prompt, end } = point;
    const note = readNote(point.note, () => engine.decode(tokens.subarray(start, prompt), { special: true }));
    if (!note) return null;
    const head = readHead(point.head);
    const ids = [...tokens.subarray(prompt, end)];
    const { callId } = itemIds(note.id);
    const said = keptMessage(tokens.subarray(start, prompt), ids, head.told ? head.tools : null, this.ctx, callId);
    return { note, head, point, said };
  }

  /** The engine's error, in the words of this API. */
  async #known<T>(id: string, param: string, ask: () => Promise<T>): Promise<T> {
    if (!id.startsWith('resp_')) throw serverErrors.responseUnknown(id, param);
    const found = await ask().catch(unknownIs(null));
    if (found === null) throw serverErrors.responseUnknown(id, param);
    return found;
  }
}

const unknownIs =
  <T>(value: T) =>
  (e: unknown): T => {
    if (e instanceof LongmindError && e.status === 404) return value;
    throw e;
  };

function inputsOf({ note }: Turn): ItemJson[] {
  const ids = itemIds(note.id);
  return note.items.map((item, i) => inputJson(item, ids.input(item.kind, i)));
}

const outputsOf = ({ note, said }: Turn): ItemJson[] => outputJson(said, itemIds(note.id), 'completed');
