import { describe, expect, test } from 'vitest';
import { parseElf } from '../../src/bpf/elf/index.ts';
import {
  type BpfError,
  type BpfObject,
  createMachine,
  type LoadedMap,
  type LoadObjectOptions,
  openObject,
  ProgramLoadError,
} from '../../src/bpf/index.ts';
import { objectBytes, openFixture, VARIANTS } from './support-objects.ts';

const PACKET = { dataIn: new Uint8Array(64) };

function errorOf(work: () => unknown): BpfError {
  try {
    work();
  } catch (error) {
    return error as BpfError;
  }
  throw new Error('no error');
}

const u32 = (value: number) => new Uint8Array(new Uint32Array([value]).buffer);
const u64 = (value: bigint) => new Uint8Array(new BigUint64Array([value]).buffer);
const toU32 = (bytes: Uint8Array | undefined) =>
  new DataView(bytes!.buffer, bytes!.byteOffset).getUint32(0, true);

const ENGINES = VARIANTS.flatMap((variant) =>
  (['jit', 'interpreter'] as const).map((engine) => ({ variant, engine })),
);

describe.each(ENGINES)('objects of clang-$variant in the $engine', ({ variant, engine }) => {
  const load = (name: string, options: LoadObjectOptions = {}) =>
    openFixture(name, variant).load({ engine, ...options });

  test('programs use the maps that were declared', () => {
    const { programs, maps } = load('maps');
    const program = programs.get('count_all')!;
    expect(program.testRun(PACKET).retval).toBe(234);
    expect(program.testRun(PACKET).retval).toBe(468);
    const key = new Uint8Array(16);
    key.set([7, 0, 0, 0, ...new TextEncoder().encode('abc')]);
    expect(maps.get('counts')!.lookup(key)).toEqual(new Uint8Array([...u64(2n), ...u64(200n)]));
    expect(maps.get('slots')!.lookup(u32(3))).toEqual(u64(4n));
    expect(maps.get('ring')!.spec).toMatchObject({ type: 'ringbuf', maxEntries: 8192 });
    expect(maps.get('events')!.spec.maxEntries).toBe(1);
  });

  test('variables are read and written in place', () => {
    const object = openFixture('globals', variant);
    object.globals.set('min_us', 1000n);
    object.globals.set('options', { corner: [{ x: 1 }, { x: 33 }] });
    object.globals.set('hits', 5n);
    const { programs, globals } = object.load({ engine });
    const program = programs.get('use')!;
    program.testRun(PACKET);
    expect(globals.get('hits')).toBe(6n);
    expect(globals.get('last')).toEqual({ x: 33, y: 42 - 1 + 3 });
    expect(globals.get('secret')).toBe(1077);
    expect(globals.get('misses')).toBe(2);
    expect(globals.get('in_empty')).toBe(9);
    expect(globals.get('buffer')).toBe('i0');
    globals.set('hits', 100n);
    globals.set('bytes', [0, 0, 50]);
    program.testRun(PACKET);
    expect(globals.get('hits')).toBe(101n);
    expect(globals.get('last')).toEqual({ x: 33, y: 42 - 1 + 50 });
    // The opened object keeps its own, for the next load.
    expect(object.globals.get('hits')).toBe(5n);
    expect(object.load({ engine }).globals.get('hits')).toBe(5n);
    const error = errorOf(() => globals.set('min_us', 1n));
    expect(error.code).toBe('OBJ_FROZEN');
    expect(globals.get('min_us')).toBe(1000n);
  });

  test('functions of the object', () => {
    const { programs, globals } = load('subprogs');
    expect([...programs.keys()]).toEqual(['first', 'second']);
    expect(programs.get('first')!.testRun(PACKET).retval).toBe(12042);
    expect(globals.get('trace')).toBe(321145);
    expect(programs.get('second')!.testRun(PACKET).retval).toBe(2118);
    expect(globals.get('trace')).toBe(215);
  });

  test('functions outside of .text', () => {
    const { programs } = load('newer');
    expect(programs.get('caller')!.testRun(PACKET).retval).toBe(2 * 3 + 64 + 5);
  });

  test('objects that bpftool linked: externs resolved, weak functions overridden', () => {
    const { programs, globals, spec } = load('linked');
    expect(programs.get('entry')!.testRun(PACKET).retval).toBe(2 * 8 * 100 + 5 + 2 + 20);
    expect(programs.get('other_entry')!.testRun(PACKET).retval).toBe(1);
    expect([globals.get('own_counter'), globals.get('own_static'), globals.get('shared_limit')]).toEqual([
      8, 4, 5,
    ]);
    expect(spec.externs).toEqual([]);
  });

  test('maps of maps and of programs are filled', () => {
    const { programs, maps } = load('map-in-map');
    expect(programs.get('start')!.testRun(PACKET).retval).toBe(11);
    expect(toU32(maps.get('second')!.lookup(u32(0)))).toBe(41);
    expect(toU32(maps.get('first')!.lookup(u32(0)))).toBe(5);
  });

  test('programs that were not loaded leave their place empty', () => {
    const { programs } = load('map-in-map', { programs: ['start', 'tail_two'] });
    // Its tail call fails, and it goes on.
    expect(programs.get('start')!.testRun(PACKET).retval).toBe(12);
  });

  test('maps of before BTF', () => {
    const { programs, maps } = load('legacy-maps');
    expect(programs.get('count')!.testRun(PACKET).retval).toBe(6);
    expect(toU32(maps.get('seen')!.lookup(u64(9n)))).toBe(1);
  });

  test('without a target, CO-RE finds what the object declares, in every flavour', () => {
    const { programs, spec, coreRelos } = load('core');
    // Offsets 8 and 0, a size of 16 bytes, and the number of a type.
    expect(programs.get('flavours')!.testRun(PACKET).retval).toBe(8 * 10 + 0 + 16 * 100 + 10000);
    expect(coreRelos.get('flavours')!.map(({ kind, newValue }) => [kind, newValue])).toEqual([
      ['local_type_id', BigInt(spec.btf!.byName('request___new', 'STRUCT')!)],
    ]);
  });

  test('kernel configuration', () => {
    const text = [
      '# a comment',
      'CONFIG_HZ=250',
      'CONFIG_SMP=y',
      '# CONFIG_MISSING is not set',
      'CONFIG_XFS_FS=m',
      'CONFIG_CC_VERSION_TEXT="gcc (a long version of it)"',
      'CONFIG_BPF_SYSCALL=y',
      'CONFIG_OFFSET=-5',
      'CONFIG_HZ=100',
      '',
    ].join('\n');
    const run = (options: LoadObjectOptions) => {
      const loaded = load('kconfig', options);
      return { result: loaded.programs.get('read_config')!.testRun().retval, globals: loaded.globals };
    };
    const { result, globals } = run({ kconfig: text });
    expect(result).toBe(255);
    expect(globals.get('CONFIG_CC_VERSION_TEXT')).toBe('gcc (a long version');
    expect(globals.get('LINUX_KERNEL_VERSION')).toBe(0x060c00);
    const values = { CONFIG_HZ: 0x100, CONFIG_SMP: false, CONFIG_XFS_FS: 'm', CONFIG_MISSING: 7n };
    expect(run({ kconfig: values, kernelVersion: 0x050400 }).result).toBe(2 | 16 | 256);
  });
});

