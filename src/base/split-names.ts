/** Names of the parts of a GGUF file that was split: MODEL-00001-of-00003.gguf. */

const PART = /-(\d{5})-of-(\d{5})(\.gguf)$/i;

/** Which part of how many a file is by its name, counted from 1; null for a file that is whole. */
export function partOf(file: string): { part: number; count: number } | null {
  const match = PART.exec(file);
  return match && { part: Number(match[1]), count: Number(match[2]) };
}

const digits = (n: number): string => String(n).padStart(5, '0');

/** The same name for another part. */
export const nameOfPart = (file: string, part: number): string => file.replace(PART, `-${digits(part)}-of-$2$3`);

/** All parts of the model whose part `file` is, the first one first; the file alone if it is whole. */
export function partNames(file: string): string[] {
  const name = partOf(file);
  if (!name) return [file];
  return Array.from({ length: name.count }, (_, i) => nameOfPart(file, i + 1));
}
