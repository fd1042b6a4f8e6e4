import { describe, expect, test } from 'vitest';
import { type BpfError, isa, openObject } from '../../src/bpf/index.ts';
import { EXIT, elf, PROGBITS, programs, STRTAB, SYMTAB, symbolTable } from './support-elf-objects.ts';
import { calledFunction, fixtureBytes, fixtureNames, openFixture, VARIANTS } from './support-objects.ts';

function codeOf(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    return (error as BpfError).code;
  }
  return 'no error';
}

describe.each(VARIANTS)('objects of clang-%s', (variant) => {
  test('maps declared by types', () => {
    const { spec } = openFixture('maps', variant);
    expect(spec.license).toBe('GPL');
    expect(spec.kernVersion).toBe(0x060c00);
    expect(spec.notes).toEqual([]);
    const map = (name: string) => {
      const { type, keySize, valueSize, maxEntries, flags } = spec.maps.get(name)!;
      return [type, keySize, valueSize, maxEntries, flags];
    };
    expect(map('counts')).toEqual(['hash', 16, 16, 1024, 0]);
    expect(map('slots')).toEqual(['array', 4, 8, 4, 0]);
    expect(map('flagged')).toEqual(['hash', 8, 4, 16, 5]);
    expect(spec.maps.get('flagged')!.numaNode).toBe(0);
    expect(spec.maps.get('counts')!.numaNode).toBeUndefined();
    expect(spec.maps.get('counts')!.pinning).toBe('none');
    expect(map('bloom')).toEqual(['bloom_filter', 0, 8, 100, 0]);
    expect(spec.maps.get('bloom')!.mapExtra).toBe(3n);
    expect(map('ring')).toEqual(['ringbuf', 0, 0, 8192, 0]);
    expect(map('scratch')).toEqual(['percpu_array', 4, 24, 1, 0]);
    expect(map('other')).toEqual(['percpu_array', 4, 24, 1, 0]);
    expect(map('events')).toEqual(['perf_event_array', 4, 4, 0, 0]);
    const { btf } = spec;
    expect(btf!.label(spec.maps.get('counts')!.keyTypeId!)).toMatch(/STRUCT key$/);
    expect(btf!.label(spec.maps.get('counts')!.valueTypeId!)).toMatch(/STRUCT value$/);
    expect(spec.maps.get('slots')!.keyTypeId).toBe(0);

    const names = [...spec.maps.keys()];
    const program = spec.programs.get('count_all')!;
    const used = program.relocations.flatMap((one) => (one.kind === 'map' ? [one] : []));
    expect(new Set(used.map((one) => one.map))).toEqual(new Set(['counts', 'slots', 'scratch', 'other']));
    for (const one of used) {
      expect(program.insns[one.insn]).toMatchObject({
        code: isa.BPF_LD_IMM64,
        src: isa.BPF_PSEUDO_MAP_IDX,
        imm: names.indexOf(one.map),
      });
      expect(program.insns[one.insn + 1]!.imm).toBe(0);
    }
  });

  test('a 64-bit map_extra, and pinning', () => {
    const { maps } = openFixture('newer', variant).spec;
    expect(maps.get('bloom')!.mapExtra).toBe(5n);
    expect(maps.get('pinned')).toMatchObject({ type: 'hash', pinning: 'by_name' });
  });

  test('maps of maps and of programs, with initial values', () => {
    const { maps } = openFixture('map-in-map', variant).spec;
    const outer = maps.get('outer')!;
    expect(outer).toMatchObject({ type: 'array_of_maps', keySize: 4, valueSize: 4, maxEntries: 4 });
    expect([...outer.slots]).toEqual([
      [0, 'first'],
      [2, 'second'],
    ]);
    expect(outer.innerMap).toMatchObject({
      name: 'outer.inner',
      type: 'array',
      keySize: 4,
      valueSize: 4,
      maxEntries: 2,
    });
    const byHash = maps.get('by_hash')!;
    expect(byHash.innerMap).toMatchObject({ type: 'hash', keySize: 8, valueSize: 1, maxEntries: 16 });
    expect(byHash.slots.size).toBe(0);
    expect([...maps.get('jumps')!.slots].sort()).toEqual([
      [1, 'tail_two'],
      [2, 'tail_one'],
    ]);
    expect(maps.get('jumps')!.innerMap).toBeUndefined();
  });

  test('maps of before BTF', () => {
    const { maps, btf } = openFixture('legacy-maps', variant).spec;
    const { type, keySize, valueSize, maxEntries, flags } = maps.get('seen')!;
    expect([type, keySize, valueSize, maxEntries, flags]).toEqual(['hash', 8, 4, 64, 1]);
    expect(maps.get('totals')).toMatchObject({ type: 'array', maxEntries: 10, flags: 0, section: 'maps' });
    expect(btf!.name(maps.get('seen')!.keyTypeId!)).toBe('unsigned long long');
    expect(maps.get('totals')!.keyTypeId).toBe(0);
  });

  test('functions are linked behind the program in the order of their first use', () => {
    const { spec } = openFixture('subprogs', variant);
    const { programs } = spec;
    const names = (name: string) => programs.get(name)!.functions.map((func) => func.name);
    const first = ['first', 'static_middle', 'global_middle', 'deepest', 'overridable', 'concealed'];
    expect(names('first')).toEqual(first);
    const second = ['second', 'add_index', 'add_twice', 'global_middle', 'deepest', 'concealed'];
    expect(names('second')).toEqual(second);
    let calls = 0;
    for (const program of programs.values()) {
      expect(program.insns).toHaveLength(program.functions.reduce((sum, { length }) => sum + length, 0));
      for (const one of program.relocations) {
        if (one.kind !== 'call' && one.kind !== 'func') continue;
        expect(calledFunction(program, one.insn)).toBe(one.func);
        const src = one.kind === 'call' ? isa.BPF_PSEUDO_CALL : isa.BPF_PSEUDO_FUNC;
        expect(program.insns[one.insn]!.src).toBe(src);
        calls++;
      }
    }
    expect(calls).toBe(6 + 5);
    const { functions } = programs.get('first')!;
    // Hidden functions are verified with their callers, like static ones.
    expect(functions.filter((one) => one.global).map((one) => one.name)).toEqual([
      'first',
      'global_middle',
      'overridable',
    ]);
    const linkage = (name: string) => {
      const type = spec.btf!.type(spec.btf!.byName(name, 'FUNC')!);
      return type.kind === 'FUNC' ? type.linkage : undefined;
    };
    expect([linkage('overridable'), linkage('concealed'), linkage('deepest')]).toEqual([
      'global',
      'static',
      'static',
    ]);
  });

  test('functions outside of .text: static ones, and programs that are called', () => {
    const { programs } = openFixture('newer', variant).spec;
    expect([...programs.keys()]).toEqual(['callee', 'caller', 'may_throw']);
    const caller = programs.get('caller')!;
    expect(caller.functions.map((one) => one.name)).toEqual(['caller', 'local_helper', 'callee']);
    const throwing = programs.get('may_throw')!;
    expect(throwing.functions.map((one) => one.name)).toEqual(['may_throw', 'on_exception']);
    expect(throwing.relocations).toEqual([]);
  });

  test('line and function records move with the code', () => {
    const { spec } = openFixture('subprogs', variant);
    for (const program of spec.programs.values()) {
      for (const { insn, typeId, name } of program.functions) {
        expect(spec.btf!.name(typeId)).toBe(name);
        expect(program.lineInfo.some((line) => line.insn === insn)).toBe(true);
      }
      const order = program.lineInfo.map(({ insn }) => insn);
      expect(order).toEqual([...order].sort((a, b) => a - b));
    }
    const first = spec.programs.get('first')!;
    const deepest = first.functions.find(({ name }) => name === 'deepest')!;
    const line = first.lineInfo.find(({ insn }) => insn === deepest.insn)!;
    expect(line.file).toMatch(/subprogs\.c$/);
    expect(line.source).toContain('int deepest(int n)');
  });

  test('CO-RE relocations count from the linked program', () => {
    const program = openFixture('core', variant).spec.programs.get('read_file')!;
    const offsets = program.functions[1]!;
    expect(program.coreRelos.map(({ accessString, kind }) => [accessString, kind])).toEqual([
      ['0:0', 2],
      ['0:1', 0],
    ]);
    expect(program.coreRelos[0]!.insn).toBeLessThan(offsets.insn);
    expect(program.coreRelos[1]!.insn).toBeGreaterThanOrEqual(offsets.insn);
  });

  test('sections of variables are maps', () => {
    const { spec } = openFixture('globals', variant);
    const flags = Object.fromEntries([...spec.maps].map(([name, map]) => [name, [map.flags, map.frozen]]));
    expect(flags).toEqual({
      '.rodata': [0x480, true],
      '.data': [0x400, false],
      '.data.custom': [0x400, false],
      '.rodata.fixed': [0x480, true],
      '.bss': [0x400, false],
      '.bss.empty': [0x400, false],
    });
    for (const [name, map] of spec.maps) {
      expect(map).toMatchObject({ type: 'array', keySize: 4, maxEntries: 1, section: name });
      expect(spec.btf!.label(map.valueTypeId!)).toMatch(new RegExp(`DATASEC \\${name}$`));
      expect(spec.btf!.word(map.valueTypeId!, 2)).toBe(map.valueSize);
    }
    expect(spec.maps.get('.rodata')!.kernelName).toBe('globals.rodata');
    expect(spec.maps.get('.data.custom')!.kernelName).toBe('.data.custom');
    const program = spec.programs.get('use')!;
    const names = [...spec.maps.keys()];
    const variables = new Map([...openFixture('globals', variant).globals].map((one) => [one.name, one]));
    const hits = variables.get('hits')!;
    const use = program.relocations.find(
      (one) => one.kind === 'data' && one.map === '.bss' && one.offset === hits.offset,
    )!;
    expect(program.insns[use.insn]).toMatchObject({
      src: isa.BPF_PSEUDO_MAP_IDX_VALUE,
      imm: names.indexOf('.bss'),
    });
    expect(program.insns[use.insn + 1]!.imm).toBe(hits.offset);
  });

  test('a section without a visible variable cannot be mapped into memory', () => {
    // Constants that the compiler made.
    const { maps } = openFixture('maps', variant).spec;
    const constants = [...maps.values()].filter(({ origin }) => origin === 'rodata');
    expect(constants.length).toBeGreaterThan(0);
    for (const { flags } of constants) expect(flags).toBe(0x80);
  });

  test('kconfig externs are laid out by alignment, size and name', () => {
    const { externs, maps } = openFixture('kconfig', variant).spec;
    const layout = externs.map((ext) =>
      ext.kind === 'kconfig' ? [ext.name, ext.type, ext.size, ext.offset, ext.weak] : ext.name,
    );
    expect(layout).toEqual([
      ['CONFIG_OFFSET', 'int', 8, 0, true],
      ['CONFIG_HZ', 'int', 4, 8, false],
      ['CONFIG_XFS_FS', 'tristate', 4, 12, true],
      ['LINUX_KERNEL_VERSION', 'int', 4, 16, false],
      ['CONFIG_MISSING', 'int', 2, 20, true],
      ['CONFIG_BPF_SYSCALL', 'char', 1, 22, true],
      ['CONFIG_SMP', 'bool', 1, 23, false],
      ['LINUX_HAS_BPF_COOKIE', 'bool', 1, 24, true],
      ['CONFIG_CC_VERSION_TEXT', 'char_array', 20, 25, true],
    ]);
    expect(maps.get('.kconfig')).toMatchObject({ valueSize: 45, flags: 0x480, frozen: true });
  });

  test('kernel symbols and functions', () => {
    const { externs, programs } = openFixture('ksyms', variant).spec;
    expect(
      externs.map((ext) => [
        ext.name,
        ext.weak,
        ext.kind === 'ksym' && ext.func,
        ext.kind === 'ksym' && ext.typeId > 0,
      ]),
    ).toEqual([
      ['bpf_no_such_function', true, true, true],
      ['bpf_task_from_pid', false, true, true],
      ['bpf_task_release', false, true, true],
      ['no_such_symbol', true, false, false],
      ['no_such_variable', true, false, true],
      ['schedule', false, false, false],
    ]);
    const program = programs.get('look')!;
    for (const one of program.relocations) {
      if (one.kind !== 'kfunc' && one.kind !== 'ksym') continue;
      expect(externs[program.insns[one.insn]!.imm]!.name).toBe(one.extern);
    }
    expect(program.relocations.filter(({ kind }) => kind === 'kfunc')).toHaveLength(3);
  });

  test('section names become types, attach types and targets', () => {
    const { programs } = openFixture('sections', variant).spec;
    const rows = [...programs.values()].map((one) => [
      one.name,
      one.type,
      one.attachType,
      one.attachTo,
      `${one.sleepable ? 's' : ''}${one.xdpFrags ? 'f' : ''}${one.attachBtf ? 'b' : ''}${one.autoload ? '' : '?'}`,
    ]);
    expect(rows).toEqual([
      ['on_kprobe', 'kprobe', undefined, 'vfs_read+0x10', ''],
      ['on_kprobe_bare', 'kprobe', undefined, undefined, ''],
      ['on_uprobe', 'kprobe', undefined, '/proc/self/exe:main', 's'],
      ['on_multi', 'kprobe', 'trace_kprobe_multi', 'vfs_*', ''],
      ['on_usdt', 'kprobe', undefined, 'libc.so.6:libc:setjmp', ''],
      ['on_tp', 'tracepoint', undefined, 'sched/sched_switch', ''],
      ['on_raw_tp_w', 'raw_tracepoint_writable', undefined, 'nbd_send_request', ''],
      ['on_fentry', 'tracing', 'trace_fentry', 'bpf_fentry_test1', 'sb?'],
      ['on_iter', 'tracing', 'trace_iter', 'task', 'b'],
      ['on_lsm', 'lsm', 'lsm_mac', 'file_open', 'sb'],
      ['on_xdp', 'xdp', 'xdp', undefined, ''],
      ['on_xdp_frags', 'xdp', 'xdp_devmap', undefined, 'f'],
      ['on_tcx', 'sched_cls', 'tcx_egress', undefined, ''],
      ['on_connect', 'cgroup_sock_addr', 'cgroup_unix_connect', undefined, ''],
      ['on_skb', 'cgroup_skb', 'cgroup_inet_ingress', undefined, ''],
      ['on_parser', 'sk_skb', 'sk_skb_stream_parser', undefined, ''],
      ['on_reuse', 'sk_reuseport', 'sk_reuseport_select_or_migrate', undefined, ''],
      ['on_syscall', 'syscall', undefined, undefined, 's'],
      ['on_perf', 'perf_event', undefined, undefined, ''],
      ['on_netfilter', 'netfilter', 'netfilter', undefined, ''],
      ['on_replace', 'ext', undefined, 'handler', 'b'],
      ['on_nothing', undefined, undefined, undefined, ''],
    ]);
    expect(programs.get('on_fentry')!.section).toBe('fentry.s/bpf_fentry_test1');
  });

  test('special fields of values', () => {
    const { maps, btf } = openFixture('special', variant).spec;
    const fields = (name: string) =>
      maps
        .get(name)!
        .record?.fields.map(({ kind, offset, size, typeName }) => [kind, offset, size, typeName]);
    const pointers = [
      ['kptr_ref', 40, 8, 'task_struct'],
      ['kptr_unref', 48, 8, 'task_struct'],
      ['kptr_ref', 56, 8, 'item'],
    ];
    expect(fields('values')).toEqual([
      ['spin_lock', 8, 4, undefined],
      ['timer', 24, 16, undefined],
      // clang-14 loses the tags of pointers to whole structs.
      ...(variant === '14' ? [] : pointers),
    ]);
    expect(fields('plain_values')).toBeUndefined();
    // A pointer to a struct of which only the name is known: the kernel takes the map without its types.
    expect(fields('bad_values')).toBeUndefined();
    expect(fields('.data.private')).toEqual([
      ['spin_lock', 0, 4, undefined],
      ['list_head', 8, 16, 'item'],
      ['rb_root', 24, 16, 'item'],
      ['rb_root', 40, 16, 'item'],
    ]);
    const item = btf!.byName('item', 'STRUCT')!;
    const roots = maps.get('.data.private')!.record!.fields;
    expect(roots.slice(1).map(({ typeId, nodeOffset }) => [typeId, nodeOffset])).toEqual([
      [item, 8],
      [item, 32],
      [item, 32],
    ]);
    expect(maps.get('.data.private')!.flags).toBe(0);
    if (variant === '14') return;
    const own = maps.get('values')!.record!.fields[4]!;
    expect(own.record!.fields.map(({ kind, offset }) => [kind, offset])).toEqual([
      ['list_node', 8],
      ['rb_node', 32],
      ['refcount', 64],
    ]);
  });

  test('tables of functions', () => {
    const { spec } = openFixture('struct-ops', variant);
    const table = spec.maps.get('plain')!;
    expect(table).toMatchObject({ type: 'struct_ops', valueSize: 32, origin: 'struct_ops' });
    expect([...table.slots]).toEqual([
      [0, 'plain_init'],
      [1, 'plain_undo'],
    ]);
    expect(spec.programs.get('plain_undo')!.type).toBe('struct_ops');
  });
});

