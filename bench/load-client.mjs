/** What the load measurements share on the client's side: the server's process, and streams that are checked. */
import { fork } from 'node:child_process';
import { Agent, request } from 'node:http';
import { fileURLToPath } from 'node:url';

/** Starts load-server.mjs. `profile`: file for a CPU profile of its main thread while it is measured. */
export async function startServer(engineOptions, profile) {
  const script = fileURLToPath(new URL('./load-server.mjs', import.meta.url));
  const child = fork(script, [JSON.stringify({ engineOptions, profile })]);
  const waiting = new Map();
  let next = 0;
  const ready = await new Promise((resolve, reject) => {
    child.on('message', (m) => {
      if (m.ready) resolve(m.ready);
      else if (m.error) waiting.get(m.id).reject(new Error(m.error));
      else waiting.get(m.id).resolve(m.value);
    });
    child.once('exit', (code) => {
      // it has said why
      if (code === 2) process.exit(2);
      const error = new Error(`the server's process ended with ${code}`);
      reject(error);
      for (const w of waiting.values()) w.reject(error);
    });
  });
  const call = (command, args) =>
    new Promise((resolve, reject) => {
      waiting.set(++next, { resolve, reject });
      child.send({ id: next, command, args });
    });
  return { ...ready, pid: child.pid, call };
}

/** Connections that nobody used for long may be closed by the server just when they are used again. */
export const newConnections = () => agent.destroy();

/** A slow reader takes so much at a time. */
const SLOW_CHARS = 4096;

const agent = new Agent({ keepAlive: true, maxSockets: Number.POSITIVE_INFINITY });

/**
 * One streamed chat. `abortAfterMs`: the client goes away then. `slow`: it takes a piece, then nothing for so many milliseconds.
 * Resolves to how it ended and how many tokens came; a finished stream that is not as the API says is 'malformed'.
 */
export function stream(url, { messages, maxTokens, abortAfterMs = null, slow = null }) {
  const body = JSON.stringify({
    messages,
    stream: true,
    stream_options: { include_usage: true },
    max_completion_tokens: maxTokens,
    ignore_eos: true,
  });
  const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
  return new Promise((resolve) => {
    const started = performance.now();
    let timer = null;
    let firstMs = null;
    let text = '';
    let taken = 0;
    const end = (outcome, more = {}) => {
      clearTimeout(timer);
      resolve({ outcome, tokens: 0, firstMs, ms: performance.now() - started, ...more });
    };
    const call = request(`${url}/v1/chat/completions`, { method: 'POST', headers, agent }, (response) => {
      response.setEncoding('utf8');
      response.on('data', (part) => {
        firstMs ??= performance.now() - started;
        text += part;
        taken += part.length;
        if (!slow || taken < SLOW_CHARS) return;
        taken = 0;
        response.pause();
        setTimeout(() => response.resume(), slow());
      });
      response.on('end', () => {
        // all had arrived, but the slow reader went away before it had taken it: Node throws the rest away and says 'end'
        if (timer?.fired) return end('aborted', { tokens: text.split('"content":').length - 2 });
        const { error, tokens } = readStream(response.statusCode, text);
        if (error) end('malformed', { error: `${error}: …${text.slice(-300)}` });
        else end('finished', { tokens });
      });
      response.on('error', () => end('aborted', { tokens: text.split('"content":').length - 2 }));
    });
    call.on('error', (error) => (timer?.fired ? end('aborted') : end('malformed', { error: error.message })));
    if (abortAfterMs !== null) {
      timer = setTimeout(() => {
        timer.fired = true;
        call.destroy();
        if (firstMs === null) end('aborted');
      }, abortAfterMs);
    }
    call.end(body);
  });
}

/** Checks every event of a finished stream. */
function readStream(status, text) {
  if (status !== 200) return { error: `status ${status}` };
  const parts = text.split('\n\n').filter((p) => p !== ': ping');
  if (parts.pop() !== '' || parts.pop() !== 'data: [DONE]') return { error: 'does not end with [DONE]' };
  const events = parts.map((p) => (p.startsWith('data: {') ? JSON.parse(p.slice(6)) : null));
  if (events.includes(null)) return { error: 'something that is not an event' };
  const { usage, choices } = events.pop();
  if (choices.length > 0 || !(usage?.completion_tokens > 0)) return { error: 'no usage at the end' };
  const { id } = events[0];
  if (events[0].choices[0].delta.role !== 'assistant') return { error: 'does not begin with the role' };
  const ends = events.filter((e) => e.choices[0].finish_reason !== null);
  if (ends.length !== 1 || ends[0] !== events.at(-1)) return { error: `${ends.length} ends` };
  if (!['stop', 'length'].includes(ends[0].choices[0].finish_reason)) return { error: 'not a good end' };
  for (const e of events.slice(1, -1)) {
    if (e.id !== id || typeof e.choices[0].delta.content !== 'string') return { error: 'a strange delta' };
  }
  return { tokens: usage.completion_tokens };
}