describe('externs', () => {
  const load = (name: string, options: LoadObjectOptions = {}) => openFixture(name, '19').load(options);

  test('kernel configuration that does not fit', () => {
    const base = { CONFIG_HZ: 250, CONFIG_SMP: true };
    const refused = (kconfig: LoadObjectOptions['kconfig'], code: string, message: string) => {
      const error = errorOf(() => load('kconfig', kconfig === undefined ? {} : { kconfig }));
      expect([error.code, error.message]).toEqual([code, expect.stringContaining(message)]);
    };
    refused(undefined, 'OBJ_UNRESOLVED', 'CONFIG_HZ is not in the kernel configuration');
    refused({ CONFIG_HZ: 250 }, 'OBJ_UNRESOLVED', 'CONFIG_SMP');
    refused({ ...base, CONFIG_HZ: 'fast' }, 'OBJ_BAD_KCONFIG', 'CONFIG_HZ: a text is for char arrays');
    refused(
      { ...base, CONFIG_HZ: 2 ** 32 },
      'OBJ_BAD_KCONFIG',
      'CONFIG_HZ: 4294967296 does not fit into 4 bytes',
    );
    refused({ ...base, CONFIG_HZ: -1 }, 'OBJ_BAD_KCONFIG', 'does not fit into 4 bytes');
    refused({ ...base, CONFIG_SMP: 'm' }, 'OBJ_BAD_KCONFIG', 'm does not fit into a bool');
    refused({ ...base, CONFIG_SMP: 2 }, 'OBJ_BAD_KCONFIG', '2 does not fit into a bool');
    refused({ ...base, CONFIG_XFS_FS: 1 }, 'OBJ_BAD_KCONFIG', 'a number is for integers');
    refused({ ...base, CONFIG_MISSING: 0x10000 }, 'OBJ_BAD_KCONFIG', '65536 does not fit into 2 bytes');
    refused('CONFIG_HZ=', 'OBJ_BAD_KCONFIG', 'CONFIG_HZ: no value');
    refused('CONFIG_HZ=12x', 'OBJ_BAD_KCONFIG', '12x is no number');
    refused('CONFIG_HZ=099', 'OBJ_BAD_KCONFIG', '099 is no octal number');
    refused('CONFIG_CC_VERSION_TEXT="open\nCONFIG_HZ=1\nCONFIG_SMP=y', 'OBJ_BAD_KCONFIG', 'closing quote');
    const octal = load('kconfig', { kconfig: 'CONFIG_HZ=0372\nCONFIG_SMP=1\n' });
    expect(octal.globals.get('CONFIG_HZ')).toBe(250);
    expect(octal.globals.get('CONFIG_SMP')).toBe(true);
  });

  describe.each(ENGINES)('functions given to clang-$variant in the $engine', ({ variant, engine }) => {
    const add = { id: 4711, name: 'my_add', args: ['u32', 'u32'], result: 's32' } as const;
    const kfuncs = { kfuncs: [add], imports: { kfunc: { my_add: (a: number, b: number) => a + b } } };

    test('are called; one that is not there is 0', () => {
      const object = openFixture('kfuncs', variant);
      const { programs } = object.load({ engine, ...kfuncs });
      expect(programs.get('call_kfunc')!.testRun(PACKET).retval).toBe(5);
      const missing = { id: 4712, name: 'my_missing', args: ['u32'], result: 's32' } as const;
      const both = object.load({
        engine,
        kfuncs: [add, missing],
        imports: { kfunc: { ...kfuncs.imports.kfunc, my_missing: (a: number) => a * 10 } },
      });
      expect(both.programs.get('call_kfunc')!.testRun(PACKET).retval).toBe(50);
    });

    test('calling one that is not there is explained', () => {
      const error = errorOf(() =>
        openFixture('kfuncs', variant).load({ engine, programs: ['call_missing'] }),
      );
      expect(error.message).toMatch(
        /kfuncs\.c:18: program call_missing: calls the kernel function my_missing, which is not there/,
      );
    });

    test('addresses', () => {
      const object = openFixture('kfuncs', variant);
      const { programs } = object.load({
        engine,
        programs: ['read_address'],
        ksyms: { my_symbol: 0x12_0000_0034n },
      });
      expect(programs.get('read_address')!.testRun(PACKET).retval).toBe(0x12);
      const error = errorOf(() => object.load({ engine, programs: ['read_address'] }));
      expect(error).toMatchObject({ code: 'OBJ_UNRESOLVED', message: expect.stringContaining('my_symbol') });
      expect(errorOf(() => object.load({ engine })).message).toContain('there is no kernel function my_add');
    });
  });

  test('kernel symbols that are not there', () => {
    const error = errorOf(() => load('ksyms'));
    expect(error.code).toBe('OBJ_UNRESOLVED');
    expect(error.message).toContain('there is no kernel symbol schedule');
  });
});

