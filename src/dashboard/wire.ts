/** What the server sends, as the page reads it: its types are the server's own, its typed arrays come as base64. */
export type { EngineAbout, LiveMessage, LiveStats } from '../server/live/wire.js';

function bytesOf(base64: string): Uint8Array<ArrayBuffer> {
  const text = atob(base64);
  const out = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) out[i] = text.charCodeAt(i);
  return out;
}

export const uint8Of = (base64: string): Uint8Array => bytesOf(base64);
export const uint16Of = (base64: string): Uint16Array => new Uint16Array(bytesOf(base64).buffer);
export const int32Of = (base64: string): Int32Array => new Int32Array(bytesOf(base64).buffer);
export const uint32Of = (base64: string): Uint32Array => new Uint32Array(bytesOf(base64).buffer);
