import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

export interface Section {
  readonly name: string;
  readonly bytes: Uint8Array;
}

/** The sections of a 64-bit ELF object of our own making, by name: just enough for tests of what lies in them. */
export function elfSections(file: Uint8Array): Map<string, Section> {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const little = file[5] === 1;
  const table = Number(view.getBigUint64(40, little));
  const count = view.getUint16(60, little);
  const header = (index: number) => {
    const at = table + index * 64;
    return {
      name: view.getUint32(at, little),
      type: view.getUint32(at + 4, little),
      offset: Number(view.getBigUint64(at + 24, little)),
      size: Number(view.getBigUint64(at + 32, little)),
    };
  };
  const names = header(view.getUint16(62, little)).offset;
  const sections = new Map<string, Section>();
  for (let i = 1; i < count; i++) {
    const { name, type, offset, size } = header(i);
    let end = names + name;
    while (file[end] !== 0) end++;
    const text = new TextDecoder().decode(file.subarray(names + name, end));
    sections.set(text, { name: text, bytes: file.subarray(offset, type === 8 ? offset : offset + size) });
  }
  return sections;
}

/** A committed object of test/bpf/fixtures/btf. */
export function fixture(name: string): Map<string, Section> {
  return elfSections(
    new Uint8Array(readFileSync(fileURLToPath(new URL(`./fixtures/btf/${name}`, import.meta.url)))),
  );
}
