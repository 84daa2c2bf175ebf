/** Requests on their way to the engine's thread: those of one moment in one message, a grammar once. */
import type { Grammar } from 'longmind-grammar';
import type { ToWorker } from './protocol.js';
import type { EngineRequest } from './request.js';

/** Masks are kept with a grammar, up to 8 MiB each, so the worker holds only the last used ones. */
const GRAMMARS_KEPT = 16;

export class Outgoing {
  #requests: EngineRequest[] = [];
  /** Of those that the worker has heard of and has not ended. */
  readonly sent = new Set<number>();
  readonly #grammarIds = new WeakMap<object, number>();
  /** Grammars that the worker has, by number, the last used last. */
  readonly #grammars = new Set<number>();
  #grammarsSeen = 0;

  constructor(
    private readonly post: (m: ToWorker) => void,
    /** Somebody still waits for the request. */
    private readonly wanted: (id: number) => boolean,
  ) {}

  /** Goes soon, together with those whose prompts are ready at the same moment; not at all if it ends meanwhile. */
  send(request: EngineRequest): void {
    this.#requests.push(request);
    if (this.#requests.length === 1) queueMicrotask(() => this.#flush());
  }

  /** The number of a grammar; the same object is the same grammar. It is sent unless the worker has it. */
  grammar(grammar: object | undefined): number | null {
    if (!grammar) return null;
    const id = this.#grammarIds.get(grammar) ?? ++this.#grammarsSeen;
    this.#grammarIds.set(grammar, id);
    if (!this.#grammars.delete(id)) this.post({ type: 'grammar', id, grammar: grammar as Grammar });
    this.#grammars.add(id);
    return id;
  }

  #flush(): void {
    const requests = this.#requests.filter(({ id }) => this.wanted(id));
    this.#requests = [];
    for (const { id } of requests) this.sent.add(id);
    if (requests.length > 0) this.post({ type: 'requests', requests });
    // after the requests that name them
    for (const id of this.#grammars) {
      if (this.#grammars.size <= GRAMMARS_KEPT) break;
      this.#grammars.delete(id);
      this.post({ type: 'grammar', id, grammar: null });
    }
  }
}