test('both compilers make the same of one source', () => {
  for (const name of ['maps', 'map-in-map', 'globals', 'subprogs', 'kconfig', 'sections']) {
    const [old, recent] = VARIANTS.map((variant) => openFixture(name, variant));
    // Constants of the compiler's own, and the order of a prog_array's neighbours, differ.
    const shape = (object: typeof old) =>
      [...object!.spec.maps.values()]
        .filter(({ section }) => !section.startsWith('.rodata.'))
        .map(({ name: map, type, keySize, valueSize, maxEntries, flags }) =>
          [map, type, keySize, valueSize, maxEntries, flags].join(' '),
        )
        .sort();
    expect(shape(recent)).toEqual(shape(old));
    const values = (object: typeof old) =>
      Object.fromEntries(
        [...object!.globals]
          // clang-14 does not say whether an enum is signed.
          .filter((one) => one.name !== 'level')
          .map((one) => [one.name, object!.globals.get(one.name)]),
      );
    expect(values(recent)).toEqual(values(old));
  }
});

test('opening leaves the bytes of the file alone', () => {
  for (const file of fixtureNames()) {
    const bytes = fixtureBytes(file);
    const before = bytes.slice();
    const object = openObject(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length), file);
    const variable = [...object.globals].find((one) => one.size === 4 && one.typeId !== 0);
    if (variable?.name === 'counter') object.globals.set('counter', 7);
    expect(Buffer.compare(bytes, before)).toBe(0);
  }
});

