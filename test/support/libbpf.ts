/**
 * The system's libbpf as an oracle, through koffi: what it makes of an object file. Opening needs no privileges, `load` needs root.
 * Where there is none, `libbpf.reason` says why tests are skipped.
 */
import { createRequire } from 'node:module';

export interface LibbpfMap {
  readonly name: string;
  readonly type: number;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
  readonly flags: number;
  readonly mapExtra: bigint;
  readonly numaNode: number;
  readonly keyTypeId: number;
  readonly valueTypeId: number;
  /** -1 before load. */
  readonly fd: number;
  readonly initialValue: Uint8Array | undefined;
}

export interface LibbpfProgram {
  readonly name: string;
  readonly section: string;
  readonly type: number;
  readonly attachType: number;
  readonly autoload: boolean;
  /** After load: linked and relocated. */
  readonly insns: Uint8Array;
}

export interface LibbpfObject {
  /** What bpf_object__load returned: 0 or -errno; undefined where it was not asked for. */
  readonly loaded: number | undefined;
  readonly maps: readonly LibbpfMap[];
  readonly programs: readonly LibbpfProgram[];
}

type Native = Record<string, (...args: unknown[]) => unknown>;

interface Koffi {
  load(name: string): { func(declaration: string): (...args: unknown[]) => unknown };
  address(value: unknown): bigint;
  decode(pointer: unknown, type: unknown): unknown;
  array(type: string, length: number, hint?: string): unknown;
}

function open(): { koffi?: Koffi; native?: Native; reason?: string } {
  if (process.platform !== 'linux' || process.arch !== 'x64') return { reason: 'no Linux on x86-64' };
  try {
    const koffi = createRequire(import.meta.url)('koffi') as Koffi;
    const library = koffi.load('libbpf.so.1');
    const native: Native = {};
    for (const declaration of [
      'void *libbpf_set_print(void *callback)',
      'void *bpf_object__open_mem(const void *bytes, size_t size, const void *options)',
      'int bpf_object__load(void *object)',
      'void bpf_object__close(void *object)',
      'void *bpf_object__next_map(void *object, void *map)',
      'const char *bpf_map__name(void *map)',
      'int bpf_map__type(void *map)',
      'uint32_t bpf_map__key_size(void *map)',
      'uint32_t bpf_map__value_size(void *map)',
      'uint32_t bpf_map__max_entries(void *map)',
      'uint32_t bpf_map__map_flags(void *map)',
      'uint64_t bpf_map__map_extra(void *map)',
      'uint32_t bpf_map__numa_node(void *map)',
      'uint32_t bpf_map__btf_key_type_id(void *map)',
      'uint32_t bpf_map__btf_value_type_id(void *map)',
      'int bpf_map__fd(void *map)',
      'void *bpf_map__initial_value(void *map, _Out_ size_t *size)',
      'void *bpf_object__next_program(void *object, void *program)',
      'const char *bpf_program__name(void *program)',
      'const char *bpf_program__section_name(void *program)',
      'int bpf_program__type(void *program)',
      'int bpf_program__expected_attach_type(void *program)',
      'bool bpf_program__autoload(void *program)',
      'void *bpf_program__insns(void *program)',
      'size_t bpf_program__insn_cnt(void *program)',
      'int libbpf_prog_type_by_name(const char *name, _Out_ int *type, _Out_ int *attach)',
      'uint32_t libbpf_major_version(void)',
      'uint32_t libbpf_minor_version(void)',
    ]) {
      native[/(\w+)\(/.exec(declaration)![1]!] = library.func(declaration);
    }
    native.libbpf_set_print!(null);
    return { koffi, native };
  } catch (error) {
    return { reason: `libbpf is not here: ${error instanceof Error ? error.message : String(error)}` };
  }
}

const state = open();

export const libbpf = {
  reason: state.reason,

  get version(): string {
    return `${state.native!.libbpf_major_version!()}.${state.native!.libbpf_minor_version!()}`;
  },

  /** enum bpf_prog_type and bpf_attach_type of a section's name, or -errno. */
  progTypeByName(name: string): { type: number; attachType: number } | number {
    const type = [0];
    const attach = [0];
    const result = state.native!.libbpf_prog_type_by_name!(name, type, attach) as number;
    return result < 0 ? result : { type: type[0]!, attachType: attach[0]! };
  },

  /** Opens an object, loads it where asked, and copies what it is; undefined where libbpf does not open it. */
  object(bytes: Uint8Array, name: string, load: boolean): LibbpfObject | undefined {
    const { koffi, native } = state as { koffi: Koffi; native: Native };
    const file = Buffer.from(bytes);
    const objectName = Buffer.from(`${name}\0`);
    // struct bpf_object_open_opts: sz, object_name.
    const options = Buffer.alloc(16);
    options.writeBigUInt64LE(16n, 0);
    options.writeBigUInt64LE(koffi.address(objectName), 8);
    const object = native.bpf_object__open_mem!(file, file.length, options);
    if (object === null) return undefined;
    const copy = (pointer: unknown, size: number) =>
      Uint8Array.from(koffi.decode(pointer, koffi.array('uint8_t', size, 'Typed')) as Uint8Array);
    try {
      const loaded = load ? (native.bpf_object__load!(object) as number) : undefined;
      const maps: LibbpfMap[] = [];
      for (let map = native.bpf_object__next_map!(object, null); map !== null; ) {
        const size = [0];
        const initial = native.bpf_map__initial_value!(map, size);
        maps.push({
          name: native.bpf_map__name!(map) as string,
          type: native.bpf_map__type!(map) as number,
          keySize: native.bpf_map__key_size!(map) as number,
          valueSize: native.bpf_map__value_size!(map) as number,
          maxEntries: native.bpf_map__max_entries!(map) as number,
          flags: native.bpf_map__map_flags!(map) as number,
          mapExtra: BigInt(native.bpf_map__map_extra!(map) as number | bigint),
          numaNode: native.bpf_map__numa_node!(map) as number,
          keyTypeId: native.bpf_map__btf_key_type_id!(map) as number,
          valueTypeId: native.bpf_map__btf_value_type_id!(map) as number,
          fd: native.bpf_map__fd!(map) as number,
          initialValue: initial === null ? undefined : copy(initial, Number(size[0])),
        });
        map = native.bpf_object__next_map!(object, map);
      }
      const programs: LibbpfProgram[] = [];
      for (let program = native.bpf_object__next_program!(object, null); program !== null; ) {
        const count = Number(native.bpf_program__insn_cnt!(program));
        programs.push({
          name: native.bpf_program__name!(program) as string,
          section: native.bpf_program__section_name!(program) as string,
          type: native.bpf_program__type!(program) as number,
          attachType: native.bpf_program__expected_attach_type!(program) as number,
          autoload: native.bpf_program__autoload!(program) as boolean,
          insns: copy(native.bpf_program__insns!(program), count * 8),
        });
        program = native.bpf_object__next_program!(object, program);
      }
      return { loaded, maps, programs };
    } finally {
      native.bpf_object__close!(object);
    }
  },
};
