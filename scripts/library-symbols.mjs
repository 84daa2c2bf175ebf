// What a shared library exports and needs, read from the file itself: no tool knows ELF, Mach-O and PE, and fewer are installed.

/** @returns {{kind: 'elf' | 'macho' | 'pe', machine: number, exports: string[], needs: string[]}} needs: ELF: versions of
 * glibc's symbols; Mach-O and PE: libraries */
export function librarySymbols(file) {
  if (file.readUInt32BE(0) === 0x7f454c46) return elf(file);
  if (file.readUInt32LE(0) === 0xfeedfacf) return machO(file);
  if (file.readUInt16LE(0) === 0x5a4d) return pe(file);
  throw new Error('neither ELF nor Mach-O nor PE of 64 bits');
}

const text = (file, at) => file.toString('latin1', at, file.indexOf(0, at));

function elf(file) {
  const [at, size, count] = [Number(file.readBigUInt64LE(40)), file.readUInt16LE(58), file.readUInt16LE(60)];
  const sections = Array.from({ length: count }, (_, i) => {
    const s = at + i * size;
    const [offset, bytes] = [Number(file.readBigUInt64LE(s + 24)), Number(file.readBigUInt64LE(s + 32))];
    return { type: file.readUInt32LE(s + 4), offset, bytes, link: file.readUInt32LE(s + 40) };
  });
  const DYNSYM = 11;
  const symbols = sections.find((s) => s.type === DYNSYM);
  const strings = sections[symbols.link];
  const exports = [];
  for (let s = symbols.offset; s < symbols.offset + symbols.bytes; s += 24) {
    const global = file[s + 4] >> 4 === 1;
    if (global && file.readUInt16LE(s + 6) !== 0) exports.push(text(file, strings.offset + file.readUInt32LE(s)));
  }
  const names = file.toString('latin1', strings.offset, strings.offset + strings.bytes).split('\0');
  return { kind: 'elf', machine: file.readUInt16LE(18), exports, needs: names.filter((n) => /^GLIBC_[\d.]+$/.test(n)) };
}

function machO(file) {
  const [SYMTAB, LOAD_DYLIB] = [2, 12];
  const exports = [];
  const needs = [];
  let at = 32;
  for (let i = 0; i < file.readUInt32LE(16); i++, at += file.readUInt32LE(at + 4)) {
    const command = file.readUInt32LE(at);
    if (command === LOAD_DYLIB) needs.push(text(file, at + file.readUInt32LE(at + 8)));
    if (command !== SYMTAB) continue;
    const [symbols, count, strings] = [8, 12, 16].map((o) => file.readUInt32LE(at + o));
    for (let s = symbols; s < symbols + 16 * count; s += 16) {
      const type = file[s + 4];
      const [EXTERNAL, DEBUG, TYPE, UNDEFINED, PRIVATE] = [0x01, 0xe0, 0x0e, 0x00, 0x10];
      if (type & DEBUG || type & PRIVATE || !(type & EXTERNAL) || (type & TYPE) === UNDEFINED) continue;
      exports.push(text(file, strings + file.readUInt32LE(s)).replace(/^_/, ''));
    }
  }
  return { kind: 'macho', machine: file.readUInt32LE(4), exports, needs };
}

function pe(file) {
  const header = file.readUInt32LE(0x3c) + 4;
  const optional = header + 20;
  const first = optional + file.readUInt16LE(header + 16);
  const sections = Array.from({ length: file.readUInt16LE(header + 2) }, (_, i) => {
    const s = first + 40 * i;
    return { address: file.readUInt32LE(s + 12), bytes: file.readUInt32LE(s + 16), offset: file.readUInt32LE(s + 20) };
  });
  const place = (address) => {
    const s = sections.find((one) => address >= one.address && address < one.address + one.bytes);
    return address - s.address + s.offset;
  };
  const directory = (i) => file.readUInt32LE(optional + 112 + 8 * i);
  const table = place(directory(0));
  const names = place(file.readUInt32LE(table + 32));
  const exports = Array.from({ length: file.readUInt32LE(table + 24) }, (_, i) =>
    text(file, place(file.readUInt32LE(names + 4 * i))),
  );
  const needs = [];
  for (let i = place(directory(1)); file.readUInt32LE(i + 12) !== 0; i += 20)
    needs.push(text(file, place(file.readUInt32LE(i + 12))));
  return { kind: 'pe', machine: file.readUInt16LE(header), exports, needs };
}