describe('objects without types', () => {
  test('variables are bytes, by their symbols', () => {
    const { spec, globals } = openFixture('globals', '19plain');
    expect(spec.btf).toBeUndefined();
    expect(globals.get('counter')).toEqual(new Uint8Array([42, 0, 0, 0]));
    expect(globals.variable('misses')).toMatchObject({ map: '.bss', size: 4, isStatic: true, typeId: 0 });
    globals.set('counter', new Uint8Array([1, 2, 3, 4]));
    expect(globals.bytes('counter')).toEqual(new Uint8Array([1, 2, 3, 4]));
    expect(() => globals.set('counter', 5)).toThrow('counter: 4 bytes are needed, its type is not known');
    expect(spec.maps.get('.data')!.flags).toBe(0);
    const { programs, globals: live } = openFixture('globals', '19plain').load();
    expect(programs.get('use')!.testRun({ dataIn: new Uint8Array(64) }).retval).toBe(338);
    expect(live.get('misses')).toEqual(new Uint8Array([2, 0, 0, 0]));
  });

  test('maps of before BTF, whose struct has any size', () => {
    const { spec } = openFixture('legacy-maps', '19plain');
    expect([...spec.maps.values()].slice(0, 2).map(({ name, type }) => [name, type])).toEqual([
      ['totals', 'array'],
      ['seen', 'hash'],
    ]);
    const GLOBAL_OBJECT = 0x11;
    const object = (size: number, ...words: number[]) => {
      const data = new Uint8Array(2 * size);
      const view = new DataView(data.buffer);
      for (const base of [0, size])
        for (const [i, word] of words.entries()) view.setUint32(base + 4 * i, word, true);
      return elf([
        { name: 'maps', type: PROGBITS, flags: 3, data },
        {
          name: '.symtab',
          type: SYMTAB,
          data: symbolTable([
            { name: 0, info: 0, section: 0 },
            { name: 3, info: GLOBAL_OBJECT, section: 1, value: size, size },
            { name: 1, info: GLOBAL_OBJECT, section: 1, value: 0, size },
          ]),
          link: 3,
          entsize: 24,
        },
        { name: '.strtab', type: STRTAB, data: new TextEncoder().encode('\0a\0b\0') },
      ]);
    };
    for (const size of [16, 20, 28, 36]) {
      const { maps } = openObject(object(size, 2, 4, 8, 10, ...(size > 16 ? [3] : []))).spec;
      expect([...maps.keys()]).toEqual(['a', 'b']);
      expect(maps.get('b')).toMatchObject({
        type: 'array',
        keySize: 4,
        valueSize: 8,
        maxEntries: 10,
        offset: size,
      });
      expect(maps.get('b')!.flags).toBe(size > 16 ? 3 : 0);
    }
    expect(() => openObject(object(24, 2, 4, 8, 10, 0, 1))).toThrow('map a uses a field that is not known');
    expect(() => openObject(object(12, 2, 4, 8))).toThrow('24 bytes are not 2 map definitions');
    expect(() => openObject(object(16, 99, 4, 8, 1))).toThrow('unknown map type 99');
  });

  test('maps that are declared by types need them', () => {
    const bytes = programs(new Uint8Array(EXIT), [], new Uint8Array(1), '.maps');
    expect(codeOf(() => openObject(bytes))).toBe('OBJ_NO_BTF');
  });
});

