/** `openObject`: a BPF object file, to be looked at, given values, and loaded. */

import { aBtf, aMachine } from '../argument-shapes.ts';
import {
  aBoolean,
  aList,
  aNumber,
  anObject,
  aRecord,
  aString,
  bytesOf,
  checkArgument,
  either,
  having,
  listOf,
  oneOf,
  optional,
  stringOf,
} from '../arguments.ts';
import type { VerifiedProgram } from '../verifier/types.ts';
import { Globals, type GlobalVariable, type InitialData } from './globals.ts';
import {
  type CompiledObject,
  compileObject,
  type LoadedObject,
  loadObject,
  verifyObjectProgram,
} from './load.ts';
import type { LoadObjectOptions } from './load-options.ts';
import { openElf } from './open.ts';
import type { ObjectSpec } from './spec.ts';

/** Fixtures and checks give more than these. */
const LOAD_OPTIONS = aRecord<LoadObjectOptions>(
  {
    machine: optional(aMachine),
    targetBtf: optional(aBtf),
    kconfig: optional(either(stringOf('a string, or an object of values'), anObject)),
    kernelVersion: optional(aNumber),
    ksyms: optional(anObject),
    kfuncs: optional(aList),
    imports: optional(anObject),
    programs: optional(listOf(aString)),
    types: optional(anObject),
    attachTo: optional(anObject),
    maps: optional(anObject),
    mapSpecs: optional(anObject),
    pins: optional(having('a Map', 'get', 'set')),
    engine: optional(oneOf('jit', 'interpreter')),
    logLevel: optional(oneOf(0, 1, 2)),
    unprivileged: optional(aBoolean),
  },
  'an object of options',
);

export class BpfObject {
  readonly spec: ObjectSpec;
  /** Initial values of global variables. */
  readonly globals: Globals;
  /** What each section of variables starts with, by its name. */
  readonly initialData: ReadonlyMap<string, InitialData>;
  readonly #variables: readonly GlobalVariable[];

  constructor(bytes: Uint8Array, name: string) {
    checkArgument('new BpfObject()', 'bytes', bytes, bytesOf('a Uint8Array: the bytes of an object file'));
    checkArgument('new BpfObject()', 'name', name, aString);
    // A copy: the caller's bytes may change, or be shared with another thread.
    const opened = openElf(new Uint8Array(bytes), name);
    this.spec = opened.spec;
    this.initialData = opened.initialData;
    this.#variables = opened.variables;
    this.globals = new Globals(opened.spec.btf, opened.variables, (map) => opened.initialData.get(map)!);
  }

  /**
   * Creates the maps, verifies and compiles the programs. May be called again: each time makes maps of its own, with the values
   * that the variables have here then. Throws ObjectError, ProgramLoadError (with the line of source) or BpfError.
   */
  load(options: LoadObjectOptions = {}): LoadedObject {
    checkArgument('load()', 'options', options, LOAD_OPTIONS);
    return loadObject(this.spec, this.initialData, this.#variables, options);
  }

  /**
   * Relocates and verifies the programs for a memory that somebody else makes, as a traced process has it: every program counts the
   * maps in the object's order. Options about machines are not looked at. Throws as load() does.
   */
  compile(options: LoadObjectOptions & { readonly ncpu?: number } = {}): CompiledObject {
    checkArgument('compile()', 'options', options, LOAD_OPTIONS);
    return compileObject(this.spec, this.initialData, options);
  }

  /**
   * Verifies one program only: nothing is created, so maps that only a kernel has are no obstacle. Options about machines and maps
   * in them are not looked at. Throws as load() does.
   */
  verify(program: string, options: LoadObjectOptions = {}): VerifiedProgram {
    checkArgument('verify()', 'program', program, aString);
    checkArgument('verify()', 'options', options, LOAD_OPTIONS);
    return verifyObjectProgram(this.spec, this.initialData, program, options);
  }
}

/**
 * Opens an ELF object as clang or `bpftool gen object` wrote it. `name` names the object in maps of variables and messages
 * (default `object`); a path becomes the file's name without `.o` and `.bpf`. Throws ObjectError `ELF_…` or `OBJ_…`.
 */
export function openObject(bytes: Uint8Array, name = 'object'): BpfObject {
  checkArgument('openObject()', 'bytes', bytes, bytesOf('a Uint8Array: the bytes of an object file'));
  checkArgument('openObject()', 'name', name, optional(aString));
  return new BpfObject(bytes, objectName(name));
}

/** As bpftool and libbpf name an object after its file (bpf_object__new). */
export function objectName(path: string): string {
  const file = path.slice(path.lastIndexOf('/') + 1);
  const base = file.replace(/\.o$/, '').replace(/\.bpf$/, '');
  return base === '' ? 'object' : base;
}