describe('what is loaded, and where to', () => {
  test('two objects share a machine, and a map', () => {
    const machine = createMachine();
    const first = openFixture('maps', '19').load({ machine });
    const shared = first.maps.get('slots')!;
    const second = openFixture('maps', '14').load({ machine, maps: { slots: shared } });
    expect(second.machine).toBe(machine);
    expect(second.maps.get('slots')).toBe(shared);
    expect(second.maps.get('counts')).not.toBe(first.maps.get('counts'));
    first.programs.get('count_all')!.testRun(PACKET);
    second.programs.get('count_all')!.testRun(PACKET);
    expect(shared.lookup(u32(3))).toEqual(u64(4n));
    const wrong = errorOf(() => openFixture('maps', '19').load({ machine, maps: { counts: shared } }));
    expect(wrong.code).toBe('OBJ_MAP_MISMATCH');
  });

  test('pinned maps are found again', () => {
    const machine = createMachine();
    const pins = new Map<string, LoadedMap>();
    const options = { machine, pins, programs: ['callee'] };
    const first = openFixture('newer', '19').load(options);
    expect([...pins.keys()]).toEqual(['/sys/fs/bpf/pinned']);
    first.maps.get('pinned')!.update(u32(1), u32(77));
    first.close();
    const second = openFixture('newer', '14').load(options);
    expect(toU32(second.maps.get('pinned')!.lookup(u32(1)))).toBe(77);
    second.close();
    expect(machine.maps.size).toBe(1);
  });

  test('closing an object gives its maps back', () => {
    const machine = createMachine();
    const loaded = openFixture('globals', '19').load({ machine });
    expect(machine.maps.size).toBe(6);
    expect(machine.programs.size).toBe(1);
    loaded.close();
    expect(machine.maps.size).toBe(0);
    expect(machine.programs.size).toBe(0);
    loaded.close();
    // Programs in an array that they use themselves.
    const jumps = openFixture('map-in-map', '19').load({ machine });
    expect([machine.maps.size, machine.programs.size]).toEqual([5, 3]);
    jumps.close();
    expect([machine.maps.size, machine.programs.size]).toEqual([0, 0]);
  });

  test('an object that does not load leaves nothing behind', () => {
    const machine = createMachine();
    expect(() => openFixture('bad-program', '19').load({ machine })).toThrow(ProgramLoadError);
    expect(machine.maps.size).toBe(0);
    expect(machine.programs.size).toBe(0);
  });

  test('other numbers of entries, types and targets', () => {
    const { maps } = openFixture('maps', '19').load({
      mapSpecs: { counts: { maxEntries: 3, flags: 1 }, slots: { type: 'percpu_array' } },
    });
    expect(maps.get('counts')!.spec).toMatchObject({ maxEntries: 3, flags: 1, keySize: 16 });
    expect(maps.get('slots')!.spec).toMatchObject({ type: 'percpu_array', maxEntries: 4 });
    const grown = openFixture('globals', '19').load({ mapSpecs: { '.bss': { valueSize: 4096 } } });
    expect(grown.maps.get('.bss')!.lookup(u32(0))).toEqual(new Uint8Array(4096));
    expect(errorOf(() => openFixture('maps', '19').load({ mapSpecs: { conts: {} } })).code).toBe(
      'OBJ_NO_SUCH_NAME',
    );
    const object = openFixture('subprogs', '19');
    const odd = errorOf(() => object.load({ programs: ['odd'] }));
    expect(odd.code).toBe('OBJ_NO_PROG_TYPE');
    expect(odd.hint).toContain('option types');
    const { programs } = object.load({ programs: ['odd'], types: { odd: 'socket_filter' } });
    expect(programs.get('odd')!.testRun(PACKET).retval).toBe(1);
    expect(errorOf(() => object.load({ programs: ['third'] }))).toMatchObject({
      code: 'OBJ_NO_SUCH_NAME',
      message: 'the object has no program third',
      hint: expect.stringContaining('first'),
    });
  });

  test('tables of functions are refused, the other programs are not', () => {
    const object = openFixture('struct-ops', '19');
    expect(errorOf(() => object.load())).toMatchObject({ code: 'OBJ_STRUCT_OPS' });
    expect(object.load({ programs: [] }).programs.size).toBe(0);
  });
});

