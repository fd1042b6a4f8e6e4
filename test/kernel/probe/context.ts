import type { ProbeContext } from '../../../src/kernel/trace/trace-arch.ts';
import type { TestSystem } from './system.ts';

export const STACK = 0xffa0_0000_00b2_7e48n;
export const PATTERN = 0x1000_0000n;
const HOW = 0xffa0_0000_00ce_7c10n;
const NAMES: readonly (readonly [bigint, string])[] = [
  [0x1000_1000n, '/alpha'],
  [0x1000_1040n, '/beta/gamma'],
  [0x1000_1080n, '/x'],
  [0x1000_10c0n, '/a longer name with spaces.txt'],
];

function words(values: readonly bigint[]): Uint8Array {
  const bytes = new Uint8Array(8 * values.length);
  const view = new DataView(bytes.buffer);
  for (const [i, value] of values.entries()) view.setBigUint64(8 * i, value, true);
  return bytes;
}

function text(value: string): Uint8Array {
  return new TextEncoder().encode(`${value}\0`);
}

export interface ContextOptions {
  readonly registers?: Readonly<Record<string, bigint>>;
  readonly memory?: readonly (readonly [address: bigint, bytes: Uint8Array])[];
  readonly entry?: readonly bigint[];
  readonly property?: ProbeContext['property'];
}

/** A hit: registers, and memory in pieces. What no piece covers faults. */
export function hitContext(options: ContextOptions): ProbeContext {
  const { registers = {}, memory = [], entry = [], property } = options;
  const byteAt = (address: bigint): number | undefined => {
    const piece = memory.find(([start, bytes]) => address >= start && address < start + BigInt(bytes.length));
    return piece?.[1][Number(address - piece[0])];
  };
  const read = (address: bigint, length: number): Uint8Array | undefined => {
    const bytes = Array.from({ length }, (_, i) => byteAt(address + BigInt(i)));
    return bytes.includes(undefined) ? undefined : Uint8Array.from(bytes as number[]);
  };
  return {
    register: (name) => BigInt.asUintN(64, registers[name] ?? 0n),
    read,
    readString(address, max) {
      for (let length = 1; length <= max; length++) {
        const byte = byteAt(address + BigInt(length - 1));
        if (byte === undefined) return undefined;
        if (byte === 0 || length === max) return read(address, length);
      }
      return undefined;
    },
    entryValue: (arg) => BigInt.asUintN(64, entry[arg] ?? 0n),
    ...(property === undefined ? {} : { property }),
  };
}

/** The call that the head of fetch_values.txt describes, at its entry or return. */
export function fromTable(system: TestSystem, ret: boolean): ProbeContext {
  const pattern = new Uint8Array(0x140);
  for (let i = 0; i < 63; i++) pattern[i] = (i * 37 + 1) & 255;
  pattern.set(words([NAMES[0]![0], PATTERN + 0x80n]), 0x40);
  pattern.set(words([0x1122_3344_5566_7788n, NAMES[1]![0]]), 0x80);
  pattern.set(words([...NAMES, ...NAMES].map(([address]) => address)), 0x100);
  const how = words([0x8000_0000_0000_8001n, 0xdead_beef_cafe_baben, 0x0123_4567_89ab_cdefn]);
  const returnTo = system.address('__do_sys_openat2') + 0xa6n;
  const stack = words([0x8000_0000_0000_8001n, 0n]);
  return hitContext({
    registers: {
      di: -100n,
      si: PATTERN,
      dx: HOW,
      ax: ret ? -22n : 0n,
      ip: ret ? returnTo : system.address('do_sys_openat2') + 1n,
      sp: ret ? STACK + 8n : STACK,
      flags: 0x282n,
      ss: 0x18n,
    },
    entry: [-100n, PATTERN, HOW],
    memory: [
      [PATTERN, pattern],
      [HOW, how],
      [STACK + 8n, stack],
      ...(ret ? [] : [[STACK, words([returnTo])] as const]),
      ...NAMES.map(([address, name]) => [address, text(name)] as const),
      [system.address('linux_banner'), text('Linux version 6.12.117')],
      [system.address('modprobe_path'), text('/sbin/modprobe')],
      [system.address('vfs_read'), words([0x0044_1f0f_001f_0f66n])],
    ],
  });
}
