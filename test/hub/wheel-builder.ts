/** Writes wheels (ZIP archives) for tests. */
import { createHash } from 'node:crypto';
import { deflateRawSync } from 'node:zlib';
import { crc32Of } from './crc32.js';

export interface WheelSpec {
  files: Record<string, Buffer>;
  stored?: boolean;
  /** Files whose sums in RECORD are wrong. */
  wrongSums?: string[];
  /** Without RECORD. */
  noRecord?: boolean;
}

export function wheelBytes(spec: WheelSpec): Buffer {
  const files = { ...spec.files };
  if (!spec.noRecord) files['pkg-1.0.dist-info/RECORD'] = Buffer.from(recordOf(spec));
  const parts: Buffer[] = [];
  const directory: Buffer[] = [];
  let offset = 0;
  for (const [name, bytes] of Object.entries(files)) {
    const packed = spec.stored ? bytes : deflateRawSync(bytes);
    const fields = Buffer.alloc(26);
    fields.writeUInt16LE(20, 0);
    fields.writeUInt16LE(spec.stored ? 0 : 8, 4);
    fields.writeUInt32LE(crc32Of(bytes), 10);
    fields.writeUInt32LE(packed.length, 14);
    fields.writeUInt32LE(bytes.length, 18);
    fields.writeUInt16LE(Buffer.byteLength(name), 22);
    const local = Buffer.concat([Buffer.from('PK\u0003\u0004'), fields, Buffer.from(name), packed]);
    const tail = Buffer.alloc(14);
    tail.writeUInt32LE(offset, 10);
    directory.push(Buffer.concat([Buffer.from('PK\u0001\u0002\u0014\u0000'), fields, tail, Buffer.from(name)]));
    parts.push(local);
    offset += local.length;
  }
  const table = Buffer.concat(directory);
  const end = Buffer.alloc(22);
  end.write('PK\u0005\u0006');
  end.writeUInt16LE(directory.length, 8);
  end.writeUInt16LE(directory.length, 10);
  end.writeUInt32LE(table.length, 12);
  end.writeUInt32LE(offset, 16);
  return Buffer.concat([...parts, table, end]);
}

function recordOf(spec: WheelSpec): string {
  const sum = (name: string, bytes: Buffer): string =>
    createHash('sha256')
      .update(spec.wrongSums?.includes(name) ? 'other' : bytes)
      .digest('base64url');
  return Object.entries(spec.files)
    .map(([name, bytes]) => `${name},sha256=${sum(name, bytes)},${bytes.length}\n`)
    .join('');
}