describe('errors name the line of source', () => {
  const position = (object: BpfObject, program: string) => {
    const error = errorOf(() => object.load({ programs: [program] })) as ProgramLoadError;
    expect(error).toBeInstanceOf(ProgramLoadError);
    expect(error.program).toBe(program);
    return error;
  };

  test.each(VARIANTS)('in a function that was linked behind the program, clang-%s', (variant) => {
    const error = position(openFixture('bad-program', variant), 'in_a_function');
    expect(error.message).toMatch(/bad-program\.c:14: program in_a_function: R\d invalid mem access/);
    expect(error.code).toBe('VERIFIER');
    expect(error.position).toMatchObject({
      file: expect.stringMatching(/bad-program\.c$/),
      line: 14,
      sourceLine: '  return *value; /* not tested against NULL */',
    });
    expect(error.position!.column).toBeGreaterThan(2);
    expect(error.log).toContain('invalid mem access');
    expect(error.cause).toMatchObject({ name: 'VerifierError' });
  });

  test.each(VARIANTS)('in the program itself, clang-%s', (variant) => {
    const error = position(openFixture('bad-program', variant), 'in_the_program');
    expect(error.position!.line).toBe(28);
  });

  test.each(VARIANTS)('fields that the target does not have, clang-%s', (variant) => {
    const object = openFixture('bad-program', variant);
    // Another object's types, in which struct gone is not there at all.
    const targetBtf = openFixture('core', '19').spec.btf!;
    const error = errorOf(() => object.load({ programs: ['without_field'], targetBtf })) as ProgramLoadError;
    expect(error.message).toMatch(/bad-program\.c:38: program without_field: .*struct gone.*missing.*CO-RE/);
  });
});

test('a bad relocation names function, instruction and line', () => {
  const bytes = openFixtureBytesWithBadCall();
  const error = errorOf(() => openObject(bytes));
  expect(error.code).toBe('OBJ_BAD_RELOCATION');
  expect(error.message).toMatch(
    /subprogs\.c:\d+: \w+, instruction \d+: call of instruction \d+ of section \.text, where no function starts/,
  );
});

/** subprogs with a call inside of .text moved by one instruction. */
function openFixtureBytesWithBadCall(): Uint8Array {
  const bytes = objectBytes('subprogs', '19');
  const { functions, relocations } = openObject(bytes).spec.programs.get('first')!;
  const caller = functions.find(({ name }) => name === 'global_middle')!;
  const call = relocations.find(({ insn, kind }) => kind === 'call' && insn > caller.insn)!;
  const text = parseElf(bytes).sections.find(({ name }) => name === '.text')!;
  const at = text.offset + caller.sectionOffset + (call.insn - caller.insn) * 8 + 4;
  const view = new DataView(bytes.buffer);
  view.setInt32(at, view.getInt32(at, true) + 1, true);
  return bytes;
}
