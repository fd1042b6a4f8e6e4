/** What load() can be told. */
import type { Btf } from '../btf/index.ts';
import type { KfuncDecl } from '../helpers/kfunc.ts';
import type { ProgramImports } from '../interpreter/program.ts';
import type { LoadedMap, Machine } from '../machine/index.ts';
import type { MapSpec } from '../maps/map-spec.ts';
import type { ProgType } from '../prog-types/index.ts';
import type { Kconfig } from './kconfig.ts';

export interface LoadObjectOptions {
  /** Where to; default a new one. */
  readonly machine?: Machine;
  /** The types that CO-RE relocations, tracing programs and typed symbols refer to. Default: CO-RE finds what the object declares. */
  readonly targetBtf?: Btf;
  /** Values of `__kconfig` externs. */
  readonly kconfig?: Kconfig;
  /** LINUX_KERNEL_VERSION, `version << 16 | patchlevel << 8 | sublevel`; default 6.12. */
  readonly kernelVersion?: number;
  /** Addresses of kernel symbols by name; of those that `targetBtf` has a type for, in the machine's memory (`Machine.alloc()`). */
  readonly ksyms?: Readonly<Record<string, bigint>>;
  /** Kernel functions beyond the machine's, and what runs where they are called. */
  readonly kfuncs?: readonly KfuncDecl[];
  readonly imports?: Partial<ProgramImports>;
  /** Names of the programs to load; default those whose section does not begin with `?`. */
  readonly programs?: readonly string[];
  /** Program types by program, where the section's name says none or another. */
  readonly types?: Readonly<Record<string, ProgType>>;
  /** Targets by program, where the section's name says none or another. */
  readonly attachTo?: Readonly<Record<string, string>>;
  /** Maps to use instead of new ones, by name; they must be alike (bpf_map__reuse_fd). */
  readonly maps?: Readonly<Record<string, LoadedMap>>;
  /** Properties of maps by name, instead of the object's (bpf_map__set_max_entries and its like). */
  readonly mapSpecs?: Readonly<Record<string, MapSpecChange>>;
  /** Maps that were pinned by path; those declared with LIBBPF_PIN_BY_NAME are taken from it, and put into it when new. */
  readonly pins?: Map<string, LoadedMap>;
  /** Default 'jit'. */
  readonly engine?: 'jit' | 'interpreter';
  readonly logLevel?: 0 | 1 | 2;
  /** Verify as for a user without capabilities. Default false. */
  readonly unprivileged?: boolean;
}

/** What may be other than the object says. A section of variables that grows is filled up with zeroes. */
export type MapSpecChange = Partial<
  Pick<MapSpec, 'type' | 'keySize' | 'valueSize' | 'maxEntries' | 'flags' | 'numaNode' | 'mapExtra'>
>;

/** An option by a name from the object, which may be one like `constructor`. */
export function own<T>(record: Readonly<Record<string, T>> | undefined, name: string): T | undefined {
  return record !== undefined && Object.hasOwn(record, name) ? record[name] : undefined;
}