test('an opened object does not depend on the bytes it came from', () => {
  const bytes = fixtureBytes('globals-19.o');
  const shared = new Uint8Array(new SharedArrayBuffer(bytes.length));
  shared.set(bytes);
  const object = openObject(shared, 'globals');
  const before = [...object.globals].map(({ name }) => object.globals.get(name));
  shared.fill(0xff);
  expect([...object.globals].map(({ name }) => object.globals.get(name))).toEqual(before);
  expect(object.spec.programs.get('use')!.lineInfo[0]!.source).toContain('int use(void *ctx)');
});

test('files that are no BPF objects are refused by name', () => {
  const good = fixtureBytes('maps-19.o');
  const changed = (at: number, ...values: number[]) => {
    const copy = good.slice();
    copy.set(values, at);
    return copy;
  };
  expect(codeOf(() => openObject(new Uint8Array()))).toBe('ELF_NOT_ELF');
  expect(codeOf(() => openObject(new TextEncoder().encode('int main() {}')))).toBe('ELF_NOT_ELF');
  expect(codeOf(() => openObject(good.slice(0, 20)))).toBe('ELF_TRUNCATED');
  expect(codeOf(() => openObject(changed(4, 1)))).toBe('ELF_CLASS');
  expect(codeOf(() => openObject(changed(5, 2)))).toBe('ELF_BIG_ENDIAN');
  expect(codeOf(() => openObject(changed(16, 2)))).toBe('ELF_TYPE');
  expect(codeOf(() => openObject(changed(18, 62)))).toBe('ELF_MACHINE');
  expect(() => openObject(changed(18, 62))).toThrow('object is for machine 62, not for BPF (247)');
  expect(codeOf(() => openObject(changed(58, 32)))).toBe('ELF_BAD_ENTSIZE');
});
