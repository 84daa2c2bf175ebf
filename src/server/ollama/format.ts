/** Answers of Ollama's API: lines of JSON. */
import type { Engine, LongmindError, TokenLogprob, Usage } from '../../index.js';
import { chatLogprobs, type Finished, type Format } from '../format.js';

type Json = Record<string, unknown>;

/** How an endpoint carries what was said. */
export interface Spelling {
  said(text: string, calls: Json[], thinking?: string | null): Json;
}

export const chatSpelling: Spelling = {
  said: (content, calls, thinking) => ({
    message: {
      role: 'assistant',
      content,
      ...(thinking ? { thinking } : {}),
      ...(calls.length > 0 ? { tool_calls: calls } : {}),
    },
  }),
};

export const generateSpelling: Spelling = {
  said: (response, _calls, thinking) => ({ response, ...(thinking ? { thinking } : {}) }),
};

export const ollamaError = ({ message }: LongmindError): Json => ({ error: message });

const nanoseconds = (ms: number): number => Math.round(ms * 1e6);

/** The model is there before anybody asks. */
const NO_LOADING = 0;

function doneJson({ reason, timings: t }: Finished, usage: Usage): Json {
  return {
    done: true,
    done_reason: reason === 'tool_calls' ? 'stop' : reason,
    total_duration: nanoseconds(t.total),
    load_duration: NO_LOADING,
    prompt_eval_count: usage.promptTokens,
    prompt_eval_duration: nanoseconds(Math.max(0, t.ttft - t.queue)),
    eval_count: usage.completionTokens,
    eval_duration: nanoseconds(Math.max(0, t.total - t.ttft)),
  };
}

/** What is answered to a request that asks for nothing. */
export const loaded = (model: string, spelling: Spelling): Json => ({
  model,
  created_at: new Date().toISOString(),
  ...spelling.said('', []),
  done: true,
  done_reason: 'load',
});

const callJson = ({ id, name, args }: { id: string; name: string; args: string }): Json => ({
  id,
  function: { name, arguments: JSON.parse(args) as Json },
});

export function ollamaFormat(model: string, spelling: Spelling, decode: Engine['decode']): Format {
  const head = () => ({ model, created_at: new Date().toISOString() });
  const line = (json: Json): string => `${JSON.stringify(json)}\n`;
  const logprobs = (list: TokenLogprob[] | null) => (list ? { logprobs: chatLogprobs(list, decode)!.content } : {});
  /** A call goes out when it is whole. */
  let open: { id: string; name: string; args: string } | null = null;
  const callLine = (): string => {
    if (!open) return '';
    const json = callJson(open);
    open = null;
    return line({ ...head(), ...spelling.said('', [json]), done: false });
  };
  return {
    style: { contentType: 'application/x-ndjson', ping: null },
    open: () => '',
    delta: (_, text, list) => line({ ...head(), ...spelling.said(text, []), ...logprobs(list), done: false }),
    think: (_, text, list) => line({ ...head(), ...spelling.said('', [], text), ...logprobs(list), done: false }),
    call: (_, { id, function: f }) => {
      const before = id === undefined ? '' : callLine();
      if (id !== undefined) open = { id, name: f.name!, args: f.arguments };
      else if (open) open.args += f.arguments;
      return before;
    },
    // one that was cut off satisfies no schema
    finish: (_, reason) => (reason === 'tool_calls' ? callLine() : ''),
    end: ([r], usage) => line({ ...head(), ...spelling.said('', []), ...doneJson(r!, usage) }),
    error: (e) => line(ollamaError(e)),
    body: ([r], usage) => {
      const calls = (r!.calls ?? []).map((c) =>
        callJson({ id: c.id, name: c.function.name, args: c.function.arguments }),
      );
      const text = calls.length > 0 && r!.text.trim() === '' ? '' : r!.text;
      return {
        ...head(),
        ...spelling.said(text, calls, r!.reasoning),
        ...logprobs(r!.logprobs),
        ...doneJson(r!, usage),
      };
    },
  };
}
