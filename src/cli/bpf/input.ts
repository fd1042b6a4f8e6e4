/** What a file on the command line holds: an object, or instructions. */
import {
  assemble,
  type BpfObject,
  decodeInsns,
  type Insn,
  openObject,
  PROG_TYPES,
  type ProgType,
} from '../../bpf/index.ts';
import { TraplineError } from '../../errors.ts';
import { didYouMean } from '../../similar.ts';
import { parseHex, readAs, readBytes } from './files.ts';
import { type BpfArguments, INPUT_KINDS } from './options.ts';

export type BpfInput =
  | { readonly kind: 'object'; readonly file: string; readonly object: BpfObject; readonly bytes: Uint8Array }
  | { readonly kind: 'insns'; readonly file: string; readonly insns: readonly Insn[] };

const ELF_MAGIC = [0x7f, 0x45, 0x4c, 0x46];

/** Throws TraplineError or BpfError: the file cannot be read, or is not what --input says. */
export function readInput(args: BpfArguments, file = args.file('program')): BpfInput {
  const kind = args.choice('input', INPUT_KINDS, 'auto');
  const bytes = readBytes(file, 'program');
  if (bytes.length === 0)
    throw new TraplineError('EINPUT', `${file === '-' ? 'standard input' : file} is empty`);
  return readAs(file, () => inputOf(kind, bytes, file));
}

function inputOf(kind: (typeof INPUT_KINDS)[number], bytes: Uint8Array, file: string): BpfInput {
  switch (kind === 'auto' ? guess(bytes) : kind) {
    case 'elf':
      return { kind: 'object', file, object: openObject(bytes, file === '-' ? 'object' : file), bytes };
    case 'hex': {
      const decoded = parseHex(textOf(bytes));
      if (decoded === undefined) throw new TraplineError('EINPUT', `${file}: not hexadecimal digits`);
      return { kind: 'insns', file, insns: decode(decoded, file) };
    }
    case 'asm':
      return { kind: 'insns', file, insns: assemble(textOf(bytes)) };
    default:
      return { kind: 'insns', file, insns: decode(bytes, file) };
  }
}

function guess(bytes: Uint8Array): 'elf' | 'hex' | 'asm' | 'bin' {
  if (ELF_MAGIC.every((byte, at) => bytes[at] === byte)) return 'elf';
  const isText = bytes.every(
    (byte) => byte === 9 || byte === 10 || byte === 13 || (byte >= 32 && byte !== 127),
  );
  if (!isText) return 'bin';
  return parseHex(textOf(bytes)) !== undefined ? 'hex' : 'asm';
}

const textOf = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);

function decode(bytes: Uint8Array, file: string): Insn[] {
  if (bytes.length % 8 !== 0 || bytes.length === 0) {
    throw new TraplineError(
      'EINPUT',
      `${file}: ${bytes.length} bytes are no program: instructions have 8 bytes`,
    );
  }
  return decodeInsns(bytes);
}

/** The value of --type. */
export function programType(args: BpfArguments): ProgType | undefined {
  const name = args.text('type');
  if (name === undefined) return undefined;
  const types: readonly string[] = PROG_TYPES.filter((type) => type !== 'unspec');
  if (types.includes(name)) return name as ProgType;
  throw new TraplineError('EUSAGE', `--type: there is no program type ${name}`, {
    hint: didYouMean(name, types) ?? `one of ${types.join(', ')}`,
  });
}

/** Names of the object's programs that --prog asks for: all of them without it. */
export function wantedPrograms(args: BpfArguments, object: BpfObject): string[] {
  const name = args.text('prog');
  const names = [...object.spec.programs.keys()];
  if (name === undefined) return names;
  if (names.includes(name)) return [name];
  throw new TraplineError('ENOENT', `there is no program ${name}`, {
    hint: didYouMean(name, names) ?? `the object has ${names.join(', ') || 'none'}`,
  });
}

/** The one program to run. */
export function onlyProgram(args: BpfArguments, object: BpfObject): string {
  const names = wantedPrograms(args, object);
  if (names.length === 1) return names[0]!;
  const why = names.length === 0 ? 'the object has no program' : `the object has ${names.length} programs`;
  throw new TraplineError('EUSAGE', why, {
    hint: names.length === 0 ? undefined : `say which: ${names.map((one) => `--prog ${one}`).join(', ')}`,
  });
}
